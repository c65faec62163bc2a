"""All that is known of a run at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.runs.values import number
from launcher.watch.bars import Bar

LIVE = ("starting", "running", "saving")  # states of a run that has not ended


@dataclass(frozen=True)
class Plan:
    """What was forecast before the start: hours, GiB, and USD an hour for all GPUs of the run
    together. ``price``: where that is from, in words.
    """

    hours: float | None = None
    peak_gib: float | None = None
    card_gib: float | None = None
    steps: int | None = None
    usd_an_hour: float | None = None
    price: str = ""


def plan(data: Mapping[str, Any]) -> Plan:
    """Return the plan that a run folder holds, as far as it makes sense."""
    hours = data.get("hours")
    price = data.get("price")
    steps = number(data.get("steps"))
    return Plan(
        hours=number(hours.get("likely") if isinstance(hours, Mapping) else hours),
        peak_gib=number(data.get("peak_gib")),
        card_gib=number(data.get("card_gib")),
        steps=int(steps) if steps else None,
        usd_an_hour=number(data.get("usd_an_hour")),
        price=price if isinstance(price, str) else "",
    )


@dataclass(frozen=True)
class Seen:
    """A run at one moment. Times are Unix seconds, spans seconds; none is not known.

    ``steps`` is all that there will be, ``batches`` of an evaluation that many done of so many.
    ``tokens_per_second`` is that of all GPUs together, ``peak_gib`` that of one. The curves have a
    number for each record of the trainer, NaN where there was none that is finite. ``seconds`` is
    how long the last start took, or takes, ``earlier`` all before it together. ``sign`` is when the
    run last said anything, ``last`` its last line.
    """

    name: str
    state: str = ""
    phase: str = "start"
    step: int = 0
    steps: int | None = None
    batches: tuple[int, int | None] | None = None
    bar: Bar | None = None
    loss: float | None = None
    margin: float | None = None
    accuracy: float | None = None
    eval_loss: float | None = None
    evaluations: int = 0
    losses: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()
    seconds_a_step: float | None = None
    tokens_per_second: float | None = None
    peak_gib: float | None = None
    eta: float | None = None
    seconds: float | None = None
    earlier: float = 0.0
    sign: float | None = None
    last: str = ""
    pid: int | None = None
    plan: Plan = field(default_factory=Plan)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in (*LIVE, "")

    @property
    def usd(self) -> float | None:
        """What all starts of it have cost so far, in USD."""
        if self.seconds is None or self.plan.usd_an_hour is None:
            return None
        return (self.earlier + self.seconds) / 3600 * self.plan.usd_an_hour

    @property
    def usd_forecast(self) -> float | None:
        """What it will have cost at its end, in USD: as measured, or before that as planned."""
        if self.usd is None or self.plan.usd_an_hour is None or self.ended:
            return None
        if self.eta is not None:
            return self.usd + self.eta / 3600 * self.plan.usd_an_hour
        if self.plan.hours is None or self.earlier:  # what of the plan is left is not known yet
            return None
        return max(self.usd, self.plan.hours * self.plan.usd_an_hour)
