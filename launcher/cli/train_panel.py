"""What ``axr train`` says before and after a run."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from launcher import causes, runs
from launcher.checkpoints import checkpoints
from launcher.cli import plan_panel as panel
from launcher.cli.console import next_commands, plain, say, typed
from launcher.cli.outlook import Outlook
from launcher.launch import Launch
from launcher.recipe import Recipe
from launcher.supervise import OVER_BUDGET
from launcher.watch import bars

LAST = 20  # lines of a failed training that are shown
# Exit codes of a run that a person, a cloud or a lost connection ended.
_ASKED = {128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


def describe(recipe: Recipe, launch: Launch, machine: str, view: Outlook) -> None:
    """Say what will run, where, and what the launcher sets."""
    say(str(recipe.block.get("title", recipe.name)), bold=True)
    say(f"  model    {plain(str(launch.resolved.get('base_model')))}")
    say(f"  machine  {machine}, {launch.world_size} process{'es' * (launch.world_size > 1)}")
    say(f"  run      {launch.folder.root}")
    say(f"  plan     {panel.sentence(view.forecast) if view.forecast else view.why}")
    for change in launch.changes:
        say(f"  set      {change}")


def last_words(lines: Sequence[str]) -> list[str]:
    """Return the last lines that are no progress bars."""
    return [line for line in lines if line.strip() and not bars.bar(line)][-LAST:]


def report_end(recipe: Recipe, launch: Launch, code: int, *, log: bool) -> None:
    """Say how a run ended; of one that failed the cause, and what to type next. ``log``: and what
    it said last, which nobody has seen yet.
    """
    folder = launch.folder
    if code == 0:
        say(f"done: the model is in {launch.resolved['output_dir']}", fg="green", bold=True)
        return
    if code == OVER_BUDGET:
        say("stopped: its hours are over; the last checkpoint is whole", fg="yellow", bold=True)
        next_commands(f"axr train --resume {typed(str(folder.root))}")
        return
    how = f"stopped by signal {code - 128}" if code > 128 else f"failed with exit code {code}"
    say(f"the training {how}; all that it said is in {folder.log}", fg="red", bold=True)
    if log and code not in _ASKED:
        for line in last_words(runs.last_lines(folder)):
            say(f"  {plain(line)}", dim=True)
    if code not in _ASKED and (found := causes.told(runs.last_lines(folder), code)):
        name = typed(recipe.file)
        say(f"  cause    {found.cause.fact}: {found.line}")
        say(f"  help     {found.cause.remedy.replace('{recipe}', name)}", fg="green")
    place = Path(str(launch.resolved["output_dir"]))
    whole = any(not one.fault for one in checkpoints(place))
    next_commands(
        *([f"axr train --resume {typed(str(folder.root))}"] if whole else []),
        f"tail -n 50 {typed(str(folder.log))}",
    )
