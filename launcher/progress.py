"""How a run goes, from its own records: what replaces the forecast once it is under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WARM = 2  # the first steps compile kernels and fill caches
ENOUGH = 10  # steps after which a measurement is better than any formula
TOKENS = "tokens/train_per_sec_per_gpu"  # logged by axolotl (core/trainers/base.py)


@dataclass(frozen=True)
class Progress:
    """The measured speed of a run. ``steps`` is all that it will do, if it says so. The peak and
    the tokens per second of each GPU are none on a CPU, or where nothing was logged.
    """

    step: int
    steps: int | None
    seconds_a_step: float
    peak_gib: float | None = None
    tokens_per_second: float | None = None

    @property
    def hours_left(self) -> float | None:
        """Hours until the last step."""
        return None if self.steps is None else (self.steps - self.step) * self.seconds_a_step / 3600


def measured(records: Sequence[Mapping[str, Any]], since: float = 0.0) -> Progress | None:
    """Return the speed that the trainer's records from ``since`` on (Unix seconds) show; none
    before `ENOUGH` steps.

    Evaluations and saves between the first and the last record are part of it. The break before a
    resumption is not: ``since`` is when the last start began, as one that goes on where the one
    before stopped cannot be told by its steps.
    """
    steps = [one for one in _since_resumption(records, since) if one["step"] >= WARM]
    if len(steps) < 2 or steps[-1]["step"] < ENOUGH:
        return None
    first, last = steps[0], steps[-1]
    if last["step"] == first["step"]:
        return None
    rates = [float(one[TOKENS]) for one in steps if one.get(TOKENS)]
    peaks = [float(one["peak_allocated_gib"]) for one in steps if one.get("peak_allocated_gib")]
    return Progress(
        step=last["step"],
        steps=last.get("max_steps"),
        seconds_a_step=(last["time"] - first["time"]) / (last["step"] - first["step"]),
        peak_gib=max(peaks, default=None),
        tokens_per_second=sum(rates) / len(rates) if rates else None,
    )


def sentence(found: Progress) -> str:
    """Return the measurement in one line."""
    parts = [f"measured at step {found.step}: {found.seconds_a_step:.3g} s a step"]
    if found.tokens_per_second:
        parts.append(f"{found.tokens_per_second:,.0f} tokens/s a GPU")
    if found.peak_gib:
        parts.append(f"peak allocated {found.peak_gib:.1f} GiB")
    if found.hours_left is not None:
        parts.append(f"{duration(found.hours_left)} left")
    return ", ".join(parts)


def duration(hours: float) -> str:
    """Return hours as a person says them: 40 s, 12 min, 3.5 h, 2.1 days."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _since_resumption(
    records: Sequence[Mapping[str, Any]], since: float
) -> list[Mapping[str, Any]]:
    """Return the records of training steps from a time on, and since the number of the step last
    fell.
    """
    training = [one for one in records if _is_step(one) and one["time"] >= since]
    begin = 0
    for index in range(1, len(training)):
        if training[index]["step"] < training[index - 1]["step"]:
            begin = index
    return training[begin:]


def _is_step(record: Mapping[str, Any]) -> bool:
    counted, timed = (
        isinstance(record.get("step"), int),
        isinstance(record.get("time"), int | float),
    )
    return counted and timed and "loss" in record
