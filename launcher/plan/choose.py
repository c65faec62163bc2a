"""Which way to spread a run over its GPUs: the fastest that fits."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.diagnostics import LauncherError
from launcher.hardware import GIB
from launcher.models import ModelFacts
from launcher.plan.data.rows import Rows
from launcher.plan.forecast import Forecast, Hardware, forecast
from launcher.plan.job import Unplanned
from launcher.plan.memory import Verdict
from launcher.plan.variants import Variant, shardings
from launcher.recipe import Recipe

AUTO = "auto"
HARDLY = 1.03  # no forecast tells such times apart
_ORDER = {Verdict.OK: 0, Verdict.TIGHT: 1, Verdict.NO: 2}


@dataclass(frozen=True)
class Way:
    """One way to spread a run, and what it takes."""

    change: Variant
    forecast: Forecast


def allowed(recipe: Recipe, facts: ModelFacts) -> list[Variant]:
    """Return the ways to spread ``recipe`` over several GPUs that axolotl allows."""
    return [change for change in shardings(facts) if change.allowed(recipe)]


def ways(
    recipe: Recipe,
    facts: ModelFacts,
    hardware: Hardware,
    rows: Rows | None,
    changes: Sequence[Variant],
) -> list[Way]:
    """Return what each of the ``changes`` takes; those without a formula are left out."""
    found = []
    for change in changes if hardware.world > 1 else changes[:1]:
        with contextlib.suppress(Unplanned):
            taken = forecast(change.applied(recipe), facts, hardware, rows)
            found.append(Way(change, taken))
    return found


def planned(
    recipe: Recipe, facts: ModelFacts, hardware: Hardware, rows: Rows | None
) -> tuple[Forecast, Variant | None]:
    """Return what ``axr train`` would run: the recipe as it is, or with ``distributed: auto`` the
    best way to spread it, with the change that this takes. Raises ``LauncherError``.
    """
    if recipe.block.get("distributed") != AUTO:
        return forecast(recipe, facts, hardware, rows), None
    known = ways(recipe, facts, hardware, rows, allowed(recipe, facts))
    if not known:
        raise LauncherError("distributed: auto, and axolotl allows no way to spread it")
    chosen = best(known)
    return chosen.forecast, chosen.change


def best(all_ways: list[Way]) -> Way:
    """Return the fastest way that fits; of those hardly slower, the one that divides least."""
    level = min(_ORDER[way.forecast.verdict] for way in all_ways)
    fitting = [way for way in all_ways if _ORDER[way.forecast.verdict] == level]
    if level == _ORDER[Verdict.NO]:
        return max(fitting, key=lambda way: way.forecast.free)
    fastest = min(way.forecast.seconds_a_sample for way in fitting)
    return next(way for way in fitting if way.forecast.seconds_a_sample <= fastest * HARDLY)


def reason(chosen: Way, all_ways: list[Way]) -> str:
    """Return in one sentence why a way was chosen: what the simpler ones lack."""
    name, taken = chosen.change.name, chosen.forecast
    card = taken.hardware.gpu
    if taken.verdict is Verdict.NO:
        return f"none fits; {name} is nearest, with {-taken.free / GIB:.1f} GiB too much"
    simpler = all_ways[: all_ways.index(chosen)]
    if not simpler:
        return f"{name} fits, and nothing is more than {HARDLY - 1:.0%} faster"
    before = simpler[-1]
    if _ORDER[before.forecast.verdict] > _ORDER[taken.verdict]:
        need = before.forecast.memory.needed / GIB
        return f"{before.change.name} needs {need:.1f} GiB of {card.memory:.1f}; {name} fits"
    gain = before.forecast.seconds_a_sample / taken.seconds_a_sample - 1
    return f"{name} fits and is {gain:.0%} faster than {before.change.name}"
