"""How long a run is: steps and tokens, from rows, batch and epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from launcher.plan import schedule
from launcher.plan.data.rows import Rows
from launcher.plan.job import Job
from launcher.recipe import Recipe
from launcher.rules.rule import number
from launcher.schema.validator import is_on

# Of a packed row this share is filled: first-fit-decreasing bins of axolotl's MultipackBatchSampler
# (utils/samplers/multipack.py) on instruction data come to 0.96 and more.
FILLED = 0.97
SHORTEST = 2  # axolotl's min_sample_len where none is given (utils/trainer.py)
SLACK = 1 / 8  # a measured length is above the true one by less than this share of sequence_len
MULTIPLE = 64  # to which axolotl pads supervised rows (core/builders/causal.py)
MOST_PIECES = 64  # sequence_lens of one text of `type: completion` (completion.py)


@dataclass(frozen=True)
class Length:
    """The size of a run. ``padded`` is how many tokens of a micro batch are computed on one GPU,
    a bound where ``measured`` is false; ``longest`` the most of one row, a bound where ``complete``
    is false. ``sample``: mean tokens of a row before padding and packing, none where not measured.
    """

    steps: int | None  # optimizer steps; none: the rows are not known
    samples_a_step: int  # rows, or pairs, over all GPUs
    padded: float
    longest: int
    measured: bool
    evaluations: int = 0  # over the run, the one at its start included
    evaluated: int = 0  # rows of one evaluation
    complete: bool = False
    sample: float | None = None
    evaluation_batch: int = 1  # rows that a GPU evaluates at once
    evaluation_known: bool = True  # false: it has rows whose number is not known
    checkpoints: int | None = None  # that the run writes, kept or not

    def evaluation_batches(self, world: int) -> int:
        """Return the batches of one evaluation on each of ``world`` GPUs."""
        return -(-self.evaluated // (self.evaluation_batch * world))


def length(recipe: Recipe, job: Job, rows: Rows | None) -> Length:
    """Return the size of a run of ``job``.

    Steps are counted as transformers does: the last, smaller batch of an epoch is a step, too
    (Trainer.set_initial_training_values). Of long and short rows becomes what axolotl makes of
    them (`kept`).
    """
    found = kept(recipe, job, rows) if rows else ()
    padded, complete = job.tokens * 1.0, bool(rows and found and rows.complete and not job.packed)
    multiple = _multiple(recipe, job)
    if found and not job.packed:
        sizes = tuple(-(-one // multiple) * multiple for one in found)
        padded = job.rows * expected_longest(sizes, job.micro_batch)
    count = _rows(job, rows, found)
    steps = _steps(recipe, count, job) if count is not None else _most(recipe)
    epochs = _epochs(recipe, steps, count, job)
    evaluated = rows.evaluated if rows else 0
    return Length(
        steps,
        job.micro_batch * job.accumulation * job.sharding.world,
        padded,
        -(-max(found) // multiple) * multiple if complete else job.sequence_len,
        bool(found),
        schedule.evaluations(recipe.value, steps, epochs),
        _evaluated(recipe, job, evaluated, found),
        complete=complete,
        sample=sum(found) / len(found) if found else None,
        evaluation_batch=int(number(recipe.value.get("eval_batch_size")) or job.micro_batch),
        evaluation_known=rows.evaluation_known if rows else True,
        checkpoints=schedule.checkpoints(recipe.value, steps, epochs),
    )


def kept(recipe: Recipe, job: Job, rows: Rows) -> tuple[int, ...]:
    """Return the tokens of the measured rows that are trained on, after axolotl has dropped or cut
    long ones (``excess_length_strategy``; "raise" stops the run, and what it would do is no plan).

    Supervised rows: utils/data/utils.py, handle_long_seq_in_dataset; shorter ones than
    ``min_sample_len`` go. Pairs: utils/data/rl.py; of a pair only the answers are cut, and where
    the prompt alone is too long, it goes. Lengths are rounded up, so a row just above the limit
    may be below it: it counts as one at the limit.
    """
    limit, lengths = job.sequence_len, rows.lengths
    if rows.pieces:
        return tuple(piece for one in lengths for piece in _pieces(one, limit, _shortest(recipe)))
    strategy = recipe.value.get("excess_length_strategy") or "drop"
    room = limit + limit * SLACK
    if recipe.value.get("rl"):
        prompts = rows.prompts or (0,) * len(lengths)
        pairs = zip(lengths, prompts, strict=True)
        fits = (one <= room if strategy == "drop" else prompt <= room for one, prompt in pairs)
    else:
        shortest = _shortest(recipe)
        fits = (one >= shortest and (strategy != "drop" or one <= room) for one in lengths)
    return tuple(min(one, limit) for one, fit in zip(lengths, fits, strict=True) if fit)


def _shortest(recipe: Recipe) -> float:
    return number(recipe.value.get("min_sample_len")) or SHORTEST


def _pieces(tokens: int, limit: int, shortest: float) -> list[int]:
    """Return the rows that a text becomes (prompt_strategies/completion.py)."""
    whole, rest = divmod(min(tokens, MOST_PIECES * limit), limit)
    return [limit] * whole + ([rest] if rest >= shortest else [])


@lru_cache(maxsize=64)  # many variants of a recipe are compared on the same rows
def expected_longest(lengths: tuple[int, ...], rows: int) -> float:
    """Return the mean length of the longest of so many rows drawn at random: what a batch is padded
    to. The i-th of n sorted lengths is the longest with probability (i/n)^rows - ((i-1)/n)^rows.
    """
    ordered, n = sorted(lengths), len(lengths)
    return sum(
        one * ((i / n) ** rows - ((i - 1) / n) ** rows) for i, one in enumerate(ordered, start=1)
    )


def _multiple(recipe: Recipe, job: Job) -> int:
    """Return to what multiple of tokens a batch is padded: of pairs only where that is asked for
    (core/builders/rl.py).
    """
    asked = int(number(recipe.value.get("pad_to_multiple_of")) or 0)
    fixed = recipe.value.get("pad_to_sequence_len")
    if recipe.value.get("rl"):
        return max(asked, 1)
    if is_on(fixed):
        return job.sequence_len
    return (asked or MULTIPLE) if fixed is None else 1


def _rows(job: Job, rows: Rows | None, found: Sequence[int]) -> int | None:
    """Return the rows of an epoch as the trainer sees them: packed ones are fewer."""
    if rows is None:
        return None
    count = rows.count * len(found) / len(rows.lengths) if rows.lengths else rows.count
    if not (job.packed and found):  # how many go into one is not known: one at least
        return math.floor(count)
    return math.ceil(count * sum(found) / len(found) / (job.sequence_len * FILLED))


def _evaluated(recipe: Recipe, job: Job, rows: int, found: Sequence[int]) -> int:
    """Return the rows of an evaluation as it sees them: packed as in training, unless
    ``eval_sample_packing`` says no.
    """
    if not (job.packed and found) or recipe.value.get("eval_sample_packing") is False:
        return rows
    return math.ceil(rows * sum(found) / len(found) / (job.sequence_len * FILLED))


def _steps_an_epoch(rows: int, job: Job) -> int:
    batches = math.ceil(rows / (job.micro_batch * job.sharding.world))
    return max(1, math.ceil(batches / job.accumulation))


def _steps(recipe: Recipe, rows: int, job: Job) -> int:
    epochs = number(recipe.value.get("num_epochs")) or 1
    steps = math.ceil(_steps_an_epoch(rows, job) * epochs)
    limit = _most(recipe)
    return min(steps, limit) if limit else steps


def _epochs(recipe: Recipe, steps: int | None, rows: int | None, job: Job) -> int:
    """Return how many epochs the run begins: fewer where max_steps ends it."""
    if steps is None or rows is None:
        return math.ceil(number(recipe.value.get("num_epochs")) or 1)
    return math.ceil(steps / _steps_an_epoch(rows, job))


def _most(recipe: Recipe) -> int | None:
    limit = number(recipe.value.get("max_steps"))
    return int(limit) if limit and limit > 0 else None


def checkpoints(recipe: Recipe, steps: int | None) -> int | None:
    """Return how many checkpoints a run writes, none where that needs the unknown number of steps.
    `Length.checkpoints` also knows of epochs that max_steps cuts off.
    """
    epochs = math.ceil(number(recipe.value.get("num_epochs")) or 1)
    return schedule.checkpoints(recipe.value, steps, epochs)
