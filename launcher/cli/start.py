"""From a recipe's name to the end of its run: what ``axr train`` and the demo do, in order."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from launcher import cluster as clusters
from launcher import launch as launching
from launcher import node as nodes
from launcher import preflight, repeat, runs, supervise
from launcher import recipe as recipes
from launcher import resume as resuming
from launcher.cli import ground, tokens
from launcher.cli import train_panel as panel
from launcher.cli.console import say, show_problems
from launcher.cli.ground import Options
from launcher.cli.outlook import Outlook, outlook
from launcher.cli.together import Together, facts, together
from launcher.cli.watching import Watching
from launcher.dataset.digest import digests
from launcher.diagnostics import Diagnostic, has_errors
from launcher.launch import Launch
from launcher.node import Machine, Node
from launcher.plan.check import check as plan_check
from launcher.recipe import Recipe
from launcher.resume import Begun
from launcher.rules.security import remote_code
from launcher.runs import git, revisions
from launcher.runs.folder import RunFolder, run_name, runs_root
from launcher.runs.machine import machine as hardware
from launcher.runs.origins import origins
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
    past = begun.folder if begun else resuming.of(name or "")
    changed = repeat.check(past, recipe, environ, resumed=bool(begun)) if past else []
    problems = changed if has_errors(changed) else [*changed, *validate(recipe)]
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
    same = facts(recipe, begun, machine.processes) if machine.cluster.nodes > 1 else {}
    with together(machine.cluster, same, folder.root.name) as others:
        folder = RunFolder(folder.root.with_name(others.run), machine.cluster.rank)
        launch = launching.build(
            recipe, machine, folder, environ, accelerate=ground.accelerate(), spread=view.changes
        )
        with runs.held(folder):
            until = {**environ, **_until(how)}
            foreign = any(one.code == remote_code.code.code for one in problems)
            prepared = Prepared(recipe, launch, until, node, machine, view, begun, foreign)
            return _run(prepared, others), folder


@dataclass(frozen=True)
class Prepared:
    """All that is known of a run before it starts. ``foreign``: it runs code from outside."""

    recipe: Recipe
    launch: Launch
    environ: Mapping[str, str]
    node: Node
    machine: Machine
    view: Outlook
    begun: Begun | None
    foreign: bool


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


def _run(run: Prepared, others: Together) -> int:
    recipe, begun = run.recipe, run.begun
    complete = {**others.environment(), **run.environ, **run.launch.env}
    rows = digests(recipe)
    launch, share = tokens.placed(run.launch, rows, complete, foreign=run.foreign)
    typed = [text for text in recipe.overrides if not text.startswith(resuming.KEY)]
    start = runs.Start(
        recipe=recipe.texts[recipe.file],
        resolved=launch.resolved,
        command=launching.again(launch, Path.cwd(), dotenv=Path(".env").exists()),
        env=complete,
        machine=str(run.node),
        processes=launch.world_size,
        overrides=typed,
        data={} if begun else rows,
        step=begun.step if begun else None,
        origins=origins(
            recipe,
            launch.resolved,
            {change.key: change.reason for change in launch.changes},
            typed,
        ),
        hardware=hardware(run.node, 0 if run.machine.on_cpu else run.machine.here),
        git=git.states(Path(recipe.file), run.environ),
    )
    runs.create(launch.folder, start)
    panel.describe(recipe, launch, str(run.node), run.view)
    if begun:
        say(f"  resume   goes on from step {begun.step}")
    code = supervise.execute(
        launch,
        complete,
        view=Watching(launch.folder),
        trouble=others.trouble,
    )
    _keep_revisions(launch, complete)
    if share:
        tokens.keep(launch, share, recipe, complete)
    others.words = f"its training ended with exit code {code}" if code else ""
    panel.report_end(recipe, launch, code)
    return code


def _keep_revisions(launch: Launch, environ: Mapping[str, str]) -> None:
    """Write down which commits of model and data were used, now that they have been downloaded."""
    found = revisions.used(launch.resolved, environ)
    with contextlib.suppress(OSError):  # a disk that is full now changes no exit code
        if found:
            runs.write_json(launch.folder.revisions, found)
