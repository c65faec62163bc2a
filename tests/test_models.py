"""Model facts against the real models of transformers; where config.json comes from."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from launcher import hub_cache, recipe
from launcher.diagnostics import LauncherError
from launcher.models import SUPPORTED, UnsupportedModel, fetch, find, from_config
from launcher.models.find import shipped

NOWHERE = {"HF_HUB_CACHE": "/nonexistent"}
SHAPE = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 128,
}
GPT2 = {"n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 128, "vocab_size": 300}
IDS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
TINY: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **SHAPE},
    "llama-tied": {"model_type": "llama", **SHAPE, "tie_word_embeddings": True},
    "llama-biased": {"model_type": "llama", **SHAPE, "attention_bias": True, "mlp_bias": True},
    "llama-wide-heads": {"model_type": "llama", **SHAPE, "head_dim": 32},
    "qwen2": {"model_type": "qwen2", **SHAPE},
    "qwen3": {"model_type": "qwen3", **SHAPE},
    "qwen3-biased": {"model_type": "qwen3", **SHAPE, "head_dim": 16, "attention_bias": True},
    "mistral": {"model_type": "mistral", **SHAPE, "head_dim": 24},
    "phi3": {"model_type": "phi3", **SHAPE},
    "gpt2": {"model_type": "gpt2", **GPT2},
    "gpt2-narrow": {"model_type": "gpt2", **GPT2, "n_inner": 100, "tie_word_embeddings": False},
}


def real(config: Mapping[str, Any]) -> Any:
    """The model of transformers itself, without storage."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**{**IDS, **config}))
    model.tie_weights()
    return model


@pytest.mark.slow
@pytest.mark.parametrize("config", TINY.values(), ids=TINY)
def test_counts_are_those_of_the_real_model(config: dict[str, Any]) -> None:
    from peft import LoraConfig, get_peft_model

    facts, model = from_config("tiny", config), real(config)
    assert facts.parameters == model.num_parameters()
    names = sorted({linear.name for linear in facts.linears})
    for targets in (names, names[:1]):
        lora = LoraConfig(r=4, target_modules=targets, fan_in_fan_out="n_embd" in config)
        peft = get_peft_model(real(config), lora)
        trained = sum(weight.numel() for weight in peft.parameters() if weight.requires_grad)
        assert facts.adapter_parameters(facts.targets(targets), 4) == trained


@pytest.mark.slow
def test_counts_of_the_recipes_models_and_the_table() -> None:
    names = {recipe.load(path).settings["base_model"] for path in recipe.shipped()}
    assert names <= shipped().keys()
    families = json.loads((recipe.pack_folder("schemas") / "models.json").read_text())["families"]
    for family in families:
        config, known = family["config"], names.intersection(family["names"])
        assert from_config("", config).parameters == family["parameters"], family["names"]
        if known or family["parameters"] < 2e9:
            assert real(config).num_parameters() == family["parameters"], family["names"]


def test_names_stand_once_in_the_table() -> None:
    families = json.loads((recipe.pack_folder("schemas") / "models.json").read_text())["families"]
    names = [name for family in families for name in family["names"]]
    assert len(names) == len(set(names)) >= 80
    assert {family["config"]["model_type"] for family in families} == set(SUPPORTED)
    assert all(family["source"].startswith("https://") for family in families)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "mixtral", "num_local_experts": 8}, "mixture of experts"),
        ({"model_type": "qwen3_moe", "num_experts": 128}, "mixture of experts"),
        ({"model_type": "deepseek_v3", "n_routed_experts": 256}, "mixture of experts"),
        ({"model_type": "gemma3", "vision_config": {"a": 1}}, "images or audio"),
        ({"model_type": "gemma2", "attn_logit_softcapping": 50.0}, "caps attention scores"),
        ({"model_type": "falcon_h1", "mamba_d_state": 16}, "not attention alone"),
        ({"model_type": "gemma", **SHAPE}, "not known here"),
        ({}, "not known here"),
    ],
)
def test_what_has_no_formulas_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason) as caught:
        from_config("someone/model", config)
    assert caught.value.model_type == config.get("model_type", "unknown")
    assert "someone/model" in caught.value.message
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("value", [None, 0, -1, "64", 6.5, True])
def test_a_size_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(LauncherError, match="hidden_size"):
        from_config("broken", {**TINY["llama"], "hidden_size": value})


