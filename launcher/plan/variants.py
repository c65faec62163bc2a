"""Changes of a recipe that save memory or spread it: in axolotl's own words, so that what a plan
proposes can be pasted, and the same checks say whether it is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from launcher.diagnostics import has_errors
from launcher.models import ModelFacts
from launcher.recipe import Recipe
from launcher.rules.batch import micro_batch, whole
from launcher.schema.validator import is_on
from launcher.validate import validate

# The class of a block, which FSDP wraps, by model_type (transformers 5.16, models/*/modeling_*.py).
BLOCKS = {
    "llama": "LlamaDecoderLayer",
    "qwen2": "Qwen2DecoderLayer",
    "qwen3": "Qwen3DecoderLayer",
    "mistral": "MistralDecoderLayer",
    "phi3": "Phi3DecoderLayer",
    "gpt2": "GPT2Block",
}
_UNSHARDED: dict[str, Any] = {
    "deepspeed": None,
    "fsdp": None,
    "fsdp_config": None,
    "fsdp_version": None,
}
_CUT = "axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin"
_LIGER = "axolotl.integrations.liger.LigerPlugin"


@dataclass(frozen=True)
class Change:
    """New values of a recipe's keys; none takes a key out."""

    name: str
    settings: Mapping[str, Any]

    def applied(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the change made."""
        kept = {key: value for key, value in recipe.value.items() if key not in self.settings}
        new = {key: value for key, value in self.settings.items() if value is not None}
        return replace(recipe, value={**kept, **new})

    def allowed(self, recipe: Recipe) -> bool:
        """Return whether the checks find no error in the changed recipe."""
        return not has_errors(validate(self.applied(recipe)))


def shardings(facts: ModelFacts) -> list[Change]:
    """Return the ways to spread a run over several GPUs, the least divided first."""
    zero = [
        Change(f"ZeRO-{stage}", {**_UNSHARDED, "deepspeed": f"recipes/deepspeed/zero{stage}.json"})
        for stage in (1, 2, 3)
    ]
    fsdp = {
        "offload_params": False,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "transformer_layer_cls_to_wrap": BLOCKS[facts.architecture],
        "state_dict_type": "FULL_STATE_DICT",
        "reshard_after_forward": True,
    }
    sharded = Change("FSDP2", {**_UNSHARDED, "fsdp_version": 2, "fsdp_config": fsdp})
    return [Change("DDP", _UNSHARDED), *zero, sharded]


def savings(recipe: Recipe) -> Iterator[Change]:
    """Yield the changes that lower memory and leave what is trained as it is, but for the last,
    which quantizes the frozen weights.
    """
    settings = recipe.settings
    if not is_on(settings.get("gradient_checkpointing")):
        yield Change("recompute activations", {"gradient_checkpointing": True})
    yield from _batches(recipe)
    yield from _losses(settings)
    optimizer = str(settings.get("optimizer") or "")
    if "8bit" not in optimizer:
        yield Change("8-bit optimizer", {"optimizer": "adamw_8bit"})
    if "paged" not in optimizer:
        yield Change("8-bit optimizer, paged", {"optimizer": "paged_adamw_8bit"})
    if settings.get("adapter") == "lora" and not is_on(settings.get("load_in_8bit")):
        yield Change("4-bit base", {"adapter": "qlora", "load_in_4bit": True})


def _batches(recipe: Recipe) -> Iterator[Change]:
    """Yield smaller micro batches with as many samples a step."""
    micro, steps = (
        micro_batch(recipe),
        whole(recipe.settings.get("gradient_accumulation_steps")) or 1,
    )
    for smaller in (size for size in range(micro - 1, 0, -1) if micro % size == 0):
        more = {
            "micro_batch_size": smaller,
            "gradient_accumulation_steps": steps * micro // smaller,
        }
        yield Change(f"micro batch {micro} -> {smaller}", more)


def _losses(settings: Mapping[str, Any]) -> Iterator[Change]:
    """Yield losses that never hold all logits; TRL's DPO needs them."""
    listed = [str(name) for name in settings.get("plugins") or []]
    if settings.get("rl") or any("cut_cross_entropy" in name for name in listed):
        return
    yield Change("cut cross entropy", {"plugins": [*listed, _CUT]})
    if not is_on(settings.get("liger_fused_linear_cross_entropy")):
        plugins = listed if any(".liger." in name for name in listed) else [*listed, _LIGER]
        settings_ = {"plugins": plugins, "liger_fused_linear_cross_entropy": True}
        yield Change("Liger's fused loss", settings_)
