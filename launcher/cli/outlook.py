"""What ``axr train`` knows of a run before it starts: its forecast, and how it will be spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from launcher import hardware, models
from launcher.cpu import Change
from launcher.diagnostics import LauncherError
from launcher.hardware import Gpu
from launcher.node import Machine, Node
from launcher.plan import choose
from launcher.plan.forecast import Forecast, Hardware, forecast
from launcher.plan.rows import Rows, rows
from launcher.recipe import BLOCK, Recipe


@dataclass(frozen=True)
class Outlook:
    """The forecast of a run, none where there is none: then ``why`` says why. ``changes``: what
    spreads it over the GPUs, where the recipe leaves that to the launcher.
    """

    forecast: Forecast | None
    why: str = ""
    changes: tuple[Change, ...] = ()


def outlook(recipe: Recipe, machine: Machine, node: Node, environ: Mapping[str, str]) -> Outlook:
    """Return what is known of the run of ``recipe`` on ``machine``. Raises ``LauncherError`` where
    the recipe asks for ``distributed: auto`` and nothing can be said.
    """
    if machine.on_cpu:
        return Outlook(None, "no forecast for a CPU")
    automatic = recipe.block.get("distributed") == "auto"
    gpu = _kind(recipe, node)
    if gpu is None:
        why = "no forecast: this kind of GPU is not in the table"
        return _none(why, automatic)
    try:
        facts = models.find(str(recipe.value.get("base_model")), environ)
        known = rows(recipe, environ)
        place = Hardware(gpu, machine.processes)
        if automatic and machine.processes > 1:
            return _spread(recipe, facts, place, known)
        return Outlook(forecast(recipe, facts, place, known))
    except LauncherError as problem:
        return _none(f"no forecast: {problem.message}", automatic)


def _none(why: str, automatic: bool) -> Outlook:
    if automatic:
        hint = f"say in the recipe how it is spread, and delete {BLOCK}.distributed"
        raise LauncherError(f"distributed: auto, but {why}", hint)
    return Outlook(None, why)


def _kind(recipe: Recipe, node: Node) -> Gpu | None:
    """Return the kind of GPU that is here; in a dry run without one, that the recipe names."""
    if node.gpus:
        return hardware.of_device(node.gpus[0].name)
    named = (recipe.block.get("needs") or {}).get("gpu")
    return hardware.find(named) if named and named != "none" else None


def _spread(
    recipe: Recipe, facts: models.ModelFacts, place: Hardware, known: Rows | None
) -> Outlook:
    ways = choose.ways(recipe, facts, place, known, choose.allowed(recipe, facts))
    if not ways:
        raise LauncherError("axolotl allows no way to spread it", exit_code=1)
    chosen = choose.best(ways)
    why = f"distributed: auto: {choose.reason(chosen, ways)}"
    changes = (
        Change(key, recipe.settings.get(key), value, why)
        for key, value in chosen.change.settings.items()
        if recipe.settings.get(key) != value
    )
    return Outlook(replace(chosen.forecast, recipe=recipe), changes=tuple(changes))
