"""What ``axr train`` says of a GPU that ran out of memory: what the plan holds largest, and the
change that makes room.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from launcher import causes, resume
from launcher.cli.console import say, typed
from launcher.cli.outlook import Outlook
from launcher.cli.plan_panel import TERMS, gib
from launcher.files import read_mapping
from launcher.plan.data.rows import rows
from launcher.plan.fit import Saving
from launcher.plan.forecast import Forecast
from launcher.plan.relief import Relief, Shortage, evaluating, relief, shortage
from launcher.plan.variants import Variant
from launcher.recipe import Recipe
from launcher.runs.folder import RunFolder

GOES_ON, ANEW = "axr train --resume", "axr train"


def report(folder: RunFolder, view: Outlook, lines: Sequence[str], *, resumable: bool) -> list[str]:
    """Say what to change after the memory of a GPU ran out, and return the commands to paste."""
    assert view.forecast is not None
    spread = Variant("", {change.key: change.after for change in view.changes})
    found = replace(view.forecast, recipe=spread.applied(view.forecast.recipe))
    short = shortage(lines)
    if (short.evaluating if short else evaluating(lines[-causes.TAIL :])) or _phase(folder):
        return _of_evaluation(folder, found, resumable=resumable)
    help_ = relief(found, rows(found.recipe, os.environ), short)
    say(f"  memory   {_words(found, help_, short)}")
    if not help_.savings:
        larger = f"a {help_.gpu.name} would do" if help_.gpu else "nor does one larger GPU"
        say(f"  help     none of the known changes is enough; {larger}", fg="green")
        given = [one for one in found.recipe.overrides if not one.startswith(resume.KEY)]
        return [shlex.join(["axr", "plan", found.recipe.file, *given, "--compare"])]
    best, goes_on = _chosen(found.recipe, help_.savings, resumable)
    names = " + ".join(change.name for change in best.changes)
    how = f"{names}: {gib(best.bytes)} GiB less, time {best.slower:+.0%}"
    say(f"  help     {how}{'' if goes_on else '; it starts anew'}", fg="green")
    return [_command(folder, _settings(found.recipe, best.settings), goes_on)]


def _phase(folder: RunFolder) -> bool:
    """Whether the run's own record says that it was evaluating."""
    return (read_mapping(folder.progress, 2**20) or {}).get("phase") == "evaluate"


def _of_evaluation(folder: RunFolder, found: Forecast, *, resumable: bool) -> list[str]:
    size = found.length.evaluation_batch
    if size <= 1:
        say("  help     it evaluated one row at a time: the longest is too long", fg="green")
        return [f"axr preview {typed(found.recipe.file)}"]
    fact = (
        f"  help     it ran out while evaluating, {size} rows at a time, whose logits stand at once"
    )
    say(fact, fg="green")
    return [_command(folder, {"eval_batch_size": 1}, resumable)]


def _words(found: Forecast, help_: Relief, short: Shortage | None) -> str:
    peak, card = found.memory.allocated, found.hardware.gpu.memory
    term = TERMS[help_.term][2]
    plan = f"the plan's largest term is {term}, {gib(help_.bytes)} of {gib(peak)} GiB at the peak"
    plan += f" ({help_.phase})"
    if short is None:
        return f"{plan}, on a card of {card:.1f}"
    torch = f"torch had {gib(short.allocated)} allocated and wanted {gib(short.tried)} more"
    return f"{plan}; {torch}, {gib(short.usable)} could be had"


def _chosen(recipe: Recipe, savings: Sequence[Saving], resumable: bool) -> tuple[Saving, bool]:
    """Return the best change, one with which the run may go on if there is such, and whether."""
    for one in savings if resumable else ():
        if all(map(resume.may_change, _settings(recipe, one.settings))):
            return one, True
    return savings[0], False


def _settings(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has to be typed: the launcher derives the accumulation from a global batch."""
    derived = {"gradient_accumulation_steps"} if recipe.block.get("global_batch_size") else set()
    return {
        key: value
        for key, value in settings.items()
        if key not in derived and (value is not None or recipe.value.get(key) is not None)
    }


def _command(folder: RunFolder, settings: Mapping[str, Any], goes_on: bool) -> str:
    words = (shlex.quote(f"{key}={_typed(value)}") for key, value in settings.items())
    return f"{GOES_ON if goes_on else ANEW} {typed(str(folder.root))} {' '.join(words)}"


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
