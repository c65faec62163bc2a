"""The batch: what one optimizer step sees."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.diagnostics import Code, Diagnostic, Related, Severity
from launcher.recipe import BLOCK, Recipe

GLOBAL_BATCH = Code(
    "R201",
    "global-batch-mismatch",
    Severity.ERROR,
    "With axolotl alone the recipe trains with another batch than it says; the launcher would "
    "derive the stated one.",
)


def accumulation(global_batch: int, micro_batch: int, world_size: int) -> int | None:
    """Return the gradient accumulation steps that give ``global_batch`` samples a step, or none
    where it does not divide.
    """
    steps, rest = divmod(global_batch, micro_batch * world_size)
    return steps if steps and not rest else None


def nearest_batches(global_batch: int, micro_batch: int, world_size: int) -> list[int]:
    """Return the global batch sizes next below and above that divide by ``micro_batch`` x
    ``world_size``.
    """
    unit = micro_batch * world_size
    below = global_batch // unit * unit
    return [size for size in (below, below + unit) if size]


def global_batch_size(recipe: Recipe) -> Iterator[Diagnostic]:
    """``global_batch_size`` is not micro batch x gradient accumulation x the GPUs that the recipe
    needs.
    """
    needs = recipe.block.get("needs", {})
    stated = recipe.block.get("global_batch_size")
    gpus = max(1, needs.get("gpus", 1))
    micro = recipe.value.get("micro_batch_size", 1)
    steps = recipe.value.get("gradient_accumulation_steps", 1)
    if (
        stated is None
        or recipe.overrides
        or not all(isinstance(n, int) and n > 0 for n in (micro, steps, gpus, stated))
    ):
        return
    if micro * steps * gpus != stated:
        fact = (
            f"{micro} x {steps} x {gpus} GPU = {micro * steps * gpus} samples a step, not {stated}"
        )
        right = accumulation(stated, micro, gpus)
        hint = (
            f"gradient_accumulation_steps: {right}"
            if right
            else f"global_batch_size: {' or '.join(map(str, nearest_batches(stated, micro, gpus)))}"
        )
        related = (Related("stated here", recipe.value_span(BLOCK, "global_batch_size")),)
        yield GLOBAL_BATCH.at(recipe.key_span("gradient_accumulation_steps"), fact, hint, related)
