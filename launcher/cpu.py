"""What has to change for a recipe to train on a CPU, and what cannot be changed.

Found by running axolotl 0.19 on a CPU: ``bf16: auto`` turns fp16 on and dies of mixed dtypes, the
8-bit and paged optimizers and the Triton kernels need CUDA, DeepSpeed's engine fails in a gather of
gloo.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.diagnostics import Code, Diagnostic, Severity
from launcher.recipe import Recipe

NOT_ON_CPU = Code(
    "L104",
    "not-on-a-cpu",
    Severity.ERROR,
    "The feature has no CPU implementation, so the run would break.",
)

_GPU_OPTIMIZER = (
    "8bit",
    "4bit",
    "fp8",
    "paged_",
    "_bnb",
    "fused",
    "lomo",
    "galore",
    "apollo",
    "flash_",
    "came",
    "sinkgd",
)
_GPU_PLUGINS = ("liger", "cut_cross_entropy", "kernels", "densemixer", "expert_parallel")
_GPU_KEYS = ("fp8", "load_in_8bit", "gptq", "xformers_attention", "qat", "quantization")
_LORA_KERNELS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel")


@dataclass(frozen=True)
class Change:
    """One key that the launcher set, and why. A value of none takes the key out."""

    key: str
    before: Any
    after: Any
    reason: str

    def __str__(self) -> str:
        """Return for instance ``bf16: auto -> false (a reason)``."""
        return f"{self.key}: {_shown(self.before)} -> {_shown(self.after)} ({self.reason})"


def _shown(value: Any) -> str:
    """Return a value as a recipe would have it."""
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def changes(settings: Mapping[str, Any]) -> list[Change]:
    """Return what a CPU needs changed in ``settings``; only keys whose value differs."""
    wanted: dict[str, tuple[Any, str]] = {
        "bf16": (False, "mixed precision on a CPU dies of mixed dtypes"),
        "fp16": (False, "mixed precision on a CPU dies of mixed dtypes"),
        "tf32": (False, "a format of the GPU"),
    }
    if "flash" in str(settings.get("attn_implementation", "")):
        wanted["attn_implementation"] = ("sdpa", "flash attention needs a GPU")
    if settings.get("flash_attention"):
        wanted["flash_attention"] = (None, "flash attention needs a GPU")
    if optimizer_needs_gpu(str(settings.get("optimizer", ""))):
        wanted["optimizer"] = ("adamw_torch", "this optimizer needs a GPU")
    for key in ("deepspeed", "fsdp", "fsdp_config"):
        if settings.get(key):
            wanted[key] = (None, "one process on a CPU shards nothing")
    if settings.get("torch_compile"):
        wanted["torch_compile"] = (False, "compiling for a CPU takes longer than it saves")
    if settings.get("adapter") in ("lora", "qlora") and not settings.get("rl"):
        wanted |= {
            key: (False, "a Triton kernel, which axolotl turns on by itself")
            for key in _LORA_KERNELS
        }
    return [
        Change(key, settings.get(key), value, reason)
        for key, (value, reason) in wanted.items()
        if settings.get(key) != value
    ]


def optimizer_needs_gpu(name: str) -> bool:
    """Whether an optimizer of this name runs on a GPU only."""
    return any(mark in name for mark in _GPU_OPTIMIZER)


def needs_gpu(plugin: str) -> bool:
    """Whether an axolotl plugin of this name runs on a GPU only."""
    return any(f".{name}." in plugin for name in _GPU_PLUGINS)


def impossible(recipe: Recipe) -> Iterator[Diagnostic]:
    """Yield what of a recipe no change makes run on a CPU."""
    for key in _GPU_KEYS:
        if recipe.settings.get(key):
            yield NOT_ON_CPU.at(
                recipe.key_span(key), f"{key} needs a GPU", f"try it without: {key}=null"
            )
    for index, plugin in enumerate(recipe.settings.get("plugins") or []):
        if needs_gpu(str(plugin)):
            yield NOT_ON_CPU.at(
                recipe.value_span("plugins", str(index)), f'plugin "{plugin}" needs a GPU'
            )
