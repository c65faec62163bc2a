"""What of a recipe a rehearsal leaves out, by name, and what it cannot rehearse at all. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launcher import cpu
from launcher.diagnostics import Diagnostic
from launcher.recipe import Recipe
from launcher.rehearse.codes import CANNOT
from launcher.rehearse.overrides import tracks
from launcher.rules.batch import whole
from launcher.schema.validator import is_on

_KEYS = ("torch_compile", "fp8", "qat", "quantization", "load_in_8bit", "lora_model_dir")
METHODS = (None, "", "dpo", "ipo", "simpo", "orpo", "kto")


def impossible(recipe: Recipe) -> Iterator[Diagnostic]:
    """Yield what no small stand-in on a CPU can show."""
    value = recipe.value
    if value.get("rl") not in METHODS:
        fact = f"rl: {value['rl']} samples its own answers, and rewards them with code"
        yield CANNOT.at(recipe.value_span("rl"), fact)
    for key, why in (
        ("pretraining_dataset", "streamed rows are not rehearsed"),
        ("processor_type", "images and audio are not rehearsed"),
        ("gptq", "weights that are quantized already cannot be random ones"),
        ("diffusion", "it needs a trainer of its own"),
    ):
        if value.get(key):
            yield CANNOT.at(recipe.key_span(key), f"{key}: {why}")


def left_out(recipe: Recipe, ranks: int) -> list[str]:
    """Return what is not rehearsed, by the names that a user knows."""
    settings = recipe.settings
    found = [
        *_arithmetic(settings),
        *_spread(settings, whole((recipe.block.get("needs") or {}).get("gpus")), ranks),
        *(key for key in _KEYS if settings.get(key)),
    ]
    if settings.get("hub_model_id"):
        found.append("the upload to the Hub")
    if any(tracks(key) and value for key, value in settings.items()):
        found.append("trackers")
    return found


def _arithmetic(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what of the arithmetic is another on a CPU."""
    if settings.get("bf16", "auto") or is_on(settings.get("fp16")):
        yield "half precision"
    if "flash" in str(settings.get("attn_implementation")) or settings.get("flash_attention"):
        yield "flash attention"
    if (optimizer := str(settings.get("optimizer") or "")) and cpu.optimizer_needs_gpu(optimizer):
        yield optimizer
    if any(settings.get(f"lora_{part}_kernel") for part in ("mlp", "qkv", "o", "embedding")):
        yield "LoRA kernels"
    for plugin in settings.get("plugins") or []:
        if cpu.needs_gpu(str(plugin)):
            yield str(plugin).rpartition(".")[2]


def _spread(settings: Mapping[str, Any], gpus: int, ranks: int) -> Iterator[str]:
    """Yield what of several GPUs is left out."""
    if settings.get("deepspeed"):
        yield "DeepSpeed's engine (its JSON is read by its own code)"
    if settings.get("fsdp") or settings.get("fsdp_config"):
        yield "FSDP"
    for key in ("tensor_parallel_size", "context_parallel_size", "expert_parallel_size"):
        if whole(settings.get(key)) > 1:
            yield key
    if gpus > 1:
        yield "NCCL" if ranks > 1 else "several GPUs (--ranks 2 rehearses the launch), NCCL"


def merges(settings: Mapping[str, Any]) -> bool:
    """Whether an adapter is left to be merged when the training is over."""
    return bool(settings.get("adapter")) and not settings.get("relora")


def missing_stages(settings: Mapping[str, Any], *, evaluates: bool, saves: bool) -> dict[str, str]:
    """Return the stages that a recipe does not have, and why."""
    found = {}
    if not evaluates:
        found["evaluate"] = "the recipe does not evaluate"
    if not saves:
        found["resume"] = "the recipe saves no checkpoints"
    if not merges(settings):
        found["merge"] = "ReLoRA merges as it trains" if settings.get("relora") else "no adapter"
    return found
