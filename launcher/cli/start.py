"""From a recipe's name to the end of its run: what ``axr train`` and the demo do, in order."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from launcher import cluster as clusters
from launcher import launch as launching
from launcher import meeting, preflight, runs, supervise
from launcher import node as nodes
from launcher import recipe as recipes
from launcher import resume as resuming
from launcher.cli import ground
from launcher.cli import train_panel as panel
from launcher.cli.attempts import Attempts, repeated
from launcher.cli.console import say, show_problems
from launcher.cli.ground import Options
from launcher.cli.outlook import Outlook, outlook
from launcher.cli.together import Together, facts, together
from launcher.cli.watching import Watching
from launcher.dataset.digest import digests
from launcher.diagnostics import Diagnostic, LauncherError, has_errors
from launcher.launch import Launch
from launcher.node import Machine, Node
from launcher.plan.check import check as plan_check
from launcher.recipe import Recipe
from launcher.resume import Begun
from launcher.runs.folder import RunFolder, run_name, runs_root
from launcher.supervise import Ended
from launcher.supervise.life import Patience
from launcher.validate import validate

# A step, a checkpoint and the final save come after the stop: assumed to take three minutes, and of
# few hours a tenth.
RESERVE, SHARE = 180.0, 0.1  # seconds, and a part of the whole


def run_recipe(
    name: str | None, overrides: tuple[str, ...], options: Options | None = None
) -> tuple[int, RunFolder | None]:
    """Do all that ``axr train`` does; return the exit code, and the run folder if one was made."""
    how = options or Options()
    environ = ground.environment(Path(".env"))
    cluster = clusters.cluster(environ, nodes=how.nodes, rank=how.node_rank, head=how.head)
    node = nodes.probe(environ)
    root = runs_root(environ, node.volume)
    begun = resuming.begun(name, overrides, root) if how.resume else None
    recipe = begun.recipe if begun else _recipe(name or "", overrides)
    problems = validate(recipe)
    show_problems(problems, recipe.texts, to_stderr=True)
    if has_errors(problems):
        return 1, None
    machine = ground.machine(recipe, node, how, cluster)
    obstacles = preflight.check(recipe, machine, node, environ, cpu_allowed=how.cpu)
    view = outlook(recipe, machine, node, environ) if not _stops(obstacles, how) else Outlook(None)
    folder = begun.folder if begun else RunFolder(root / run_name(recipe.name))
    launch = launching.build(
        recipe, machine, folder, environ, accelerate=ground.accelerate(), spread=view.changes
    )
    if begun:
        obstacles += resuming.check(begun, launch.resolved, machine.processes)
    show_problems(obstacles, recipe.texts, to_stderr=True)
    if _stops(obstacles, how):
        return 1, None
    if view.forecast:
        show_problems(plan_check(view.forecast), recipe.texts, to_stderr=True)
    if how.dry_run:
        place = f"{machine.processes} x GPU" if not machine.on_cpu else "the CPU"
        panel.describe(recipe, launch, place, view)
        click.echo(launching.script(launch, dotenv=Path(".env").exists()), nl=False)
        return 0, None
    ground.ask_for_trust(problems, how.trust)
    ground.require_stack()
    if not how.skip_doctor:
        from launcher.cli import examine  # a dry run, which should be quick, is over here

        need = examine.need_of(recipe, launch, machine, environ, view.forecast)
        if not examine.ready(need, node):
            return 1, None
    prepared = Prepared(recipe, launch, {**environ, **_until(how)}, node, view, begun)
    patience = Patience(how.stall_minutes * 60, end=how.end_stalled)
    tries = Attempts(how.auto_resume, prepared.environ)
    ended = repeated(partial(_meet_and_run, prepared, machine, tries, patience), begun, tries)
    return ended.exit_code, ended.folder


@dataclass(frozen=True)
class Prepared:
    """All that is known of a run before it starts."""

    recipe: Recipe
    launch: Launch
    environ: Mapping[str, str]
    node: Node
    view: Outlook
    begun: Begun | None


def _recipe(name: str, overrides: tuple[str, ...]) -> Recipe:
    """Return a recipe by its name or file, or that of a run by its folder."""
    return resuming.recorded(name, overrides) or recipes.load(recipes.find(name), overrides)


def _stops(obstacles: list[Diagnostic], how: Options) -> bool:
    """Whether there is an error among the obstacles; a dry run needs no secret."""
    return has_errors(
        problem
        for problem in obstacles
        if not (how.dry_run and problem.code == preflight.SECRET_UNSET.code)
    )


def _until(how: Options) -> dict[str, str]:
    """Return when the training is to stop, for the plugin in it, as Unix seconds."""
    if how.max_hours is None:
        return {}
    whole = how.max_hours * 3600
    return {supervise.STOP_AT: f"{time.time() + whole - min(RESERVE, SHARE * whole):.0f}"}


def _meet_and_run(
    run: Prepared, machine: Machine, tries: Attempts, patience: Patience, begun: Begun | None
) -> Ended:
    """Run once, together with the other nodes, from where it has ``begun``."""
    folder = begun.folder if begun else run.launch.folder
    recipe = begun.recipe if begun else run.recipe
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


def _run(run: Prepared, others: Together, tries: Attempts, patience: Patience) -> Ended:
    recipe, launch, begun = run.recipe, run.launch, run.begun
    complete = {**others.environment(), **run.environ, **launch.env}
    start = runs.Start(
        recipe=recipe.texts[recipe.file],
        resolved=launch.resolved,
        command=launching.again(launch, Path.cwd(), dotenv=Path(".env").exists()),
        env=complete,
        machine=str(run.node),
        processes=launch.world_size,
        overrides=[text for text in recipe.overrides if not text.startswith(resuming.KEY)],
        data={} if begun else digests(recipe),
        step=begun.step if begun else None,
    )
    runs.create(launch.folder, start)
    panel.describe(recipe, launch, str(run.node), run.view)
    if begun and not begun.step and not launch.folder.node:
        shutil.rmtree(launch.folder.prepared, ignore_errors=True)  # it may have been cut short
    if begun:
        whence = f"step {begun.step}" if begun.step else "its beginning: no checkpoint was finished"
        say(f"  resume   goes on from {whence}")
    view = Watching(launch.folder)
    ended = supervise.execute(
        launch, complete, view=view, trouble=others.trouble, patience=patience
    )
    if tries.limit and ended.told and ended.told.cause.retry and not ended.why:
        ended = replace(ended, why=others.trouble_within(meeting.SILENCE))
    tries.judge(ended, Path(str(launch.resolved["output_dir"])))
    others.words = tries.words(ended)
    panel.report_end(recipe, launch, ended, tries)
    return ended
