"""How often a run evaluates and saves, as axolotl sets it up and transformers carries it out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from launcher.rules.rule import number
from launcher.schema.validator import is_on

DEFAULT_SAVE_STEPS = 500  # transformers, TrainingArguments.save_steps


def evaluations(value: Mapping[str, Any], steps: int | None, epochs: int) -> int:
    """Return how often the run evaluates; ``epochs``: those it begins.

    Nothing without rows to evaluate, else once more at the start (axolotl core/builders/base.py,
    _configure_save_and_eval_strategy), and under "steps" also at the last step
    (transformers trainer_callback.py, DefaultFlowCallback).
    """
    if not (value.get("test_datasets") or number(value.get("val_set_size"))):
        return 0
    every = number(value.get("eval_steps")) or _share(value, "evals_per_epoch")
    strategy = "steps" if every else value.get("eval_strategy")
    if strategy == "epoch":
        return 1 + epochs
    if strategy != "steps":
        return 0
    return 1 + (_times(every or _logging_steps(value, steps), steps) or 0)


def checkpoints(value: Mapping[str, Any], steps: int | None, epochs: int) -> int | None:
    """Return how many checkpoints the run writes, none where that needs the unknown number of
    steps. ``save_strategy: best`` writes at most one an evaluation, but none at the start.
    """
    every = number(value.get("save_steps")) or _share(value, "saves_per_epoch")
    strategy = "steps" if every else value.get("save_strategy") or "epoch"
    first = int(is_on(value.get("save_first_step")))
    if strategy == "no":
        return first
    if strategy == "best":
        return first + max(0, evaluations(value, steps, epochs) - 1)
    if strategy != "steps":
        return first + epochs
    times = _times(every or DEFAULT_SAVE_STEPS, steps)
    return None if times is None else min(times + first, steps or times + first)


def _share(value: Mapping[str, Any], key: str) -> float | None:
    """Return the share of all steps that so many times an epoch are (utils/config/__init__.py,
    normalize_config): of once or less in a run, axolotl makes nothing.
    """
    total = (number(value.get(key)) or 0.0) * (number(value.get("num_epochs")) or 1.0)
    return 1 / total if total > 1 else None


def _times(every: float, steps: int | None) -> int | None:
    """Return how often something happens each so many steps (below 1 a share of all, rounded up)
    and at the last one.
    """
    if steps is None or not math.isfinite(every) or every <= 0:
        return math.ceil(1 / every) if 0 < every < 1 else None
    each = math.ceil(steps * every) if every < 1 else int(every)
    return math.ceil(steps / max(each, 1))


def _logging_steps(value: Mapping[str, Any], steps: int | None) -> float:
    """Return what transformers takes for eval_steps that are not given (training_args.py); axolotl
    sets 0.5 % of the steps, 10 at most.
    """
    return number(value.get("logging_steps")) or max(min(int(0.005 * (steps or 0)), 10), 1)
