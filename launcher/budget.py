"""What a run may cost, in hours and in USD, and whether it will: pure arithmetic on a price."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.diagnostics import Code, Diagnostic, LauncherError, Severity
from launcher.plan.forecast import Forecast, Range
from launcher.plan.prices import Price, given, prices
from launcher.progress import duration
from launcher.recipe import BLOCK, Recipe
from launcher.rules.rule import number

FORECAST_OVER = Code(
    "L304",
    "forecast-over-budget",
    Severity.WARNING,
    "The run will be stopped before its end, with a checkpoint, and what was paid buys half a "
    "training.",
)
PRICE_ASSUMED = Code(
    "L305",
    "price-assumed",
    Severity.WARNING,
    "Where a machine is rented is not known, so its price is the lowest that is known for its "
    "GPUs: a cap in USD that rests on it may be passed.",
)
# A step, a checkpoint and the final save come after the stop: assumed to take three minutes, and of
# few hours a tenth.
RESERVE, SHARE = 180.0, 0.1  # seconds, and a part of the whole
# What a provider sets in each of its machines.
_PROVIDERS = {"RUNPOD_POD_ID": "runpod", "VAST_CONTAINERLABEL": "vast"}


@dataclass(frozen=True)
class Rent:
    """What the machines of a run cost: so many GPUs at a price; ``assumed`` where nobody said so
    and the machine does not tell whose it is.
    """

    price: Price
    gpus: int
    assumed: bool = False

    @property
    def usd_an_hour(self) -> float:
        """USD for all GPUs together; whole instances are paid for."""
        return self.price.rented(self.gpus) * self.price.usd

    def __str__(self) -> str:
        """Return for instance "runpod-secure, 1.79 USD a GPU and hour, of 2026-11-09"."""
        of = f", of {self.price.as_of}" if self.price.as_of else ""
        return f"{self.price.provider}, {self.price.usd:.2f} USD a GPU and hour{of}"


@dataclass(frozen=True)
class Budget:
    """What a run may take over all its starts; none is no limit."""

    hours: float | None = None
    usd: float | None = None

    def limit(self, rent: Rent | None) -> float | None:
        """Return the hours that a run may take in all; none without a budget. Raises
        ``LauncherError`` for USD without a price.
        """
        if self.usd is None:
            return self.hours
        if rent is None or rent.usd_an_hour <= 0:
            fact = f"a budget of {self.usd:g} USD, and no price is known for this machine"
            raise LauncherError(fact, "--price 1.79    (USD for a GPU and hour)", exit_code=2)
        affordable = self.usd / rent.usd_an_hour
        return affordable if self.hours is None else min(self.hours, affordable)

    def __str__(self) -> str:
        """Return for instance "3 h, 20.00 USD"."""
        parts = [f"{self.hours:g} h"] if self.hours is not None else []
        return ", ".join(parts + ([f"{self.usd:.2f} USD"] if self.usd is not None else []))


def budget(recipe: Recipe, hours: float | None, usd: float | None) -> Budget:
    """Return what the recipe allows itself (``x-recipe.budget``); what is given beside wins."""
    own = recipe.block.get("budget")
    own = own if isinstance(own, dict) else {}
    return Budget(
        number(own.get("hours")) if hours is None else hours,
        number(own.get("usd")) if usd is None else usd,
    )


def rent(
    kind: str | None, gpus: int, overrides: Sequence[str], environ: Mapping[str, str]
) -> Rent | None:
    """Return what ``gpus`` GPUs of a kind cost here, none where no price is known: of the provider
    whose machine this is its highest, else the lowest that was given (``overrides``, as
    ``launcher.plan.prices`` has them), else the lowest. An amount that was given for this kind
    alone stands instead of all. Without a kind of GPU only an amount counts, for a machine. Raises
    ``LauncherError``.
    """
    if kind is None:
        return Rent(given(overrides[-1]), gpus) if overrides else None
    found = prices(kind, overrides, gpus=gpus)
    provider = next((name for mark, name in _PROVIDERS.items() if environ.get(mark)), None)
    its = [one for one in found if provider and one.provider.startswith(provider)]
    if its:
        return Rent(max(its, key=lambda one: one.rented(gpus) * one.usd), gpus)
    known = prices(kind, gpus=gpus)
    said = [one for one in found if one not in known]
    return Rent((said or found)[0], gpus, assumed=not said) if found else None


def left(own: Budget, rent: Rent | None, spent: float) -> float | None:
    """Return the hours that a run may still take after those it has had; none without a budget.
    Raises ``LauncherError`` where nothing is left.
    """
    limit = own.limit(rent)
    if limit is None or limit > spent:
        return None if limit is None else limit - spent
    fact = f"the run's budget of {own} is spent: it has had {spent:.2f} h"
    flag = f"--max-hours {2 * limit:.3g}" if own.usd is None else f"--max-cost {2 * own.usd:.3g}"
    raise LauncherError(fact, f"{flag}    (for all its starts together)", exit_code=1)


def stops_after(hours: float) -> float:
    """Return the seconds after which a training of so many hours has to stop, so that it ends
    within them.
    """
    whole = hours * 3600
    return whole - min(RESERVE, SHARE * whole)


def check(
    recipe: Recipe, own: Budget, rent: Rent | None, forecast: Forecast | None, done: float
) -> Iterator[Diagnostic]:
    """Yield what is to be known of a budget before the start; ``done`` is the share of the steps
    that earlier starts have made, and what they took is in the budget, too.
    """
    limit = own.limit(rent)
    if limit is None:
        return
    span = recipe.key_span(BLOCK, "budget")
    if own.usd is not None and rent and rent.assumed:
        fact = f"the budget of {own.usd:g} USD rests on an assumed price: {rent}"
        yield PRICE_ASSUMED.at(span, fact, f"--price {rent.price.usd:g}    (what you really pay)")
    hours = forecast.hours if forecast else None
    if forecast is None or hours is None or hours.high <= limit:
        return
    takes = _words(hours, rent)
    will = "will" if hours.likely > limit else "may"
    steps = forecast.length.steps or 0
    stops = max(1, round(steps * limit / max(hours.likely, limit)))
    fact = f"the run takes {takes}, its budget is {own}: it {will} be stopped before its end"
    if hours.likely > limit and stops > done * steps:
        fact += f", near step {stops:,} of {steps:,}"
    yield FORECAST_OVER.at(span, fact, _enough(own, hours, rent))


def facts(forecast: Forecast | None, rent: Rent | None) -> dict[str, Any]:
    """Return what a run's folder keeps of its forecast and its price: ``plan.json``. ``peak_gib``
    is without CUDA's context, as torch measures it.
    """
    found: dict[str, Any] = {}
    if forecast:
        memory = forecast.memory
        found = {
            "hours": vars(forecast.hours) if forecast.hours else None,
            "steps": forecast.length.steps,
            "seconds_a_step": round(forecast.speed.step, 4),
            "peak_gib": round(memory.allocated / 2**30, 2),
            "card_gib": forecast.hardware.gpu.memory,
            "hardware": str(forecast.hardware),
        }
    if rent:
        found |= {"usd_an_hour": round(rent.usd_an_hour, 4), "price": str(rent)}
    return found


def _words(hours: Range, rent: Rent | None) -> str:
    words = f"{duration(hours.likely)} ({duration(hours.low)} to {duration(hours.high)})"
    return words + (f", {hours.likely * rent.usd_an_hour:.2f} USD" if rent else "")


def _enough(own: Budget, hours: Range, rent: Rent | None) -> str:
    """Return the flag with which the run would come to its end."""
    if own.usd is not None and rent:
        return f"--max-cost {_rounded_up(hours.high * rent.usd_an_hour)}"
    return f"--max-hours {_rounded_up(hours.high)}"


def _rounded_up(amount: float) -> str:
    """Return two digits, never less than the amount."""
    unit = 10.0 ** (math.floor(math.log10(amount)) - 1)
    return f"{math.ceil(amount / unit) * unit:g}"
