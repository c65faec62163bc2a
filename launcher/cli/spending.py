"""What ``axr train`` knows of a run's money: price, budget, what is left of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher import budget as budgets
from launcher import runs
from launcher.budget import Budget, Rent
from launcher.cli.ground import Options
from launcher.cli.outlook import kind
from launcher.diagnostics import Diagnostic
from launcher.node import Machine, Node
from launcher.plan.forecast import Forecast
from launcher.recipe import Recipe
from launcher.resume import Begun
from launcher.supervise import STOP_AT


@dataclass(frozen=True)
class Spending:
    """The budget of a run and the price of its machines; ``hours`` are left of the budget, none
    without one. ``step``: of the checkpoint that the run goes on from.
    """

    budget: Budget
    rent: Rent | None
    hours: float | None
    step: int = 0

    def problems(self, recipe: Recipe, forecast: Forecast | None) -> Iterator[Diagnostic]:
        """Yield what is to be known before the start."""
        steps = forecast.length.steps if forecast else None
        done = min(self.step / steps, 1.0) if steps else 0.0
        return budgets.check(recipe, self.budget, self.rent, forecast, done)

    def until(self) -> dict[str, str]:
        """Return when the training is to stop, for the plugin in it, as Unix seconds."""
        if self.hours is None:
            return {}
        return {STOP_AT: f"{time.time() + budgets.stops_after(self.hours):.0f}"}

    def facts(self, forecast: Forecast | None) -> dict[str, Any]:
        """Return what the run's folder keeps."""
        return budgets.facts(forecast, self.rent)


def spending(
    recipe: Recipe,
    machine: Machine,
    node: Node,
    environ: Mapping[str, str],
    how: Options,
    begun: Begun | None,
) -> Spending:
    """Return the money side of a run. Raises ``LauncherError`` for a budget that is spent, or one
    in USD where no price is known.
    """
    known = None if machine.on_cpu else kind(recipe, node)
    # all GPUs of a rented machine are paid for, those that stand idle, too
    gpus = machine.cluster.nodes * max(machine.here, 1 if machine.on_cpu else len(node.gpus))
    rent = budgets.rent(known.name if known else None, gpus, how.price, environ)
    own = budgets.budget(recipe, how.max_hours, how.max_cost)
    return Spending(own, rent, budgets.left(own, rent, _spent(begun)), begun.step if begun else 0)


def _spent(begun: Begun | None) -> float:
    """Return the hours that earlier starts of a run took."""
    return runs.minutes(begun.folder) / 60 if begun else 0.0
