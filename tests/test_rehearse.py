"""What a rehearsal sets, leaves out, and makes of what it hears: everything but running it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Axr

from launcher import recipe as recipes
from launcher import source
from launcher.cli.rehearse_panel import verdict
from launcher.dataset.sample import Sample
from launcher.diagnostics import LauncherError
from launcher.recipe import Recipe
from launcher.rehearse import events, judge, remarks, unrehearsed
from launcher.rehearse import rehearsal as rehearsing
from launcher.rehearse.blame import Failure, blame
from launcher.rehearse.entries import repeats
from launcher.rehearse.follow import environment, judge_end
from launcher.rehearse.gather import gather
from launcher.rehearse.outcome import failure, stages
from launcher.rehearse.overrides import (
    Length,
    Standing,
    applied,
    changes,
    evaluates,
    names_layers,
    saves,
)
from launcher.standin.model import CannotShrink, shrunk

Settings = dict[str, Any]


def recipe(text: str) -> Recipe:
    return recipes.from_document(source.parse(text, "r.yaml"))


def rehearsed(settings: Settings, *, vocabulary: int = 4096, ranks: int = 1) -> Settings:
    """Return the settings that a rehearsal trains with."""
    rows = {
        (key, index): (Path(f"/x/{key}-{index}.jsonl"), 64)
        for key in ("datasets", "test_datasets")
        for index in range(len(settings.get(key) or []))
    }
    standing = Standing(Path("/x/small"), rows, Path("/x"), vocabulary)
    return applied(settings, changes(settings, standing, Length(ranks=ranks)))


def test_a_recipe_keeps_all_but_what_is_told() -> None:
    given: Settings = {
        "base_model": "org/model",
        "rl": "dpo",
        "rl_beta": 0.1,
        "learning_rate": 5e-6,
        "lr_scheduler": "cosine",
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 8,
        "sequence_len": 1024,
        "datasets": [{"path": "org/rows", "split": "train", "type": "chat_template.default"}],
    }
    found = rehearsed(given)
    kept = ("rl", "rl_beta", "learning_rate", "lr_scheduler", "micro_batch_size", "sequence_len")
    assert {key: found[key] for key in kept} == {key: given[key] for key in kept}
    assert found["gradient_accumulation_steps"] == 2
    assert (found["base_model"], found["output_dir"]) == ("/x/small", "/x/model")
    assert found["datasets"] == [
        {"path": "/x/datasets-0.jsonl", "split": "train", "type": "chat_template.default"}
    ]
    assert (found["max_steps"], found["save_steps"], "eval_steps" in found) == (3, 2, False)
    assert given["datasets"][0]["path"] == "org/rows"  # the recipe's own is not touched


@pytest.mark.parametrize(
    "key",
    [
        "hub_model_id",
        "wandb_project",
        "comet_api_key",
        "mlflow_tracking_uri",
        "use_wandb",
        "resume_from_checkpoint",
        "deepspeed",
        "fsdp_config",
        "lora_model_dir",
        "fp8",
    ],
)
def test_what_leads_elsewhere_or_needs_a_gpu_is_out(key: str) -> None:
    assert key not in rehearsed({"base_model": "m", key: "x"})


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", "train"),
        ("train[:85%]", "train[:85%]"),
        ("train[95%:]", "train[95%:]"),
        ("train[:10000]", "train[:10000]"),  # the library takes what is there
        ("test", "train"),  # a file has but one
        ("test_sft[:50%]", "train[:50%]"),
        ("train[5000:6000]", "train"),  # beyond the rows that are here
        ("train[99%:]", "train"),  # a single row
        ("train[:1%]", "train"),
        ("train[-1000:]", "train[-1000:]"),
        ("train+test", "train"),
    ],
)
def test_a_split_stays_legal(split: str, expected: str) -> None:
    entry = {"path": "org/rows", "split": split, "type": "alpaca"}
    found = rehearsed({"base_model": "m", "datasets": [entry]})
    assert found["datasets"][0]["split"] == expected


def test_a_file_needs_nothing_that_names_a_repository() -> None:
    entry = {
        "path": "org/rows",
        "name": "en",
        "revision": "v1",
        "data_files": ["a.parquet"],
        "ds_type": "parquet",
        "shards": 10,
        "type": "alpaca",
        "field_messages": "turns",
    }
    found = rehearsed({"base_model": "m", "datasets": [entry]})["datasets"][0]
    assert found == {"path": "/x/datasets-0.jsonl", "type": "alpaca", "field_messages": "turns"}


@pytest.mark.parametrize(
    ("settings", "evaluating", "saving"),
    [
        ({"val_set_size": 0.1, "evals_per_epoch": 2}, True, True),
        ({"test_datasets": [{}], "eval_steps": 0.2, "save_strategy": "epoch"}, True, True),
        ({"val_set_size": 0.1}, False, True),  # axolotl never evaluates
        ({"evals_per_epoch": 2, "save_strategy": "no"}, False, False),
    ],
)
def test_what_a_recipe_does_on_its_way(settings: Settings, evaluating: bool, saving: bool) -> None:
    assert (evaluates(settings), saves(settings)) == (evaluating, saving)
    found = rehearsed({"base_model": "m", **settings})
    assert (found.get("eval_steps") == 2, found.get("save_steps") == 2) == (evaluating, saving)
    assert "evals_per_epoch" not in found or not evaluating


def test_a_large_vocabulary_narrows_the_batch_and_says_so() -> None:
    settings: Settings = {"base_model": "m", "micro_batch_size": 8, "sequence_len": 2048}
    assert rehearsed(settings)["micro_batch_size"] == 8
    standing = Standing(Path("/x/small"), {}, Path("/x"), 128_256)
    made = {one.key: one for one in changes(settings, standing, Length())}
    assert made["micro_batch_size"].after == 1
    assert "7.8 GiB" in made["micro_batch_size"].reason
    assert "sequence_len" not in made
    longer = {**settings, "sequence_len": 8192}
    made = {one.key: one for one in changes(longer, standing, Length())}
    assert made["sequence_len"].after == 2048


def test_layers_that_are_named_are_all_kept() -> None:
    assert names_layers({"unfrozen_parameters": ["^model.layers.31.mlp"]})
    assert names_layers({"peft_layers_to_transform": [0, 1]})
    assert not names_layers({"lora_target_modules": ["q_proj", "v_proj"]})


def test_rows_are_repeated_until_packing_fills_a_batch() -> None:
    packed = {"sample_packing": True, "sequence_len": 1024, "micro_batch_size": 2}
    rows = [{}]
    assert repeats({"datasets": rows}, "datasets", 1000) == 1
    assert repeats({**packed, "datasets": rows}, "datasets", 10_240) == 2
    assert repeats({**packed, "datasets": rows, "val_set_size": 0.1}, "datasets", 10_240) == 20
    assert repeats({**packed, "datasets": rows}, "datasets", 10) == 50
    assert repeats({**packed, "datasets": rows}, "datasets", 0) == 1


LLAMA: Settings = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
    "rope_scaling": {"factor": 8.0, "rope_type": "llama3"},
    "dtype": "bfloat16",
}


def small(vocabulary: int = 4096, *, all_layers: bool = False, **changed: Any) -> Settings:
    config = {**LLAMA, **changed}
    return shrunk(config, config, vocabulary=vocabulary, all_layers=all_layers)


def test_a_model_is_shrunk_in_its_own_proportions() -> None:
    found = small()
    assert found["num_attention_heads"] // found["num_key_value_heads"] == 4
    assert found["num_key_value_heads"] == 2
    assert found["hidden_size"] % found["num_attention_heads"] == 0
    assert (found["num_hidden_layers"], found["vocab_size"]) == (2, 4096)
    assert found["max_position_embeddings"] == 131_072
    assert found["rope_scaling"] == LLAMA["rope_scaling"]
    assert "dtype" not in found


@pytest.mark.parametrize("vocabulary", [32_000, 128_256, 262_144])
@pytest.mark.parametrize("groups", [1, 4, 7, 8])
def test_the_real_vocabulary_takes_a_few_million_weights(vocabulary: int, groups: int) -> None:
    found = small(vocabulary, num_attention_heads=8 * groups, num_key_value_heads=8)
    assert found["hidden_size"] * vocabulary * 2 <= max(10_000_000, 2 * 8 * groups * vocabulary)
    assert found["num_attention_heads"] == groups * found["num_key_value_heads"]


def test_every_type_of_layer_is_kept() -> None:
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    found = small(layer_types=kinds * 5, num_hidden_layers=30)
    assert (found["num_hidden_layers"], found["layer_types"]) == (6, kinds)
    assert small(all_layers=True)["num_hidden_layers"] == 32


def test_factors_of_a_long_rotation_fit_the_heads() -> None:
    scaling = {"type": "longrope", "short_factor": [1.0] * 64, "long_factor": [2.0] * 64}
    found = small(rope_scaling=scaling)
    half = found["hidden_size"] // found["num_attention_heads"] // 2
    assert [len(found["rope_scaling"][key]) for key in ("short_factor", "long_factor")] == [
        half
    ] * 2


def test_experts_become_few() -> None:
    found = small(num_local_experts=128, num_experts_per_tok=8)
    assert (found["num_local_experts"], found["num_experts_per_tok"]) == (4, 2)


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"vision_config": {}}, "images"), ({"num_attention_heads": 30}, "do not divide")],
)
def test_what_has_no_stand_in_is_refused(config: Settings, reason: str) -> None:
    with pytest.raises(CannotShrink, match=reason):
        small(**config)


def test_warnings_are_told_once_and_ours_with_the_reason() -> None:
    heard = [
        {"warning": "axolotl says", "level": "WARNING", "logger": "axolotl.x"},
        {"warning": "axolotl says", "level": "WARNING", "logger": "axolotl.x"},
        {"stage": "train", "state": "begin"},
        {
            "warning": "/a/b.py:12: UserWarning: 'pin_memory' argument is set as true but no"
            " accelerator is found\n  super()",
            "level": "WARNING",
            "logger": "py.warnings",
        },
        {"warning": "x" * 1000, "level": "ERROR", "logger": "y"},
    ]
    found = remarks.collect(heard)
    assert [(one.logger, one.count, bool(one.ours)) for one in found] == [
        ("axolotl.x", 2, False),
        ("UserWarning", 1, True),
        ("y", 1, False),
    ]
    assert found[1].text.startswith("'pin_memory'")
    assert len(found[2].text) == remarks.LONGEST


def test_events_that_are_half_written_wait(tmp_path: Path) -> None:
    file = tmp_path / "events"
    assert events.read(file, 0) == ([], 0)
    file.write_bytes(b'{"a": 1}\nnot json\n[1]\n{"b"')
    found, offset = events.read(file, 0)
    assert found == [{"a": 1}]
    file.write_bytes(file.read_bytes() + b": 2}\n")
    assert events.read(file, offset) == ([{"b": 2}], len(file.read_bytes()))


def stage(name: str, state: str, time: float, **facts: Any) -> Settings:
    return {"stage": name, "state": state, "time": time, **facts}


RAN = [
    stage("prepare", "begin", 0.0),
    stage("prepare", "end", 1.0, weights=1234),
    stage("config", "begin", 1.0),
    stage("config", "end", 1.5),
    stage("tokenise", "begin", 1.5),
    stage("tokenise", "end", 2.0),
    stage("load", "begin", 2.0),
    stage("load", "end", 3.0, trainable=10, train_rows=60, eval_rows=4),
    stage("train", "begin", 3.0),
]
OVER = {"state": "over", "code": 1}


def broke(*frames: str, kind: str = "ValueError", words: str = "x") -> Settings:
    return {"state": "failed", "stage": "", "kind": kind, "words": words, "frames": frames}


@pytest.mark.parametrize(
    ("frames", "where"),
    [
        (("train", "training_step"), "train"),
        (("train", "evaluate", "prediction_step"), "evaluate"),
        (("train", "_save_checkpoint", "save_model"), "save"),
    ],
)
def test_a_failure_is_put_where_it_happened(frames: tuple[str, ...], where: str) -> None:
    told = [*RAN, broke(*frames), {**OVER, "time": 9.0}]
    states = {one.name: one.state for one in stages(told, [], [], {"merge": "no adapter"})}
    assert states[where] == "failed"
    assert (states["load"], states["merge"]) == ("done", "left out")
    assert (states["resume"], states["generate"]) == ("not reached", "not reached")


def test_evaluating_and_saving_are_no_part_of_the_training() -> None:
    told = [
        *RAN,
        stage("train", "end", 10.0, inner=4.0, steps=3),
        stage("evaluate", "end", 10.0, seconds=3.0, times=2),
        stage("save", "begin", 10.0, seconds=1.0),
        stage("save", "end", 12.0),
    ]
    metrics = [
        {"step": 1, "loss": 2.0, "grad_norm": 1.5},
        {"step": 2, "eval_loss": 1.9},
        {"step": 3, "loss": 1.0, "grad_norm": 1.0},
    ]
    found = {one.name: one for one in stages(told, metrics, [{"step": 3, "loss": 1.0}], {})}
    seconds = [found[name].seconds for name in ("train", "evaluate", "save")]
    assert seconds == pytest.approx([3.0, 3.0, 3.0])
    assert found["tokenise"].note == "60 rows to train on, 4 to evaluate on"
    assert found["train"].note == "3 steps, loss 2.000 to 1.000, gradient norm 1.5"
    assert found["evaluate"].note == "2 times, loss 1.900"


def problems(text: str, told: list[Settings], first: Any = (), again: Any = ()) -> list[str]:
    found = judge.problems(recipe(text), told, list(first), list(again), {}, [])
    return [f"{one.code} {one.span.line}: {one.message}" for one in found]


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ([{"step": 1, "loss": 0.6931, "grad_norm": 1.0, "rewards/margins": 0.0}], []),
        (
            [{"step": 1, "loss": 0.9, "grad_norm": 1.0, "rewards/margins": 0.0}],
            ["L222 1: the first loss is 0.9000; ln 2 = 0.6931 is expected"],
        ),
        (
            [{"step": 1, "loss": 0.6931, "grad_norm": 1.0, "rewards/margins": 0.2}],
            ["L222 1: the reward margin is 0.2 before anything is learnt; 0 is expected"],
        ),
        (
            [{"step": 1, "loss": 0.6931, "grad_norm": 0.0}] * 2,
            ["L221 2: the gradient is 0 in all of 2 steps"],
        ),
        (
            [{"step": 1, "loss": 0.6931}, {"step": 2, "loss": None, "nonfinite": ["loss"]}],
            ["L220 3: loss is no finite number at step 2"],
        ),
    ],
)
def test_numbers_are_judged(metrics: list[Settings], expected: list[str]) -> None:
    text = "rl: dpo\ndatasets: []\nlearning_rate: 1.0\n"
    assert problems(text, RAN, metrics) == expected


def test_a_resumed_run_is_held_against_the_first() -> None:
    before = [{"step": 3, "loss": 2.0, "tokens/trainable": 7}]
    assert problems("save_strategy: epoch\n", RAN, before, before) == []
    other = [{**before[0], "loss": 2.01}]
    fact = "L223 1: the resumed run has loss 2.0100 at step 3; without a break it is 2.0000"
    assert problems("save_strategy: epoch\n", RAN, before, other) == [fact]
    rows = [{**other[0], "tokens/trainable": 8}]
    fact = "L228 1: at step 3 the resumed run has seen other rows than the first"
    assert problems("sample_packing: true\n", RAN, before, rows) == [fact]


def test_what_ran_and_said_nothing_of_use_is_told() -> None:
    told = [
        *RAN,
        stage("evaluate", "end", 5.0, seconds=1.0, times=2),
        stage("reload", "end", 6.0, difference=0.5),
    ]
    text = "adapter: lora\nval_set_size: 0.1\nsample_packing: true\n"
    assert [line[:4] for line in problems(text, told)] == ["L227", "L224"]


def test_a_process_that_was_killed_is_no_fault_of_the_recipe() -> None:
    told = [*RAN, {"state": "over", "code": -9, "time": 9.0}]
    assert problems("base_model: m\n", told) == [
        "L202 1: its process was killed by signal 9 in the stage train"
    ]


RECIPE = """\
base_model: org/model
adapter: lora
lora_target_modules: [q_projx]
optimizer: sgdd
lr_scheduler: cosin
datasets:
  - path: rows.jsonl
    type: alpaca
    field_messages: turns
