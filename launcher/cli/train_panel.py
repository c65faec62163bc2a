"""What ``axr train`` says before and after a run."""

from __future__ import annotations

from pathlib import Path

from launcher.checkpoints import checkpoints
from launcher.cli import plan_panel as panel
from launcher.cli.attempts import Attempts
from launcher.cli.console import next_commands, plain, say, typed
from launcher.cli.outlook import Outlook
from launcher.launch import Launch
from launcher.recipe import Recipe
from launcher.supervise import OVER_BUDGET, Ended


def describe(recipe: Recipe, launch: Launch, machine: str, view: Outlook) -> None:
    """Say what will run, where, and what the launcher sets."""
    say(str(recipe.block.get("title", recipe.name)), bold=True)
    say(f"  model    {plain(str(launch.resolved.get('base_model')))}")
    say(f"  machine  {machine}, {launch.world_size} process{'es' * (launch.world_size > 1)}")
    say(f"  run      {launch.folder.root}")
    say(f"  plan     {panel.sentence(view.forecast) if view.forecast else view.why}")
    for change in launch.changes:
        say(f"  set      {change}")


def report_end(recipe: Recipe, launch: Launch, ended: Ended, tries: Attempts) -> None:
    """Say how a run ended; of one that failed the cause, and whether it is started again, or what
    to type next.
    """
    folder, code = launch.folder, ended.exit_code
    if code == 0:
        say(f"done: the model is in {launch.resolved['output_dir']}", fg="green", bold=True)
        return
    if code == OVER_BUDGET:
        say("stopped: its hours are over; the last checkpoint is whole", fg="yellow", bold=True)
        next_commands(f"axr train --resume {typed(str(folder.root))}")
        return
    how = f"stopped by signal {code - 128}" if code > 128 else f"failed with exit code {code}"
    say(f"the training {how}; all that it said is in {folder.log}", fg="red", bold=True)
    rank = f"rank {ended.rank} failed first: " if ended.rank is not None else ""
    if found := ended.told:
        name = typed(recipe.file)
        say(f"  cause    {rank}{found.cause.fact}: {found.line}")
        say(f"  help     {found.cause.remedy.replace('{recipe}', name)}", fg="green")
    elif ended.state == "failed":
        say(f"  cause    {rank}not known: {plain(ended.why or ended.last)}")
    if tries.why:
        say(f"  restart  {tries.why}", bold=True)
    if tries.wait is not None:
        return
    place = Path(str(launch.resolved["output_dir"]))
    whole = any(not one.fault for one in checkpoints(place))
    next_commands(
        *([f"axr train --resume {typed(str(folder.root))}"] if whole else []),
        f"cat {typed(str(folder.failure))}"
        if folder.failure.exists()
        else f"tail -n 50 {typed(str(folder.log))}",
    )
