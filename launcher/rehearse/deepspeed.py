"""DeepSpeed's own code asked about its JSON: what is in it, and whether it fits the recipe.

The engine itself cannot run on a CPU under axolotl: with accelerate's CPU flag it is silently off,
without it a gather over gloo fails.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from launcher.files import is_file
from launcher.rules.batch import whole
from launcher.schema.validator import is_on

# what of a trainer's arguments transformers compares with the JSON, and their defaults
_DEFAULTS = {
    "learning_rate": 5e-5,
    "max_grad_norm": 1.0,
    "weight_decay": 0.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
}


def asked(settings: Mapping[str, Any], gpus: int) -> dict[str, Any] | None:
    """Return what the check needs of a recipe on so many GPUs, or none without DeepSpeed."""
    if not settings.get("deepspeed"):
        return None
    config = settings["deepspeed"]
    given = {key: settings.get(key) for key in _DEFAULTS}
    return {
        "config": os.path.abspath(config) if is_file(str(config)) else config,
        "world": max(1, gpus),
        "micro": whole(settings.get("micro_batch_size")) or 1,
        "accumulation": whole(settings.get("gradient_accumulation_steps")) or 1,
        "bf16": settings.get("bf16", "auto") == "auto" or is_on(settings.get("bf16")),
        "fp16": is_on(settings.get("fp16")),
        **{key: _DEFAULTS[key] if value is None else float(value) for key, value in given.items()},
    }


def complaint(told: Mapping[str, Any]) -> str:
    """Return what transformers or DeepSpeed say against the JSON; nothing where they accept it.

    Imports both. Whatever they raise is their verdict.
    """
    from deepspeed.runtime.config import DeepSpeedConfig
    from transformers.integrations.deepspeed import (
        HfTrainerDeepSpeedConfig,
        unset_hf_deepspeed_config,
    )

    arguments = _arguments(told)
    try:
        found = HfTrainerDeepSpeedConfig(told["config"])
        found.trainer_config_process(arguments)
        model = SimpleNamespace(config=SimpleNamespace(hidden_size=1024))
        found.trainer_config_finalize(arguments, model, num_training_steps=100)
        # here the world is one process
        here = {**found.config, "train_batch_size": told["micro"] * told["accumulation"]}
        DeepSpeedConfig(here)
    except Exception as problem:
        return f"{type(problem).__name__}: {' '.join(str(problem).split())}"
    finally:
        unset_hf_deepspeed_config()
    return ""


def _arguments(told: Mapping[str, Any]) -> SimpleNamespace:
    """Return what transformers reads of its TrainingArguments (integrations/deepspeed.py)."""
    return SimpleNamespace(
        world_size=told["world"],
        per_device_train_batch_size=told["micro"],
        gradient_accumulation_steps=told["accumulation"],
        bf16=told["bf16"] and not told["fp16"],
        bf16_full_eval=False,
        fp16=told["fp16"],
        fp16_full_eval=False,
        save_on_each_node=False,
        get_warmup_steps=lambda steps: 0,
        **{key: told[key] for key in _DEFAULTS},
    )
