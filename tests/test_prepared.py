"""Tokenized data that runs share: never that of other rows or of another setting, and none is made
twice.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from loopback_hub import Token, hub
from tiny import make_sft_rows

from launcher import prepared
from launcher import recipe as recipes
from launcher.dataset.digest import MOST, digests
from launcher.facts.derive import readers, transfers
from launcher.prepared import Shared
from launcher.prepared.shaping import FREE
from launcher.schema.validator import schema

KEYS = frozenset(schema()["properties"]) - {"x-recipe"}
# Where axolotl makes rows of a config.
MAKING = (
    "axolotl.common.datasets",
    "axolotl.core.chat",
    "axolotl.core.datasets",
    "axolotl.datasets",
    "axolotl.loaders.processor",
    "axolotl.loaders.tokenizer",
    "axolotl.loaders.utils",
    "axolotl.processing_strategies",
    "axolotl.prompt_strategies",
    "axolotl.prompt_tokenizers",
    "axolotl.prompters",
    "axolotl.utils.chat_templates",
    "axolotl.utils.data",
    "axolotl.utils.tokenization",
    "axolotl.utils.trainer",
)
# What of it makes none: the length of the run, the environment of the trainer, rows as they stream
# by; and the tokenizer with other words, which is put into output_dir and named by its words.
APART = (
    "axolotl.common.datasets.load_preference_datasets",
    "axolotl.loaders.tokenizer.load_tokenizer",
    "axolotl.utils.data.lock.FileLockLoader.__init__",
    "axolotl.utils.data.sft._prepare_standard_dataset",
    "axolotl.utils.data.sft._prepare_streaming_dataset",
    "axolotl.utils.data.shared.get_prepared_dataset_path",
    "axolotl.utils.data.streaming.wrap_streaming_dataset",
    "axolotl.utils.trainer.calculate_total_num_steps",
    "axolotl.utils.trainer.prepare_optim_env",
    "axolotl.utils.trainer.setup_",
)


def makes_rows(analysis: readers.Analysis, key: str) -> list[str]:
    """Return where in the making of rows a key is read."""
    places = (".".join(map(str, place)) for place in analysis.places(key))
    allowed = tuple(name for name in APART if key == "output_dir" or "load_tokenizer" not in name)
    return [name for name in places if name.startswith(MAKING) and not name.startswith(allowed)]


def test_no_key_that_is_left_out_is_read_where_rows_are_made() -> None:
    every = KEYS | transfers.computed()
    analysis, edges = readers.analyse(every, readers.methods()), transfers.transfers(every)
    free = {key for key in KEYS if FREE.match(key)}
    assert len(free) > 100
    assert {key: found for key in free if (found := makes_rows(analysis, key))} == {}
    assert makes_rows(analysis, "excess_length_strategy")  # they are found at all
    # nor is one that a validator fills from it
    filled = {key: {to for to in edges.get(key, ()) if makes_rows(analysis, to)} for key in free}
    assert {key: sorted(to) for key, to in filled.items() if to} == {}


RECIPE = """\
base_model: {folder}/model
datasets:
  - path: {folder}/rows.jsonl
    type: alpaca
