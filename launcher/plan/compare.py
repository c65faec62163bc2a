"""The same recipe on other machines, the cheapest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.diagnostics import LauncherError
from launcher.hardware import GPUS
from launcher.models import ModelFacts
from launcher.plan.choose import Way, allowed, best, ways
from launcher.plan.data.rows import Rows
from launcher.plan.forecast import Hardware
from launcher.plan.memory import Verdict
from launcher.plan.prices import Price, prices
from launcher.plan.variants import Variant, divided
from launcher.recipe import Recipe

COUNTS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Offer:
    """A machine on which the recipe fits: the ``batch`` that divides there, the ``way`` to spread
    it, the cheapest ``price``, if one is known.
    """

    hardware: Hardware
    batch: Variant
    way: Way
    price: Price | None

    @property
    def usd(self) -> float | None:
        """USD of a whole run; without known rows of a thousand samples, start-up left out."""
        if self.price is None:
            return None
        if (whole := self.way.forecast.cost(self.price)) is not None:
            return whole.likely
        hours = self.way.forecast.seconds_a_sample * 1000 / 3600
        return hours * self.price.rented(self.hardware.world) * self.price.usd

    @property
    def hours(self) -> float:
        """Hours of training of the same run."""
        hours = self.way.forecast.hours
        return hours.likely if hours else self.way.forecast.seconds_a_sample * 1000 / 3600


def offers(
    recipe: Recipe, facts: ModelFacts, rows: Rows | None, overrides: Sequence[str] = ()
) -> list[Offer]:
    """Return the machines on which ``recipe`` fits, the cheapest first, those without a price
    last. ``overrides`` are prices as `prices` takes them.
    """
    found = list(_offers(recipe, facts, rows, overrides))
    return sorted(found, key=lambda one: (one.usd is None, one.usd or 0.0, one.hours))


def _offers(
    recipe: Recipe, facts: ModelFacts, rows: Rows | None, overrides: Sequence[str]
) -> Iterator[Offer]:
    changes = allowed(recipe, facts)
    for gpu in (gpu for gpu in GPUS if gpu.bf16):
        for count in COUNTS:
            known = prices(gpu.name, overrides, gpus=count, offered=True)
            price = next((one for one in known if one.kind == "on-demand"), None)
            hardware, batch = Hardware(gpu, count), divided(recipe, count)
            if batch is None:
                continue
            try:
                tried = ways(batch.applied(recipe), facts, hardware, rows, changes)
            except LauncherError:
                continue
            chosen = best(tried) if tried else None
            if chosen and chosen.forecast.verdict is Verdict.OK:
                yield Offer(hardware, batch, chosen, price)
