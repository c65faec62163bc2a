"""The trainer's records: curves, speed, and the time that is left. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from launcher.progress import TOKENS, WARM
from launcher.runs.values import LARGEST, number

WINDOW = 20  # records that say how fast it is now


@dataclass(frozen=True)
class Record:
    """One record of a training step. What is not finite is NaN, what was not logged none."""

    step: int
    time: float
    loss: float
    margin: float | None = None
    accuracy: float | None = None
    tokens: float | None = None  # trained on so far, all ranks
    rate: float | None = None  # tokens a second of one GPU
    peak_gib: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """One evaluation's loss."""

    step: int
    loss: float


def record(line: str) -> Record | Evaluation | None:
    """Return what a line of metrics.jsonl says, none where it is neither a step nor whole."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    step, when = number(found.get("step")), number(found.get("time"))
    if step is None or when is None:
        return None
    if "eval_loss" in found:
        return Evaluation(int(step), _value(found, "eval_loss"))
    if "loss" not in found:
        return None
    return Record(
        step=int(step),
        time=when,
        loss=_value(found, "loss"),
        margin=_value(found, "rewards/margins") if "rewards/margins" in found else None,
        accuracy=number(found.get("rewards/accuracies")),
        tokens=number(found.get("num_tokens")),
        rate=number(found.get(TOKENS)),
        peak_gib=number(found.get("peak_allocated_gib")),
    )


def _value(found: Mapping[str, Any], name: str) -> float:
    """Return a number, or NaN: the recorder writes null for what JSON cannot hold."""
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if abs(value) < LARGEST else math.nan


def joined(records: Sequence[Record], new: Sequence[Record]) -> tuple[Record, ...]:
    """Return all records in order; a step that was trained again after a resumption counts as it
    was the last time.
    """
    kept = list(records)
    for one in new:
        while kept and kept[-1].step >= one.step:
            kept.pop()
        kept.append(one)
    return tuple(kept)


@dataclass(frozen=True)
class Pace:
    """How fast a run is: seconds a step now and on the whole (evaluations and saves included),
    tokens a second of all GPUs.
    """

    now: float | None = None
    mean: float | None = None
    tokens: float | None = None


def pace(records: Sequence[Record], processes: int) -> Pace:
    """Return the speed that the records of one start show: the first steps, which compile kernels
    and fill caches, are not counted.
    """
    warm = [one for one in records if one.step >= WARM]
    recent = warm[-WINDOW:]
    spans = [
        (after.time - before.time) / (after.step - before.step)
        for before, after in pairwise(recent)
    ]
    if not spans:
        return Pace(tokens=_tokens(recent, processes))
    mean = (warm[-1].time - warm[0].time) / (warm[-1].step - warm[0].step)
    return Pace(max(0.0, median(spans)), max(0.0, mean), _tokens(recent, processes))


def _tokens(recent: Sequence[Record], processes: int) -> float | None:
    rates = [one.rate for one in recent if one.rate is not None]
    if rates:
        return fmean(rates) * processes
    counted = [(one.time, one.tokens) for one in recent if one.tokens is not None]
    if len(counted) < 2:
        return None
    (first, before), (last, after) = counted[0], counted[-1]
    return (after - before) / (last - first) if last > first and after > before else None


def left(
    records: Sequence[Record], found: Pace, *, step: int, steps: int | None, now: float
) -> float | None:
    """Return the seconds until the last step, at ``step`` of ``steps``; what passed since the last
    record is subtracted, but for each step that is left there stays its time.
    """
    if steps is None or found.mean is None or found.now is None or not records:
        return None
    last = records[-1]
    ahead = max(0, steps - last.step) * found.mean - max(0.0, now - last.time)
    return max(ahead, max(0, steps - step) * min(found.now, found.mean))
