"""How long a run is: steps and tokens, from rows, batch and epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.plan.job import Job
from launcher.plan.rows import Rows
from launcher.recipe import Recipe
from launcher.rules.rule import number

# Of a packed row this share is filled: first-fit-decreasing bins of axolotl's MultipackBatchSampler
# (utils/samplers/multipack.py) on instruction data come to 0.96 and more.
FILLED = 0.97


@dataclass(frozen=True)
class Length:
    """The size of a run. ``padded`` is how many tokens of a micro batch are computed on one GPU,
    ``longest`` the most of one row; both are bounds where ``measured`` is false.
    """

    steps: int | None  # optimizer steps; none: the rows are not known
    samples_a_step: int  # rows, or pairs, over all GPUs
    padded: float
    longest: int
    measured: bool
    evaluations: int = 0
    evaluated: int = 0  # rows of one evaluation


def length(recipe: Recipe, job: Job, rows: Rows | None) -> Length:
    """Return the size of a run of ``job``.

    Steps are counted as transformers does: the last, smaller batch of an epoch is a step, too
    (Trainer.set_initial_training_values). Rows longer than ``sequence_len`` are dropped.
    """
    fitting = [one for one in (rows.lengths if rows else ()) if one <= job.sequence_len]
    world = job.sharding.world
    samples = job.micro_batch * job.accumulation * world
    longest = max(fitting) if fitting and not job.packed else job.sequence_len
    padded = job.tokens * 1.0
    if fitting and not job.packed:
        padded = job.rows * expected_longest(fitting, job.micro_batch)
    count = _rows(job, rows, fitting)
    steps = _steps(recipe, count, job) if count is not None else _most(recipe)
    return Length(
        steps,
        samples,
        padded,
        longest,
        bool(fitting),
        _evaluations(recipe, steps),
        rows.evaluated if rows else 0,
    )


def expected_longest(lengths: Sequence[int], rows: int) -> float:
    """Return the mean length of the longest of so many rows drawn at random: what a batch is padded
    to. The i-th of n sorted lengths is the longest with probability (i/n)^rows - ((i-1)/n)^rows.
    """
    ordered, n = sorted(lengths), len(lengths)
    return sum(
        one * ((i / n) ** rows - ((i - 1) / n) ** rows) for i, one in enumerate(ordered, start=1)
    )


def _rows(job: Job, rows: Rows | None, fitting: Sequence[int]) -> int | None:
    """Return the rows of an epoch as the trainer sees them: packed ones are fewer."""
    if rows is None:
        return None
    kept = rows.count * len(fitting) / len(rows.lengths) if rows.lengths else rows.count
    if not (job.packed and fitting):  # how many go into one is not known: one at least
        return math.floor(kept)
    return math.ceil(kept * sum(fitting) / len(fitting) / (job.sequence_len * FILLED))


def _steps(recipe: Recipe, rows: int, job: Job) -> int:
    batches = math.ceil(rows / (job.micro_batch * job.sharding.world))
    each = max(1, math.ceil(batches / job.accumulation))
    steps = math.ceil(each * (number(recipe.value.get("num_epochs")) or 1))
    limit = _most(recipe)
    return min(steps, limit) if limit else steps


def _most(recipe: Recipe) -> int | None:
    limit = number(recipe.value.get("max_steps"))
    return int(limit) if limit and limit > 0 else None


def _evaluations(recipe: Recipe, steps: int | None) -> int:
    """Return how often the run evaluates: at each of ``eval_steps`` (below 1 a share of all), or as
    often an epoch as ``evals_per_epoch`` says.
    """
    value, epochs = recipe.value, number(recipe.value.get("num_epochs")) or 1
    if per_epoch := number(value.get("evals_per_epoch")):
        return int(per_epoch * epochs)
    if value.get("eval_strategy") == "epoch":
        return math.ceil(epochs)
    every = number(value.get("eval_steps"))
    if not every or steps is None:
        return 0
    return int(1 / every) if every < 1 else steps // int(every)


def checkpoints(recipe: Recipe, steps: int | None) -> int | None:
    """Return how many checkpoints a run writes, none where that needs the unknown number of steps.

    axolotl saves each epoch where nothing else is said (core/builders/base.py,
    _configure_save_strategy).
    """
    value, epochs = recipe.value, number(recipe.value.get("num_epochs")) or 1
    if per_epoch := number(value.get("saves_per_epoch")):
        return int(per_epoch * epochs)
    if every := number(value.get("save_steps")):
        if every < 1:
            return int(1 / every)
        return None if steps is None else steps // int(every)
    return 0 if value.get("save_strategy") == "no" else math.ceil(epochs)
