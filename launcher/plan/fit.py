"""What makes a recipe fit a card: the changes that suffice, the least costly first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from launcher.diagnostics import LauncherError
from launcher.models import ModelFacts
from launcher.plan.data.rows import Rows
from launcher.plan.forecast import Forecast, Hardware, forecast
from launcher.plan.memory import Verdict
from launcher.plan.variants import Variant, savings, shardings
from launcher.recipe import Recipe

MAX_CHANGES = 4
WORTH = 0.02  # of the peak: what saves less is not worth a line


@dataclass(frozen=True)
class Saving:
    """Changes made together, and what they take; ``before`` is the recipe as it is."""

    changes: tuple[Variant, ...]
    before: Forecast
    after: Forecast

    @property
    def bytes(self) -> float:
        """Bytes saved at the peak."""
        return self.before.memory.allocated - self.after.memory.allocated

    @property
    def slower(self) -> float:
        """Time lost, as a share; below 0 it is faster."""
        return self.after.seconds_a_sample / self.before.seconds_a_sample - 1

    @property
    def settings(self) -> dict[str, Any]:
        """All keys to write."""
        return {key: value for change in self.changes for key, value in change.settings.items()}


def each(recipe: Recipe, facts: ModelFacts, hardware: Hardware, rows: Rows | None) -> list[Saving]:
    """Return what each change alone saves, the most first; last what takes twice as long."""
    before = forecast(recipe, facts, hardware, rows)
    spread = shardings(facts) if hardware.world > 1 else []
    tried = (
        _tried(before, (change,), facts, rows) for change in (*savings(recipe, facts), *spread)
    )
    useful = [one for one in tried if one and one.bytes > WORTH * before.memory.allocated]
    return sorted(useful, key=lambda one: (one.slower > 1, -one.bytes))


def fitting(
    recipe: Recipe, facts: ModelFacts, hardware: Hardware, rows: Rows | None
) -> list[Saving]:
    """Return the single changes with which the recipe fits, the fastest first; if none does, the
    shortest chain of changes that was found, or nothing.
    """
    alone = each(recipe, facts, hardware, rows)
    enough = [one for one in alone if one.after.verdict is Verdict.OK]
    if enough:
        return sorted(enough, key=lambda one: one.slower)
    return list(_chain(alone, facts, rows))[-1:] if alone else []


def _chain(alone: list[Saving], facts: ModelFacts, rows: Rows | None) -> Iterator[Saving]:
    """Yield the chain that fits: the change that saves most is added to what is there, until it
    does.
    """
    best = alone[0]
    for _ in range(MAX_CHANGES - 1):
        recipe = best.after.recipe
        longer = [
            found
            for change in savings(recipe, facts)
            if (found := _tried(best.before, (*best.changes, change), facts, rows))
        ]
        if not longer:
            return
        best = min(longer, key=lambda one: (one.after.verdict is not Verdict.OK, -one.bytes))
        if best.after.verdict is Verdict.OK:
            yield best
            return


def _tried(
    before: Forecast, changes: tuple[Variant, ...], facts: ModelFacts, rows: Rows | None
) -> Saving | None:
    """Return what the changes take together; none where axolotl would not have them, or no formula
    does.
    """
    recipe = before.recipe
    for change in changes:
        recipe = change.applied(recipe)
    try:
        after = forecast(recipe, facts, before.hardware, rows)
    except LauncherError:
        return None
    together = Variant("", {key: v for one in changes for key, v in one.settings.items()})
    return Saving(changes, before, after) if together.allowed(before.recipe) else None