def test_a_quantized_checkpoint_says_so() -> None:
    config = {**TINY["llama"], "quantization_config": {"quant_method": "gptq", "bits": 4}}
    assert from_config("", config).quantization == "gptq"
    assert from_config("", TINY["llama"]).quantization is None


def test_targets_that_are_missing_are_named() -> None:
    facts = from_config("", TINY["phi3"])
    with pytest.raises(ValueError, match=r"q_proj not among .*qkv_proj"):
        facts.targets(["q_proj", "o_proj"])


def test_a_folder_wins_over_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "Qwen" / "Qwen2.5-7B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TINY["qwen2"]))
    monkeypatch.chdir(tmp_path)
    assert find("Qwen/Qwen2.5-7B", NOWHERE).hidden == 64
    assert find("Qwen/Qwen2.5-3B", NOWHERE).hidden == 2048


def test_the_cache_is_read_by_its_refs(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    for commit, layers in (("a" * 40, 2), ("b" * 40, 3)):
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        config = {**TINY["llama"], "num_hidden_layers": layers}
        (snapshot / "config.json").write_text(json.dumps(config))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    environ = {"HF_HUB_CACHE": str(tmp_path)}
    assert find("org/name", environ).layers == 2
    assert find("org/name", environ, revision="b" * 40).layers == 3
    assert find("org/name", environ).source == "Hub cache, commit aaaaaaa"
    with pytest.raises(LauncherError, match="not known here"):
        find("org/name", environ, revision="v2")


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/c"}, "/c"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
    ],
)
def test_where_the_cache_lies(environ: dict[str, str], folder: str) -> None:
    assert str(hub_cache.folder(environ)) == folder


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(LauncherError, match="JSON"):
        find(str(tmp_path), NOWHERE)


def test_an_unknown_model_is_not_guessed() -> None:
    with pytest.raises(LauncherError, match='"someone/else" is not known'):
        find("someone/else", NOWHERE)


