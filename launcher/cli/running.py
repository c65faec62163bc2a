"""One start of a run: the nodes meet, the training is stayed with, its end is told."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import launch as launching
from launcher import meeting, runs, supervise
from launcher import resume as resuming
from launcher.cli import ground, tokens, watching
from launcher.cli import train_panel as panel
from launcher.cli.attempts import Attempts
from launcher.cli.console import say, show_problems
from launcher.cli.outlook import Outlook
from launcher.cli.spending import Spending
from launcher.cli.together import Together, facts, together, warn_of_own_disk
from launcher.dataset.digest import digests
from launcher.diagnostics import LauncherError, has_errors
from launcher.launch import Launch
from launcher.node import Machine, Node
from launcher.recipe import Recipe
from launcher.resume import Begun
from launcher.runs import git, revisions
from launcher.runs.folder import RunFolder
from launcher.runs.machine import machine as hardware
from launcher.runs.origins import origins
from launcher.supervise import Ended
from launcher.supervise.life import Patience


@dataclass(frozen=True)
class Checked:
    """All that is known of a run before it starts. ``foreign``: it runs code from outside;
    ``raw``: all that it prints is shown.
    """

    recipe: Recipe
    launch: Launch
    environ: Mapping[str, str]
    node: Node
    machine: Machine
    view: Outlook
    begun: Begun | None
    money: Spending
    foreign: bool
    raw: bool


def meet_and_run(run: Checked, tries: Attempts, patience: Patience, begun: Begun | None) -> Ended:
    """Run once, together with the other nodes, from where it has ``begun``."""
    folder = begun.folder if begun else run.launch.folder
    recipe = begun.recipe if begun else run.recipe
    machine = run.machine
    same = facts(recipe, begun, machine.processes) if machine.cluster.nodes > 1 else {}
    with together(machine.cluster, same, folder.root.name) as others:
        folder = RunFolder(folder.root.with_name(others.run), machine.cluster.rank)
        launch = launching.build(
            recipe,
            machine,
            folder,
            run.environ,
            accelerate=ground.accelerate(),
            spread=run.view.changes,
        )
        if begun and tries.count:
            _unchanged(begun, launch, machine)
        with runs.held(folder):
            return _run(
                replace(run, recipe=recipe, launch=launch, begun=begun), others, tries, patience
            )


def _unchanged(begun: Begun, launch: Launch, machine: Machine) -> None:
    """Raise ``LauncherError`` where what keeps a run from going on came while it ran."""
    problems = resuming.check(begun, launch.resolved, machine.processes)
    show_problems(problems, begun.recipe.texts, to_stderr=True)
    if has_errors(problems):
        raise LauncherError("it cannot be started again", "see above", exit_code=1)


def _run(run: Checked, others: Together, tries: Attempts, patience: Patience) -> Ended:
    complete = {**others.environment(), **run.environ, **run.launch.env}
    if run.begun and not run.begun.step and not run.launch.folder.node:
        shutil.rmtree(run.launch.folder.prepared, ignore_errors=True)  # it may have been cut short
    rows = digests(run.recipe)
    launch, share = tokens.placed(run.launch, rows, complete, foreign=run.foreign)
    _record(run, launch, complete, rows)
    tries.folder = launch.folder
    panel.describe(run.recipe, launch, str(run.node), run.view)
    warn_of_own_disk(launch.folder)
    if begun := run.begun:
        whence = f"step {begun.step}" if begun.step else "its beginning: no checkpoint was finished"
        say(f"  resume   goes on from {whence}")
    used = [gpu.uuid for gpu in run.node.gpus[: run.machine.here] if gpu.uuid]
    with watching.view(launch.folder, raw=run.raw, gpus=used) as view:
        ended = supervise.execute(
            launch, complete, view=view, trouble=others.trouble, patience=patience
        )
    _keep_revisions(launch, complete)
    if share:
        tokens.keep(launch, share, run.recipe, complete)
    if tries.limit and ended.told and ended.told.cause.retry and not ended.why:
        ended = replace(ended, why=others.trouble_within(meeting.SILENCE))
    tries.judge(ended, Path(str(launch.resolved["output_dir"])))
    others.words = tries.words(ended)
    panel.report_end(run.recipe, launch, ended, tries, run.view, log=not run.raw)
    return ended


def _record(
    run: Checked, launch: Launch, environ: Mapping[str, str], rows: Mapping[str, str]
) -> None:
    """Write into the run's folder all that is known of it before it starts."""
    recipe, begun = run.recipe, run.begun
    typed = [text for text in recipe.overrides if not text.startswith(resuming.KEY)]
    reasons = {change.key: change.reason for change in launch.changes}
    start = runs.Start(
        recipe=recipe.texts[recipe.file],
        resolved=launch.resolved,
        command=launching.again(launch, Path.cwd(), dotenv=Path(".env").exists()),
        env=environ,
        machine=str(run.node),
        processes=launch.world_size,
        overrides=typed,
        data={} if begun else rows,
        step=begun.step if begun else None,
        plan=run.money.facts(run.view.forecast),
        origins=origins(recipe, launch.resolved, reasons, typed),
        hardware=hardware(run.node, 0 if run.machine.on_cpu else run.machine.here),
        git=git.states(Path(recipe.file), run.environ),
    )
    runs.create(launch.folder, start)


def _keep_revisions(launch: Launch, environ: Mapping[str, str]) -> None:
    """Write down which commits of model and data were used, now that they have been downloaded."""
    found = revisions.used(launch.resolved, environ)
    with contextlib.suppress(OSError):  # a disk that is full now changes no exit code
        if found:
            runs.write_json(launch.folder.revisions, found)
