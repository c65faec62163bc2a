"""The batch: what one optimizer step sees."""

from __future__ import annotations

from typing import Any

from launcher.diagnostics import Related, Severity
from launcher.recipe import BLOCK, Recipe
from launcher.rules.rule import Finding, Findings, rule


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


def replicas(recipe: Recipe, world_size: int) -> int:
    """Return how many GPUs see different samples: those of one tensor- or context-parallel group
    see the same (axolotl/utils/config/__init__.py, normalize_config).
    """
    keys = ("tensor_parallel_size", "context_parallel_size")
    tensor, context = (max(1, whole(recipe.value.get(key))) for key in keys)
    return max(1, world_size // context // tensor)


def accumulation_steps(recipe: Recipe, processes: int) -> int | None:
    """Return the steps that keep the recipe's global batch on so many processes.

    None where the recipe states no global batch, where it does not divide, and where the command
    line gives the steps itself.
    """
    total, micro = whole(recipe.block.get("global_batch_size")), micro_batch(recipe)
    if total < 1 or micro < 1 or "gradient_accumulation_steps" in overridden(recipe):
        return None
    return accumulation(total, micro, replicas(recipe, processes))


def micro_batch(recipe: Recipe) -> int:
    """Return the samples that one GPU takes at a time; 0 where the recipe says nothing or less."""
    return max(0, whole(recipe.settings.get("micro_batch_size", 1)))


def overridden(recipe: Recipe) -> set[str]:
    """Return the keys that the command line gives."""
    return {text.partition("=")[0] for text in recipe.overrides}


@rule("R201", "global-batch-mismatch", Severity.ERROR)
def global_batch_size(recipe: Recipe) -> Findings:
    """``global_batch_size`` is not micro batch x gradient accumulation x GPUs.

    With axolotl alone the recipe trains with another batch than it says; ``axr train`` derives the
    accumulation from the stated one.

    Example:

    ```yaml
    micro_batch_size: 2
    gradient_accumulation_steps: 4
    x-recipe:
      title: sixteen samples a step
      method: sft
      needs: {gpu: a100-80gb, gpus: 1, disk: 50}
      global_batch_size: 16
    ```

    Use instead:

    ```yaml
    micro_batch_size: 2
    gradient_accumulation_steps: 8
    x-recipe:
      title: sixteen samples a step
      method: sft
      needs: {gpu: a100-80gb, gpus: 1, disk: 50}
      global_batch_size: 16
    ```
    """
    stated = whole(recipe.block.get("global_batch_size"))
    gpus = replicas(recipe, whole(recipe.block.get("needs", {}).get("gpus")))
    micro = whole(recipe.value.get("micro_batch_size", 1))
    steps = whole(recipe.value.get("gradient_accumulation_steps", 1))
    given = micro * steps * gpus
    if recipe.overrides or stated < 1 or given < 1 or given == stated:
        return
    fact = (
        f"micro_batch_size {micro} x gradient_accumulation_steps {steps} x {gpus} "
        f"{'GPU' if gpus == 1 else 'GPUs'} = {given} samples a step; global_batch_size is {stated}"
    )
    if right := accumulation(stated, micro, gpus):
        hint = f"gradient_accumulation_steps: {right}"
    else:
        hint = f"global_batch_size: {' or '.join(map(str, nearest_batches(stated, micro, gpus)))}"
    related = (Related("stated here", recipe.value_span(BLOCK, "global_batch_size")),)
    yield Finding(recipe.key_span("gradient_accumulation_steps"), fact, hint, related)


def whole(value: Any) -> int:
    """Return the whole number that axolotl reads in a checked value: 2, "2" and 2.0 are 2; nothing
    is 0.
    """
    return int(value.partition(".")[0]) if isinstance(value, str) else int(value or 0)


RULES = (global_batch_size,)