"""


@pytest.mark.parametrize(
    ("where", "kind", "words", "line", "hint"),
    [
        ("load", "ValueError", "Target modules ['q_projx'] not found in the base", 3, "q_proj, k"),
        ("load", "ValueError", "sgdd is not a valid OptimizerNames", 4, "optimizer: adamw_torch"),
        ("load", "ValueError", "'cosin' is not a valid SchedulerType", 5, "lr_scheduler: cosine"),
        ("tokenise", "KeyError", "'turns'", 9, "the rows have the columns a, b"),
        ("tokenise", "KeyError", "'output'", 8, "the rows have the columns a, b"),
        ("config", "ValidationError", "1 validation error\nlr_scheduler\n  wrong", 5, ""),
        ("merge", "OSError", "whatever", 2, ""),
        ("train", "ZeroDivisionError", "division by zero", 1, ""),
    ],
)
def test_a_librarys_words_lead_to_a_line(
    where: str, kind: str, words: str, line: int, hint: str
) -> None:
    columns, layers = {"datasets": ["a", "b"]}, ["q_proj", "k_proj"]
    found = blame(recipe(RECIPE), Failure(where, kind, words), columns, layers)
    assert found.span.line == line
    assert hint in found.hint


def test_the_innermost_cause_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "events"
    monkeypatch.setenv(events.FILE, str(file))
    try:
        try:
            raise KeyError("column")
        except KeyError as problem:
            raise RuntimeError("outer") from problem
    except RuntimeError as problem:
        events.failed(problem)
    told, _ = events.read(file, 0)
    found = failure(told)
    assert found
    assert (found.kind, found.words) == ("KeyError", "'column'")


def test_what_is_not_rehearsed_is_named() -> None:
    found = unrehearsed.left_out(recipes.load(recipes.find("qwen25-sft")), 1)
    text = ", ".join(found)
    for word in ("half precision", "flash attention", "adamw_torch_fused", "DeepSpeed", "NCCL"):
        assert word in text
    liger = recipe("bf16: false\nplugins: [axolotl.integrations.liger.LigerPlugin]\nuse_wandb: 1\n")
    assert unrehearsed.left_out(liger, 1) == ["LigerPlugin", "trackers"]


@pytest.mark.parametrize("text", ["rl: grpo\n", "processor_type: AutoProcessor\n"])
def test_what_cannot_be_rehearsed_is_refused(text: str) -> None:
    (told,) = unrehearsed.impossible(recipe(text))
    assert (told.code, told.span.line) == ("L201", 1)


def test_the_child_gets_no_secret_no_network_and_no_rank(tmp_path: Path) -> None:
    given = {
        "HF_TOKEN": "hf_" + "x" * 30,
        "WANDB_API_KEY": "k" * 20,
        "MINE": "hf_" + "y" * 30,
        "HTTPS_PROXY": "http://user:word@host:1",
        "WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "1",
        "PATH": "/bin",
        "HF_HOME": "/u",
    }
    found = environment(given, tmp_path, 1)
    assert given.keys() & found.keys() == {"PATH", "HF_HOME"}
    assert (found["HF_HUB_OFFLINE"], found["CUDA_VISIBLE_DEVICES"]) == ("1", "")
    assert found["HF_HOME"].startswith(str(tmp_path))
    assert found["PATH"] == "/bin"


@dataclass
class Hub:
    """A Hub on loopback: files by path, the status of all else, what was asked for."""

    files: dict[str, bytes]
    status: int = 404

    def __post_init__(self) -> None:
        self.asked: list[str] = []


@pytest.fixture
def hub() -> Iterator[tuple[Hub, dict[str, str]]]:
    known = Hub({})

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked.append(self.path)
            data = known.files.get(self.path)
            self.send_response(200 if data is not None else known.status)
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield known, {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "no_proxy": "127.0.0.1"}
    server.shutdown()
    server.server_close()


def environ(given: Mapping[str, str], folder: Path) -> dict[str, str]:
    return {**given, "HF_HOME": str(folder / "hf")}


def test_config_and_tokenizer_come_from_the_hub_and_no_weights(
    hub: tuple[Hub, dict[str, str]], tmp_path: Path
) -> None:
    known, given = hub
    base = "/org/model/resolve/v2"
    known.files = {
        f"{base}/config.json": json.dumps(LLAMA).encode(),
        f"{base}/tokenizer.json": b"{}",
        f"{base}/tokenizer_config.json": b"{}",
        f"{base}/model.safetensors": b"weights",
    }
    asked = recipe("base_model: org/model\nrevision_of_model: v2\n")
    found = gather(asked, environ(given, tmp_path), tmp_path / "source")
    assert (found.config["hidden_size"], found.tokenizer) == (4096, "org/model")
    names = {path.name for path in (tmp_path / "source").iterdir()}
    assert names == {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert not any("safetensors" in path for path in known.asked)


def test_a_gated_model_whose_shape_is_known_gets_a_stand_in_for_its_tokenizer(
    hub: tuple[Hub, dict[str, str]], tmp_path: Path
) -> None:
    known, given = hub
    known.status = 401
    asked = recipe("base_model: meta-llama/Llama-3.1-8B\n")
    found = gather(asked, environ(given, tmp_path), tmp_path / "source")
    assert (found.tokenizer, found.shape) == ("", "shipped table")
    assert "HTTP 401" in found.why
    assert found.config["num_attention_heads"] == 32


def test_a_model_that_nobody_knows_is_no_rehearsal(
    hub: tuple[Hub, dict[str, str]], tmp_path: Path
) -> None:
    _, given = hub
    with pytest.raises(LauncherError, match="HTTP 404") as raised:
        gather(recipe("base_model: org/none\n"), environ(given, tmp_path), tmp_path / "source")
    assert "base_model" in raised.value.hint


def test_a_config_that_is_none_is_named_as_the_recipe_has_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("[1]")
    asked = recipe(f"base_model: {tmp_path / 'model'}\n")
    with pytest.raises(LauncherError, match=f'config.json of "{tmp_path}/model" cannot be read'):
        gather(asked, {"HF_HUB_OFFLINE": "1"}, tmp_path / "source")


def test_a_folder_is_read_and_left_alone(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(LLAMA))
    (model / "tokenizer.json").write_text("{}")
    (model / "model.safetensors").write_text("weights")
    asked = recipe(f"base_model: {model}\n")
    found = gather(asked, {"HF_HUB_OFFLINE": "1"}, tmp_path / "source")
    assert found.tokenizer == str(model)
    assert not (tmp_path / "source" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("no-such",), 2, 'no recipe "no-such"'),
        (("smollm2-dpo", "--ranks", "3"), 2, "--ranks"),
        (("smollm2-dpo", "--steps", "1"), 2, "--steps"),
        (("smollm2-dpo", "learnig_rate=1"), 1, "S102"),
        (("smollm2-dpo", "datasets.0.path=nowhere.jsonl"), 1, "L201"),
        (("llama31-sft-lora", "plugins=[elsewhere.Plugin]"), 1, "--trust"),
    ],
)
def test_what_does_not_start_is_said_at_once(
    axr: Axr, args: tuple[str, ...], code: int, words: str
) -> None:
    done = axr("rehearse", *args, env={"HF_HUB_OFFLINE": "1"})
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_child_that_could_not_tell_its_end_is_no_success(tmp_path: Path) -> None:
    asked = recipes.load(recipes.find("smollm2-dpo"), ())
    given = rehearsing.rows(asked, {"HF_HUB_OFFLINE": "1"})
    ready = [one for one in given if isinstance(one, Sample)]
    plan = rehearsing.plan(asked, ready, {"HF_HUB_OFFLINE": "1"}, tmp_path, Length())
    plan.log.write_text("something\n")
    told = [*RAN]
    judge_end(plan, told, -9)
    found = rehearsing.report(plan, told, 1.0)
    assert [one.code for one in found.problems] == ["L202"]
    assert "cut off" in verdict(found)
    plan.log.write_text("OSError: [Errno 28] No space left on device: 'x'\n")
    with pytest.raises(LauncherError, match="is full"):
        judge_end(plan, told, 1)


def test_sigterm_while_the_hub_is_slow_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen(
            [sys.executable, "-m", "launcher", "rehearse", "smollm2-dpo"],
            env={
                **{name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"},
                "TMPDIR": str(tmp_path / "t"),
                "HF_HOME": str(tmp_path / "hub"),
                "HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            while process.poll() is None and not list((tmp_path / "t").iterdir()):
                time.sleep(0.05)
            process.terminate()
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGTERM, said
    assert list((tmp_path / "t").iterdir()) == []
