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
from launcher.plan.data.rows import rows
from launcher.plan.forecast import Forecast, Hardware
from launcher.plan.variants import Variant
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
    the recipe asks for ``distributed: auto`` and nothing can be said; otherwise no forecast stops
    a run.
    """
    if machine.on_cpu:
        return Outlook(None, "no forecast for a CPU")
    automatic = recipe.block.get("distributed") == choose.AUTO
    gpu = kind(recipe, node)
    if gpu is None:
        return _none("no forecast: this kind of GPU is not in the table", automatic)
    revision = str(recipe.value.get("revision_of_model") or "main")
    try:
        facts = models.find(str(recipe.value.get("base_model")), environ, revision=revision)
        place = Hardware(gpu, machine.here, machine.cluster.nodes)
        found, change = choose.planned(recipe, facts, place, rows(recipe, environ))
    except LauncherError as problem:
        return _none(f"no forecast: {problem.message}", automatic)
    return Outlook(replace(found, recipe=recipe), changes=_changes(recipe, found, change))


def _none(why: str, automatic: bool) -> Outlook:
    if automatic:
        hint = f"say in the recipe how it is spread, and delete {BLOCK}.distributed"
        raise LauncherError(f"distributed: auto, but {why}", hint)
    return Outlook(None, why)


def kind(recipe: Recipe, node: Node) -> Gpu | None:
    """Return the kind of GPU that is here; in a dry run without one, that the recipe names."""
    if node.gpus:
        return hardware.of_device(node.gpus[0].name)
    named = (recipe.block.get("needs") or {}).get("gpu")
    return hardware.find(named) if named and named != "none" else None


def _changes(recipe: Recipe, found: Forecast, change: Variant | None) -> tuple[Change, ...]:
    """Return what the launcher sets to spread the run."""
    if change is None:
        return ()
    why = f"distributed: auto: {change.name} is the fastest that fits {found.hardware}"
    return tuple(
        Change(key, recipe.settings.get(key), value, why)
        for key, value in change.settings.items()
        if recipe.settings.get(key) != value
    )
