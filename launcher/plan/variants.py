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
from launcher.rules.batch import micro_batch, replicas, whole
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
# The pinned stack has no cut_cross_entropy: it comes from a repository, not from an index.
_CUT_NOTE = (
    "needs axolotl's fork of cut-cross-entropy: see axolotl's integrations/cut_cross_entropy"
)
_OFFLOAD_NOTE = "needs nvcc on the machine: DeepSpeed compiles its CPU Adam at the first start"
_CUT = "axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin"
_LIGER = "axolotl.integrations.liger.LigerPlugin"


@dataclass(frozen=True)
class Variant:
    """New values of a recipe's keys; none takes a key out. ``note``: what else has to be done."""

    name: str
    settings: Mapping[str, Any]
    note: str = ""

    def applied(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the change made."""
        kept = {key: value for key, value in recipe.value.items() if key not in self.settings}
        new = {key: value for key, value in self.settings.items() if value is not None}
        return replace(recipe, value={**kept, **new})

    @property
    def pairs(self) -> list[str]:
        """The change as ``key=value`` for the command line, where its values are plain."""
        return [f"{key}={value}" for key, value in self.settings.items()]

    def allowed(self, recipe: Recipe) -> bool:
        """Return whether the checks find no error in the changed recipe."""
        return not has_errors(validate(self.applied(recipe)))


def shardings(facts: ModelFacts) -> list[Variant]:
    """Return the ways to spread a run over several GPUs, the least divided first."""
    zero = [
        Variant(f"ZeRO-{stage}", {**_UNSHARDED, "deepspeed": f"recipes/deepspeed/zero{stage}.json"})
        for stage in (1, 2, 3)
    ]
    fsdp = {
        "offload_params": False,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "transformer_layer_cls_to_wrap": BLOCKS[facts.architecture],
        "state_dict_type": "FULL_STATE_DICT",
        "reshard_after_forward": True,
    }
    sharded = Variant("FSDP2", {**_UNSHARDED, "fsdp_version": 2, "fsdp_config": fsdp})
    return [Variant("DDP", _UNSHARDED), *zero, sharded]


def divided(recipe: Recipe, world: int) -> Variant | None:
    """Return the change to the largest micro batch with which the stated global batch divides among
    ``world`` GPUs; none where no micro batch does.
    """
    total, micro = whole(recipe.block.get("global_batch_size")), micro_batch(recipe)
    fits = (size for size in range(micro, 0, -1) if total % (size * replicas(recipe, world)) == 0)
    size = next(fits, None)
    if size is None or size == micro:
        return None if size is None else Variant("as it is", {})
    return Variant(f"micro batch {micro} -> {size}", {"micro_batch_size": size})


def savings(recipe: Recipe, facts: ModelFacts) -> Iterator[Variant]:
    """Yield the changes that lower memory and leave what is trained as it is, but for the last,
    which quantizes the frozen weights.
    """
    settings = recipe.settings
    if not is_on(settings.get("gradient_checkpointing")):
        yield Variant("recompute activations", {"gradient_checkpointing": True})
    yield from _batches(recipe)
    yield from _losses(settings, facts)
    optimizer = str(settings.get("optimizer") or "")
    own = not settings.get("deepspeed")  # DeepSpeed keeps fp32 master weights beside any states
    if own and "8bit" not in optimizer:
        yield Variant("8-bit optimizer", {"optimizer": "adamw_8bit"})
    if own and "paged" not in optimizer:
        note = "its states move to host memory when the card is full, which takes time"
        yield Variant("8-bit optimizer, paged", {"optimizer": "paged_adamw_8bit"}, note)
    yield from _offloads(settings)
    if settings.get("adapter") == "lora" and not is_on(settings.get("load_in_8bit")):
        yield Variant("4-bit base", {"adapter": "qlora", "load_in_4bit": True})


def _offloads(settings: Mapping[str, Any]) -> Iterator[Variant]:
    """Yield optimizer states, and then weights, in host memory; an adapter has hardly any."""
    if settings.get("adapter"):
        return
    for name, stage in (
        ("optimizer in host memory", 2),
        ("optimizer and weights in host memory", 3),
    ):
        file = f"recipes/deepspeed/zero{stage}-offload.json"
        if settings.get("deepspeed") != file:
            yield Variant(name, {**_UNSHARDED, "deepspeed": file}, _OFFLOAD_NOTE)


def _batches(recipe: Recipe) -> Iterator[Variant]:
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
        yield Variant(f"micro batch {micro} -> {smaller}", more)


def _losses(settings: Mapping[str, Any], facts: ModelFacts) -> Iterator[Variant]:
    """Yield losses that never hold all logits; TRL's DPO needs them, and GPT-2 has no patch."""
    listed = [str(name) for name in settings.get("plugins") or []]
    cut = any("cut_cross_entropy" in name for name in listed)
    if settings.get("rl") or cut or facts.architecture == "gpt2":
        return
    if not is_on(settings.get("liger_fused_linear_cross_entropy")):
        plugins = listed if any(".liger." in name for name in listed) else [*listed, _LIGER]
        fused = {"plugins": plugins, "liger_fused_linear_cross_entropy": True}
        yield Variant("Liger's fused loss", fused)
    yield Variant("cut cross entropy", {"plugins": [*listed, _CUT]}, _CUT_NOTE)