sequence_len: 256
learning_rate: 0.001
output_dir: out
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with rows and the files of a tokenizer."""
    make_sft_rows(tmp_path / "rows.jsonl", 4)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "tokenizer.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def _written(place: Path) -> Path:
    file = place / "my.yaml"
    file.write_text(RECIPE.format(folder=place))
    return file


def shared(place: Path, *overrides: str, foreign: bool = False, **environ: str) -> Shared:
    found = recipes.load(_written(place), overrides)
    environ = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(place / "hub"), **environ}
    return prepared.shared(found.settings, digests(found), place / "runs", environ, foreign=foreign)


def test_what_cannot_shape_the_rows_leaves_them_where_they_are(place: Path) -> None:
    first = shared(place)
    assert first.place is not None
    assert re.fullmatch("[0-9a-f]{16}", first.place.name)
    assert first.place.parent == place / "runs" / "prepared"
    free = ("learning_rate=1", "output_dir=b", "micro_batch_size=4", "deepspeed=x.json", "lora_r=2")
    for override in (*free, "num_epochs=9", "wandb_name=a", "bf16=false", "save_steps=3"):
        assert shared(place, override).place == first.place
    (place / "model" / "model.safetensors").write_bytes(b"others")
    assert shared(place).place == first.place


def test_what_may_shape_the_rows_gives_them_another_place(place: Path) -> None:
    (place / "chat.jinja").write_text("{{ messages }}")
    template = f"chat_template_jinja={place}/chat.jinja"
    seen = [shared(place).place, shared(place, template).place]
    for override in (
        "chat_template=chatml",
        "excess_length_strategy=truncate",
        "seed=7",
        "val_set_size=0.5",
        "rl=dpo",
        "min_sample_len=3",
        "shuffle_merged_datasets=false",
        "sequence_len=128",
        "datasets.0.type=completion",
        "special_tokens.pad_token=x",
        "attn_implementation=sdpa",
        "sample_packing=true",
        "no_such_key=1",
    ):
        seen.append(shared(place, override).place)
    (place / "chat.jinja").write_text("{{ messages[0] }}")
    seen.append(shared(place, template).place)
    (place / "model" / "tokenizer.json").write_text('{"a": 1}')
    seen.append(shared(place).place)
    more = place / "model" / "additional_chat_templates"
    more.mkdir()
    (more / "tools.jinja").write_text("{{ tools }}")
    seen.append(shared(place).place)
    make_sft_rows(place / "rows.jsonl", 5)
    seen.append(shared(place).place)
    assert None not in seen
    assert len({*seen}) == len(seen)


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("streaming=true", "streaming is set"),
        ("push_dataset_to_hub=a/b", "push_dataset_to_hub is set"),
        ("processor_type=AutoProcessor", "processor_type is set"),
        ("rl=grpo", "rl is grpo"),
        ("plugins=[axolotl.integrations.kd.KDPlugin]", "a plugin may shape its data"),
        ("datasets.0.path=s3://a/b", "neither a file here nor a name on the Hub"),
        ("datasets.0.path=null", "neither a file here nor a name on the Hub"),
        ("datasets.0.path=org/rows", "which commit of org/rows is read is not known"),
        ("datasets={path: rows.jsonl}", "its data is no list of entries"),
        ("test_datasets=[rows.jsonl]", "its data is no list of entries"),
        ("datasets.0.data_files=other/*.jsonl", 'data_files "other/*.jsonl" is no file here'),
        ("base_model_config=org/model", "neither a folder here nor a name on the Hub"),
        ("base_model=./none", "neither a folder here nor a name on the Hub"),
        ("base_model=org/model", "which commit of org/model is read is not known"),
    ],
)
def test_what_no_digest_can_tell_stays_with_its_run(place: Path, override: str, why: str) -> None:
    found = shared(place, override)
    assert found.place is None
    assert why in found.why


def test_code_from_outside_may_shape_anything(place: Path) -> None:
    assert shared(place, foreign=True).place is None


def test_a_repository_that_has_moved_gives_the_rows_another_place(place: Path) -> None:
    folders = [place / "served" / "models" / "org" / "model"]
    folders.append(place / "served" / "datasets" / "org" / "rows")
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "README.md").write_text("one")
    overrides = ("base_model=org/model", "datasets.0.path=org/rows")
    online = {"HF_HUB_OFFLINE": "", "HF_TOKEN": "hf_" + "a1B2" * 8}
    with hub(place / "served", tokens={online["HF_TOKEN"]: Token()}) as url:
        online["HF_ENDPOINT"] = url
        first = shared(place, *overrides, **online)
        assert first.place is not None
        assert [len(commit) for commit in first.shaped["hub"].values()] == [40, 40]
        assert shared(place, *overrides, **online).place == first.place
        (folders[1] / "README.md").write_text("two")
        second = shared(place, *overrides, **online)
        assert second.place not in (None, first.place)
    assert shared(place, *overrides, **online).place is None  # nobody answers any more
    for nowhere in ("huggingface.co", "http://[", "http://h:99999", "file:///etc"):
        assert shared(place, *overrides, **online | {"HF_ENDPOINT": nowhere}).place is None


def made(folder: Path) -> Path:
    """Write what axolotl leaves of a tokenisation, in few bytes."""
    inner = folder / "0f3a"
    inner.mkdir(parents=True)
    (inner / "data-00000-of-00001.arrow").write_bytes(b"rows")
    (inner / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
    )
    (inner / "dataset_info.json").write_text("{}")
    (folder / "process_counter.txt").write_text("1")
    return folder


def kept(place: Path, run: str = "one") -> bool:
    found = recipes.load(place / "my.yaml")
    environ = {"HF_HUB_CACHE": str(place / "hub")}
    return prepared.keep(place / run / "prepared", shared(place), digests(found), run, environ)


def test_what_a_run_has_made_is_there_for_the_next(place: Path) -> None:
    where = shared(place)
    assert where.maker == ""
    made(place / "one" / "prepared")
    assert kept(place)
    assert where.maker == "one"
    assert not (place / "one" / "prepared").exists()
    made(place / "two" / "prepared")
    assert not kept(place, "two")  # it is there already
    assert where.maker == "one"
    assert (place / "two" / "prepared").exists()


@pytest.mark.parametrize("broken", ["state.json", "data-00000-of-00001.arrow", "other", "half"])
def test_what_is_not_whole_is_never_read(place: Path, broken: str) -> None:
    where = shared(place)
    made(place / "one" / "prepared")
    assert kept(place)
    assert where.place is not None
    inner = where.place / "0f3a"
    if broken == "other":  # a run was killed while it wrote there
        shutil.copytree(inner, where.place / "7b1c")
        (where.place / "7b1c" / "state.json").unlink()
    elif broken == "half":
        (inner / "data-00000-of-00001.arrow").write_bytes(b"ro")
    else:
        (inner / broken).unlink()
    assert where.maker == ""


def test_a_cache_of_a_later_step_is_none_of_it(place: Path) -> None:
    where = shared(place)
    made(place / "one" / "prepared")
    assert kept(place)
    assert where.place is not None
    (where.place / "0f3a" / "cache-1f.arrow").write_bytes(b"what trl made of it")
    (where.place / "datasets_prep.lock").touch()
    assert where.maker == "one"


def test_rows_that_changed_meanwhile_are_not_kept_under_the_old_name(place: Path) -> None:
    where = shared(place)
    made(place / "one" / "prepared")
    make_sft_rows(place / "rows.jsonl", 6)
    rows = digests(recipes.load(place / "my.yaml"))
    assert not prepared.keep(place / "one" / "prepared", where, rows, "one", {})
    (place / "one" / "prepared" / "0f3a" / "state.json").unlink()
    assert not kept(place)


def test_a_tokenizer_that_changed_meanwhile_is_not_kept_under_the_old_name(place: Path) -> None:
    where, rows = shared(place), digests(recipes.load(place / "my.yaml"))
    folder = made(place / "one" / "prepared")
    (place / "model" / "tokenizer.json").write_text('{"a": 1}')
    assert not prepared.keep(folder, where, rows, "one", {})


def test_a_repository_that_moved_meanwhile_is_not_kept_under_the_old_name(place: Path) -> None:
    environ = {"HF_HUB_CACHE": str(place / "hub")}
    ref = place / "hub" / "models--org--model" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text("1" * 40)
    where = shared(place, "base_model=org/model")
    rows = digests(recipes.load(place / "my.yaml"))
    assert where.place is not None
    ref.write_text("2" * 40)
    assert not prepared.keep(made(place / "one" / "prepared"), where, rows, "one", environ)
    ref.write_text("1" * 40)
    assert prepared.keep(place / "one" / "prepared", where, rows, "one", environ)


def test_of_a_file_that_is_not_read_whole_the_time_counts(place: Path) -> None:
    rows = place / "rows.jsonl"
    settings = recipes.load(_written(place)).settings
    ends = {str(rows): "0" * 64 + " of both ends, 3 bytes"}
    seen = []
    for when in (1, 2):
        os.utime(rows, (when, when))
        found = prepared.shared(settings, ends, place, {"HF_HUB_OFFLINE": "1"}, foreign=False)
        seen.append(found.place)
    assert None not in seen
    assert seen[0] != seen[1]


def test_of_a_folder_with_too_many_files_nothing_is_shared(place: Path) -> None:
    settings = recipes.load(_written(place)).settings
    many = {str(place / "rows.jsonl"): "0" * 64} | {f"{n}": "0" * 64 for n in range(MOST)}
    found = prepared.shared(settings, many, place, {"HF_HUB_OFFLINE": "1"}, foreign=False)
    assert (found.place, found.why) == (None, f"its data has {MOST} files or more")
