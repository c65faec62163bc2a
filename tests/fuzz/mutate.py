"""Mutations that know a recipe: known keys, with values of the wrong type, form or size."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any

import yaml

from launcher import source
from launcher.schema.validator import schema

NAMED = ["pipe", "loop", "zero", "deep.json", "wide.json", "latin.json", "odd.json", "huge.json"]
PATHS = [
    *NAMED,
    *("checkpoint", "odd", ".", "..", "/", "", "~", "/dev/zero", "/dev/stdin", "/etc/passwd"),
    *("/proc/self/mem", "recipes/deepspeed/zero2.json", "a\0b", "n" * 300, "x/" * 3000, "\ud800"),
]
TEXTS = [
    *("auto", "none", "yes", "0", "-1", "1e400", "nan", "inf", "1_000", "0x10", " ", "\n", "\t"),
    *("${HOME}/x", "~/x", "owner/name", "a//b", "http://x", "https://x", "s3://b", "日本\u202e"),
    *("hf_" + "a" * 30, "sk-" + "b" * 30, "token: abc", "é" * 200, "\x1b[2J", "\x85", "\u2028"),
    *("__main__.x", "sys.path", "launcher.cli", ".", "..", "a.b.c", "chat_template.", "%0A::error"),
]
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 0.0, 0.5, -0.5, 2.0, 1e-300, 1e300, 10**400, -(10**20)),
    *(float("inf"), float("-inf"), float("nan"), [], {}, [None], [[]], {"": ""}, {1: 2}, {None: 1}),
    *(datetime.date(2024, 1, 1), b"\xff\0", [1, "a", None], {"a": [{"b": 1}]}, "", *PATHS, *TEXTS),
]


def _shapes() -> dict[str, list[str]]:
    """Return the keys of each block of the schema, the top level under an empty name."""
    shapes = {name: sorted(node.get("properties", {})) for name, node in schema()["$defs"].items()}
    return {"": sorted(schema()["properties"]), **shapes}


SHAPES = {name: keys for name, keys in _shapes().items() if keys}
ENUMS = sorted({str(v) for n in schema()["$defs"].values() for v in n.get("enum", [])})
TYPES = [
    *("alpaca", "chat_template", "chat_template.default", "completion", "chatml.intel", "sharegpt"),
    *("input_output", "user_defined.default", "pretrain", "stepwise_supervised", "_synthetic"),
]
# Keys that many rules read; found by chance among hundreds they would be seen too seldom.
RULED = re.findall(
    r"\S+",
    """rl adapter deepspeed fsdp_config fsdp_version resume_from_checkpoint datasets test_datasets
    pretraining_dataset plugins optimizer lr_scheduler chat_template special_tokens bf16 fp16 tf32
    eval_steps evals_per_epoch eval_strategy save_steps save_strategy saves_per_epoch val_set_size
    sample_packing sequence_len micro_batch_size batch_size gradient_accumulation_steps num_epochs
    max_steps warmup_steps warmup_ratio lora_r lora_target_modules lora_target_linear lora_dropout
    load_in_4bit load_in_8bit gradient_checkpointing gradient_checkpointing_kwargs x-recipe
    attn_implementation load_best_model_at_end early_stopping_patience hub_model_id hub_strategy
    peft_use_dora loraplus_lr_ratio rl_beta dpo_loss_type dpo_loss_weights trl vllm
    unfrozen_parameters neftune_noise_alpha base_model revision_of_model trainer_cls tokens""",
)


def mutate(data: bytes, random: Random, steps: int = 3) -> bytes:
    """Return a recipe like the one that the bytes hold, with a few keys or values changed."""
    read = source.parse(data.decode("utf-8", errors="replace"), "seed.yaml")
    value = deepcopy(read.value) or {"base_model": "m", "learning_rate": 1e-5}
    for _ in range(random.randint(1, steps)):
        _change(value, random)
    text = yaml.safe_dump(value, allow_unicode=random.random() < 0.5, sort_keys=False)
    return text.encode("utf-8", errors="replace")


def _change(value: Any, random: Random) -> None:
    target = random.choice(list(_containers(value)))
    if isinstance(target, list):
        if target and random.random() < 0.5:
            target[random.randrange(len(target))] = _any(random)
        else:
            target.append(_entry(random) if random.random() < 0.5 else _any(random))
    elif target and random.random() < 0.2:
        del target[random.choice(list(target))]
    elif target and random.random() < 0.4:
        target[random.choice(list(target))] = _any(random)
    else:
        target[_key(random)] = _any(random)


def _containers(value: Any) -> Iterator[Any]:
    """Yield a value and the values in it that are mappings or lists."""
    if isinstance(value, (dict, list)):
        yield value
        for child in value.values() if isinstance(value, dict) else value:
            yield from _containers(child)


def _key(random: Random) -> str:
    if random.random() < 0.5:
        return random.choice(RULED)
    key = random.choice(SHAPES[random.choice(["", *SHAPES])])
    return key[:-1] if random.random() < 0.05 else key


def _any(random: Random) -> Any:
    choice = random.random()
    if choice < 0.55:
        return deepcopy(random.choice(ODD))
    if choice < 0.7:
        return random.choice(ENUMS)
    if choice < 0.8:
        return random.randint(-2, 64)
    if choice < 0.9:
        return [_entry(random) for _ in range(random.randint(0, 2))]
    return _block(random)


def _entry(random: Random) -> dict[str, Any]:
    kinds = [name for name in SHAPES if name.endswith("Dataset")]
    keys = SHAPES[random.choice(kinds)]
    entry = {random.choice(keys): deepcopy(random.choice(ODD)) for _ in range(random.randint(0, 3))}
    return {"path": random.choice(PATHS), "type": random.choice(TYPES), **entry}


def _block(random: Random) -> dict[str, Any]:
    keys = SHAPES[random.choice(list(SHAPES))]
    return {random.choice(keys): deepcopy(random.choice(ODD)) for _ in range(random.randint(0, 4))}
