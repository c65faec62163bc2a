"""The facts that rules rest on: up to date, and true of the installed stack.

The slow tests ask axolotl itself: its loaders, its validation, its builder of trainer arguments.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import make_model

from launcher.facts import SUPERVISED, Removed, load
from launcher.facts.types import Kind
from launcher.recipe import pack_folder
from launcher.schema.check import schema

FACTS = load()
RL = sorted(FACTS.methods - {SUPERVISED})
PAIRWISE = ("dpo", "ipo", "kto", "orpo", "simpo")


def with_stack(test: Any) -> Any:
    """Mark a test that imports the whole stack; some of what it imports warns."""
    missing = importlib.util.find_spec("axolotl") is None
    test = pytest.mark.skipif(missing, reason="axolotl is not installed")(test)
    return pytest.mark.slow(pytest.mark.filterwarnings("default")(test))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXOLOTL_DO_NOT_TRACK", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import transformers

    folder = make_model(tmp_path_factory.mktemp("model"))
    return transformers.AutoTokenizer.from_pretrained(folder, bos_token="<|endoftext|>")


def test_reading_them_imports_nothing_heavy() -> None:
    code = (
        "import sys; from launcher import facts; facts.load();"
        "print({name.split('.')[0] for name in sys.modules} & {'torch', 'axolotl', 'transformers'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@with_stack
def test_committed_facts_are_those_of_the_installed_stack() -> None:
    from launcher.facts import derive

    committed = (pack_folder("schemas") / derive.FILE).read_text(encoding="utf-8")
    assert derive.text() == committed, "write it with: axr schema"


# Optimizers and schedulers


def test_optimizers_tell_missing_packages_from_typos() -> None:
    assert FACTS.optimizers["adamw_torch_fused"].package is None
    assert FACTS.optimizers["paged_adamw_8bit"].package == "bitsandbytes"
    assert not FACTS.optimizers["galore_adamw"].installed
    assert "adamw_8bits" not in FACTS.optimizers
    assert FACTS.optimizers["dion"].wants == {"dion_lr", "dion_momentum"}
    assert FACTS.optimizers_without_branch == {"ao_adamw_4bit", "ao_adamw_8bit"}
    assert FACTS.optimizers_without_branch.isdisjoint(FACTS.optimizers)


def test_schedulers_tell_what_they_cannot_do_without() -> None:
    assert {"cosine", "rex", "one_cycle"} <= FACTS.schedulers.keys()
    assert "cosin" not in FACTS.schedulers
    assert FACTS.schedulers["cosine_with_min_lr"].one_of == ("min_lr", "min_lr_rate")
    assert FACTS.schedulers["warmup_stable_decay"].one_of == ("num_decay_steps",)
    assert FACTS.schedulers["reduce_lr_on_plateau"].evaluation
    assert not FACTS.schedulers["cosine"].evaluation


@with_stack
@pytest.mark.parametrize("name", [*FACTS.optimizers, *sorted(FACTS.optimizers_without_branch)])
def test_axolotl_takes_an_optimizer_if_its_package_is_there(name: str, tmp_path: Path) -> None:
    found = FACTS.optimizers.get(name)
    settings = {"optimizer": name, "torchdistx_path": "nowhere", "weight_decay": 0.0}
    settings |= dict.fromkeys(found.wants if found else (), 0.9)
    settings |= {"rl": "dpo", "output_dir": str(tmp_path)}
    if found is None:
        with pytest.raises(ValueError, match="Unhandled optimizer"):
            _arguments(settings)
    elif found.installed or name in _transformers_optimizers():
        _arguments(settings)
    else:
        with pytest.raises(ModuleNotFoundError, match=found.package):
            _arguments(settings)
    if found and found.wants:
        with pytest.raises(KeyError):
            _arguments({**settings, **dict.fromkeys(found.wants)})


@with_stack
@pytest.mark.parametrize("name", FACTS.schedulers)
def test_axolotl_builds_every_scheduler_given_what_it_wants(name: str, tmp_path: Path) -> None:
    import torch
    from axolotl.core.trainers.mixins import SchedulerMixin
    from axolotl.core.training_args import AxolotlTrainingArguments

    found = FACTS.schedulers[name]
    arguments = {"eval_strategy": "epoch" if found.evaluation else "no"}
    wanted = {key: 2 if key == "num_decay_steps" else 0.1 for key in found.one_of[:1]}
    _builder({"lr_scheduler": name, "lr_scheduler_kwargs": wanted})._configure_scheduler(arguments)
    trainer = SchedulerMixin.__new__(SchedulerMixin)
    trainer.args = AxolotlTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **arguments)
    trainer.lr_scheduler = None
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1.0)
    assert trainer.create_scheduler(10, optimizer) is not None


# Dataset types


@pytest.mark.parametrize(
    ("method", "name", "kind"),
    [
        ("sft", "alpaca", Kind.BUILT_IN),
        ("sft", "alpaca:chat", Kind.BUILT_IN),
        ("sft", "alpaca:chatt", Kind.UNKNOWN),
        ("sft", "alpacca", Kind.UNKNOWN),
        ("sft", "chat_template", Kind.BUILT_IN),
        ("sft", "chat_template.default", Kind.UNKNOWN),
        ("sft", "sharegpt", Kind.UNKNOWN),
        ("sft", "my_company.formats", Kind.CUSTOM),
        ("sft", "my_company.formats.load_it", Kind.UNKNOWN),
        ("dpo", "chat_template", Kind.BUILT_IN),
        ("dpo", "chatml.intel", Kind.BUILT_IN),
        ("dpo", "chatml.inte", Kind.UNKNOWN),
        ("dpo", "chatm.intel", Kind.CUSTOM),
        ("simpo", "llama3.ultra", Kind.BUILT_IN),
        ("kto", "chatml.default", Kind.UNKNOWN),
        ("orpo", "chat_template.argilla", Kind.BUILT_IN),
        ("orpo", "chat_template", Kind.UNKNOWN),
    ],
)
def test_type_is_decided_by_method(method: str, name: str, kind: Kind) -> None:
    assert FACTS.load_type(method, name).kind is kind


def test_custom_type_tells_the_module_that_must_be_there() -> None:
    assert FACTS.load_type("sft", "my_company.formats").module == "my_company.formats"
    assert FACTS.load_type("grpo", "rewards.to_prompt").module == "rewards"
    assert FACTS.load_type("dpo", "my_company.formats.pairs").module == "formats"
    assert "chat_template" in FACTS.supervised_types.refuses["sharegpt"]


def _supervised_names() -> Iterator[str]:
    types = FACTS.supervised_types
    yield from types.names | types.bases.keys() | types.modules
    for base, styles in types.bases.items():
        yield from (f"{base}:{style}" for style in styles or {"any"})
    for name in types.names | types.modules:
        yield from (f"{name}.load", f"{name}.load_x", f"{name}.default", f"{name}x")
        yield f"axolotl.prompt_strategies.{name}"
    yield from ("bradley_terry", "bradley_terry.llama3.icr", "no.such_module")


@with_stack
@pytest.mark.parametrize("name", sorted(set(_supervised_names())))
def test_axolotl_loads_just_the_supervised_types_that_are_built_in(
    name: str, tokenizer: Any
) -> None:
    built_in = FACTS.load_type(SUPERVISED, name).kind is Kind.BUILT_IN
    assert _wraps(name, tokenizer) == built_in


def _wraps(name: str, tokenizer: Any) -> bool:
    """Whether axolotl finds a strategy for a type and gets as far as the rows."""
    from axolotl.utils.data.wrappers import get_dataset_wrapper
    from axolotl.utils.dict import DictDefault

    class Rows:
        features: Mapping[str, Any] = {}

        def __getattr__(self, name: str) -> Any:
            raise LookupError(name)

    config = DictDefault(
        sequence_len=64, train_on_inputs=False, pretraining_dataset=[{"text_column": "text"}]
    )
    entry = DictDefault(path="rows", type=name, chat_template="chatml")
    base, _, style = name.partition(":")
    try:
        get_dataset_wrapper(entry, tokenizer, config, base, Rows(), style or None)
    except LookupError as error:
        return not isinstance(error, IndexError | KeyError)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


@with_stack
@pytest.mark.parametrize("method", RL)
def test_axolotl_loads_just_the_preference_types_that_are_built_in(method: str) -> None:
    from axolotl.utils.dict import DictDefault

    types = FACTS.preference_types[method]
    package = {"kto": "kto", "orpo": "orpo", "ebft": "ebft"}.get(method, "dpo")
    loader = importlib.import_module(f"axolotl.prompt_strategies.{package}").load
    tried = types.names | types.modules | {f"{name}x" for name in types.names}
    tried |= {f"{module}.default" for module in types.modules} | {"user_defined.default"}
    for name in sorted(tried):
        entry = {"path": "rows", "type": name, "chat_template": "chatml"}
        config = DictDefault(datasets=[entry], ebft={"mode": "strided"}, sequence_len=64)
        loaded = loader(name, config, dataset_idx=0)
        assert (loaded is not None) == (types.load(name).kind is Kind.BUILT_IN), name
    assert types.mapping == ("user_defined" in types.modules)


def test_entry_keys_of_a_type() -> None:
    keys = FACTS.entry_keys
    assert keys.types["alpaca"] == frozenset()
    assert keys.types["completion"] == {"field"}
    assert {"roles_to_train", "train_on_eos", "message_field_role"} <= keys.types["chat_template"]
    assert "conversation" not in keys.types["chat_template"]
    assert {"path", "split", "shards", "type"} <= keys.loading
    assert "roles_to_train" not in keys.loading


# Chat templates


def test_chat_templates() -> None:
    templates = FACTS.templates
    assert templates.accepts("qwen_25")
    assert templates.accepts("tokenizer_default_fallback_chatml")
    assert not templates.accepts("tokenizer_default_fallback_qwen")
    assert not templates.accepts("phi_4")
    assert templates.accepts("phi_4", entry=True)
    assert templates.names - templates.special <= templates.files.keys()
    assert templates.files["llama3"].turn_end == ("<|eot_id|>",)
    assert templates.files["llama3"].trims == {"blank", "newline"}
    assert "<start_of_turn>" in templates.files["gemma"].tokens
    assert templates.files["chatml"].trims == frozenset()
    assert templates.files["mistral_v1"].turn_end == ("eos",)


@with_stack
@pytest.mark.parametrize("name", sorted(FACTS.templates.files))
def test_dpo_keeps_the_ends_of_an_answer_only_under_a_template_that_does_not_trim(
    name: str, tokenizer: Any
) -> None:
    from axolotl.prompt_strategies.dpo.chat_template import default
    from axolotl.utils.dict import DictDefault

    transform, _ = default(DictDefault(datasets=[{"path": "rows", "chat_template": name}]))
    trims = FACTS.templates.files[name].trims
    for kind, answer in {"blank": " Answer ", "newline": "\n\n\nAnswer\n\n\n"}.items():
        row = {"messages": "Question", "chosen": answer, "rejected": answer}
        kept = transform(row, tokenizer=tokenizer)["chosen"].startswith(answer.rstrip())
        assert kept == (kind not in trims)


# Plugins


def test_plugins() -> None:
    liger = FACTS.plugins["liger"]
    assert {"axolotl.integrations.liger.LigerPlugin", "liger.LigerPlugin"} <= liger.names
    assert "liger_rope" in liger.keys
    assert not FACTS.plugins["llm_compressor"].importable
    # Short names that meet another package of the pinned stack:
    assert "kernels.KernelsPlugin" not in FACTS.plugins["kernels"].names
    assert "lm_eval.LMEvalPlugin" not in FACTS.plugins["lm_eval"].names


def test_plugins_bring_the_keys_that_the_schema_marks() -> None:
    marked: dict[str, set[str]] = {}
    for key, node in schema()["properties"].items():
        if "x-integration" in node:
            marked.setdefault(node["x-integration"], set()).add(key)
    brought = {name: plugin.keys for name, plugin in FACTS.plugins.items() if plugin.keys}
    assert marked == brought


# Who reads what


def test_preference_training_ignores_what_only_the_supervised_builder_reads() -> None:
    for method in PAIRWISE:
        for key in ("neftune_noise_alpha", "early_stopping_patience", "group_by_length"):
            assert FACTS.ignores(method, key), (method, key)
        for key in ("rl_beta", "learning_rate", "ddp_timeout", "wandb_mode", "curriculum_sampling"):
            assert not FACTS.ignores(method, key), (method, key)
    assert FACTS.ignores("dpo", "train_on_inputs")
    assert FACTS.ignores("kto", "precompute_ref_log_probs")
    assert not FACTS.ignores("ipo", "precompute_ref_log_probs")
    assert FACTS.ignores("ipo", "dpo_label_smoothing")
    assert FACTS.ignores("dpo", "generate_samples")
    assert not FACTS.ignores("dpo", "generate_samples", ["diffusion"])


def test_supervised_training_ignores_what_only_preference_training_reads() -> None:
    for key in ("rl_beta", "dpo_beta", "dpo_loss_type", "kto_desirable_weight", "simpo_gamma"):
        assert FACTS.ignores(SUPERVISED, key), key
    for key in ("neftune_noise_alpha", "trl", "sample_packing", "noisy_embedding_alpha"):
        assert not FACTS.ignores(SUPERVISED, key), key


def test_keys_that_nothing_reads() -> None:
    assert {"max_prompt_len", "lr_div_factor", "fsdp_final_state_dict_type"} <= FACTS.never_read
    for key in ("dpo_beta", "evaluation_strategy", "deepcompile", "liger_swiglu", "model_type"):
        assert key not in FACTS.never_read, "a validator carries it on"
    assert FACTS.never_read <= schema()["properties"].keys()


class Poison:
    """A value that cannot be used for anything."""

    def _refuse(self, *_: object) -> Any:
        raise AssertionError("the value was used")

    __bool__ = __eq__ = __str__ = __iter__ = __int__ = __float__ = __len__ = __lt__ = __gt__ = (
        _refuse
    )
    __hash__ = object.__hash__


@with_stack
@pytest.mark.parametrize("method", PAIRWISE)
def test_trainer_arguments_do_not_depend_on_ignored_keys(method: str, tmp_path: Path) -> None:
    ignored = {key: Poison() for key in FACTS.read_only_by if FACTS.ignores(method, key)}
    plain = {"rl": method, "output_dir": str(tmp_path)}
    arguments = [_arguments(plain), _arguments(ignored | plain)]
    assert arguments[0] == arguments[1]
    assert len(ignored) > 60


@with_stack
@pytest.mark.parametrize("method", PAIRWISE)
def test_trainer_arguments_depend_on_the_keys_of_their_method(method: str, tmp_path: Path) -> None:
    plain = {"rl": method, "output_dir": str(tmp_path)}
    values = {"rl_beta": 0.7, "dpo_label_smoothing": 0.2, "precompute_ref_log_probs": True}
    values |= {"kto_desirable_weight": 2.0, "simpo_gamma": 0.9, "neftune_noise_alpha": 5.0}
    before = _arguments(plain)
    for key, value in values.items():
        changed = _arguments({**plain, key: value}) != before
        assert changed == (not FACTS.ignores(method, key)), key


def _arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    arguments, _ = _builder(settings)._build_training_arguments(10)
    return {name: repr(value) for name, value in vars(arguments).items() if "_config" not in name}


def _builder(settings: Mapping[str, Any]) -> Any:
    from axolotl.core.builders import HFRLTrainerBuilder
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.enums import RLType

    plain: dict[str, Any] = {
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-5,
    }
    plain |= {"optimizer": "adamw_torch", "sequence_len": 64, "simpo_gamma": 0.5, "num_epochs": 1}
    plain |= settings
    plain["rl"] = RLType(plain.get("rl", "dpo"))
    return HFRLTrainerBuilder(DictDefault(plain), model=None, tokenizer=None)


def _transformers_optimizers() -> set[str]:
    from transformers.training_args import OptimizerNames

    return {name.value for name in OptimizerNames}


# Removed and renamed keys


def test_removed_keys() -> None:
    by_key = {entry.key: entry for entry in FACTS.removed}
    assert by_key["flash_attention"].replacement == ("attn_implementation", "flash_attention_2")
    assert by_key["flash_attention"].concerns(True)
    assert not by_key["flash_attention"].concerns(False)
    assert by_key["dpo_beta"].replacement == ("rl_beta", None)
    assert by_key["dpo_norm_loss"].outcome == "error"
    assert by_key["dpo_norm_loss"].concerns(False)
    assert by_key["rl"].concerns("ipo")
    assert not by_key["rl"].concerns("dpo")
    assert by_key["save_safetensors"].concerns(False)
    assert not by_key["save_safetensors"].concerns(0)
    assert by_key["message_field_role"].within == "datasets"
    assert by_key["gc_steps"].replacement is None  # it becomes two keys


@with_stack
@pytest.mark.parametrize("entry", FACTS.removed, ids=lambda entry: f"{entry.key}={entry.value}")
def test_axolotl_does_what_is_said_of_a_removed_key(
    entry: Removed, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = entry.value if entry.value is not None else _sample(entry.key)
    said, config = _validate({entry.key: value}, entry.within, monkeypatch)
    words = max(re.split(r"\.\.\.", entry.words), key=len).strip()[:40]
    assert (words in said) == (entry.outcome != "silent")
    assert (config is None) == (entry.outcome == "error")
    if entry.truthy:
        assert words not in _validate({entry.key: False}, entry.within, monkeypatch)[0]
    if entry.replacement:
        key, other = entry.replacement
        new = {key: value if other is None else other}
        _, renamed = _validate(new, entry.within, monkeypatch)
        assert config is not None
        assert config | {entry.key: None} == (renamed or {}) | {entry.key: None}


def _sample(key: str) -> Any:
    """Return some value that fits a key of the schema."""
    text = json.dumps(schema()["properties"].get(key, {}))
    known = {"evaluation_strategy": "steps", "rope_scaling": {"factor": 2.0}}
    known |= {"fsdp_final_state_dict_type": "FULL_STATE_DICT", "fsdp": ["full_shard"]}
    known |= {"message_field_role": "from", "message_field_content": "value"}
    numbers = {"integer": 1, "number": 0.5}
    fitting = (value for kind, value in numbers.items() if f'"{kind}"' in text)
    return known.get(key, True if '"boolean"' in text else next(fitting, True))


def _validate(
    changes: Mapping[str, Any], within: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, Any] | None]:
    """Return all that axolotl's validation says of a config, and the config it makes, None if it
    refuses.
    """
    from axolotl.utils.config import prepare_plugins, validate_config
    from axolotl.utils.dict import DictDefault

    said: list[str] = []
    monkeypatch.setattr(logging.Logger, "handle", lambda _, line: said.append(line.getMessage()))
    entry = {"path": "rows", "type": "chat_template", **(changes if within else {})}
    config = {
        "base_model": "some/model",
        "datasets": [entry],
        "learning_rate": 1e-5,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "plugins": [f"axolotl.integrations.{name}" for name in ("liger.LigerPlugin",)]
        + ["axolotl.integrations.kernels.KernelsPlugin"],
        **({} if within else changes),
    }
    prepare_plugins(DictDefault(config))
    machine = {"bf16": True, "fp8": False, "tf32": True, "n_gpu": 1, "compute_capability": "sm_80"}
    try:
        found = validate_config(DictDefault(config), machine, {"torch_version": "2.13.0"})
    except (ValueError, DeprecationWarning) as error:
        return " ".join(str(error).split()), None
    return " ".join(" ".join(said).split()), dict(found)