class Hub(BaseHTTPRequestHandler):
    """A Hub on loopback: what it answers is decided by the model's name."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        Hub.asked.append((self.path, self.headers.get("Authorization")))
        status = {"gated": 403, "private": 401, "gone": 404, "broken": 503}
        model = self.path.split("/")[2]
        self.send_response(status.get(model, 302 if model == "moved" else 200))
        if model == "moved":
            self.send_header("Location", "/org/fine/resolve/main/config.json")
        self.end_headers()
        if model == "fine":
            self.wfile.write(json.dumps(TINY["mistral"]).encode())
        elif model == "large":
            self.wfile.write(b" " * (4 * 2**20 + 1))

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_hub_is_asked_with_the_token(hub: str) -> None:
    facts = fetch("org/fine", {"HF_ENDPOINT": hub, "HF_TOKEN": "hf_secret"}, revision="v1/x")
    assert facts == from_config("org/fine", TINY["mistral"])
    assert Hub.asked == [("/org/fine/resolve/v1%2Fx/config.json", "Bearer hf_secret")]


def test_the_token_does_not_follow_a_redirect(hub: str) -> None:
    assert fetch("org/moved", {"HF_ENDPOINT": hub, "HF_TOKEN": "hf_secret"}).hidden == 64
    assert [token for _, token in Hub.asked] == ["Bearer hf_secret", None]


@pytest.mark.parametrize(
    ("model", "token", "fact", "hint"),
    [
        ("gated", "hf_x", "no access", "accept the model's licence"),
        ("private", "", "no access", "set HF_TOKEN"),
        ("gone", "", "has no config.json", ""),
        ("broken", "", "HTTP 503", "again later"),
        ("large", "", "over 4 MiB", ""),
        ("empty", "", "not JSON", ""),
    ],
)
def test_what_the_hub_refuses_is_said(
    hub: str, model: str, token: str, fact: str, hint: str
) -> None:
    with pytest.raises(LauncherError, match=fact) as caught:
        fetch(f"org/{model}", {"HF_ENDPOINT": hub, "HF_TOKEN": token})
    assert hint in caught.value.hint
    assert "hf_x" not in caught.value.message


def test_no_network_is_said() -> None:
    with pytest.raises(LauncherError, match="does not answer"):
        fetch("org/name", {"HF_ENDPOINT": "http://127.0.0.1:9"}, timeout=2)


@pytest.mark.parametrize(
    "revision",
    [
        "../../secret",
        "/etc/passwd",
        "/proc/kmsg",
        "/dev/zero",
        "v/../../x",
        "",
        ".",
        "a\0b",
        "long",
    ],
)
def test_a_revision_leads_nowhere_else(tmp_path: Path, revision: str) -> None:
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "snapshots" / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (tmp_path / "secret").write_text("a" * 40)
    (repository / "refs" / "long").write_text("a" * 40 + " " * 100)
    environ = {"HF_HUB_CACHE": str(tmp_path)}
    assert hub_cache.find("models", "org/name", "config.json", environ, revision=revision) is None


@pytest.mark.parametrize("ref", [b"\xff\xfe", b"../../x", b"", b"main", b"A" * 40])
def test_a_ref_holds_a_commit_and_nothing_else(tmp_path: Path, ref: bytes) -> None:
    repository = tmp_path / "models--org--name"
    for name in ("main", "x", "A" * 40, ""):
        (repository / "snapshots" / name).mkdir(parents=True, exist_ok=True)
        (repository / "snapshots" / name / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_bytes(ref)
    environ = {"HF_HUB_CACHE": str(tmp_path)}
    assert hub_cache.find("models", "org/name", "config.json", environ) is None


def test_a_pull_request_is_a_revision(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    (repository / "refs" / "refs" / "pr").mkdir(parents=True)
    (repository / "refs" / "refs" / "pr" / "1").write_text("a" * 40 + "\n")
    (repository / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("a" * 40) / "config.json").write_text("{}")
    environ = {"HF_HUB_CACHE": str(tmp_path)}
    found = hub_cache.find("models", "org/name", "config.json", environ, revision="refs/pr/1")
    assert found
    assert found.parent.name == "a" * 40


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Qwen/Qwen3-30B-A3B", "mixture of experts"),
        ("mistralai/Mixtral-8x7B-v0.1", "mixture of experts"),
        ("openai/gpt-oss-20b", "mixture of experts"),
        ("deepseek-ai/DeepSeek-V3", "mixture of experts"),
        ("google/gemma-2-9b-it", "caps attention scores"),
        ("google/gemma-3-4b-it", "images or audio"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "images or audio"),
        ("google/gemma-3-1b-it", "the sizes of its layers"),
    ],
)
def test_a_known_model_without_formulas_is_refused_with_its_reason(name: str, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        find(name, NOWHERE)


def test_all_that_is_refused_is_refused_and_in_no_other_table() -> None:
    assert len(shipped("refused")) > 60
    assert not shipped("refused").keys() & shipped().keys()
    for name in shipped("refused"):
        with pytest.raises(UnsupportedModel):
            find(name, NOWHERE)


@pytest.mark.slow
def test_transformers_own_configs_are_refused_for_the_same_reason() -> None:
    from transformers import AutoConfig

    for name, config in shipped("refused").items():
        real = AutoConfig.for_model(config["model_type"]).to_dict()
        reasons = []
        for one in (config, real):
            with pytest.raises(UnsupportedModel) as caught:
                from_config(name, one)
            reasons.append(caught.value.reason)
        assert reasons[0] == reasons[1], name
