"""From a recipe's name to the end of its run: what ``axr train`` and the demo do, in order."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from launcher import cluster as clusters
from launcher import launch as launching
from launcher import node as nodes
from launcher import preflight, repeat
from launcher import recipe as recipes
from launcher import resume as resuming
from launcher.cli import ground
from launcher.cli import train_panel as panel
from launcher.cli.attempts import Attempts, repeated
from launcher.cli.console import show_problems
from launcher.cli.finish import End
from launcher.cli.ground import Options
from launcher.cli.outlook import Outlook, outlook
from launcher.cli.running import Checked, meet_and_run
from launcher.cli.spending import spending
from launcher.diagnostics import Diagnostic, has_errors
from launcher.plan.check import check as plan_check
from launcher.recipe import Recipe
from launcher.runs.folder import RunFolder, run_name, runs_root
from launcher.supervise.life import Patience
from launcher.validate import validate


def run_recipe(
    name: str | None,
    overrides: tuple[str, ...],
    options: Options | None = None,
    end: End | None = None,
) -> tuple[int, RunFolder | None]:
    """Do all that ``axr train`` does; return the exit code, and the run folder if one was made,
    which ``end`` gets whatever is raised.
    """
    how = options or Options()
    run = _checked(name, overrides, how)
    if run is None:
        return 1, None
    if how.dry_run:
        place = f"{run.machine.processes} x GPU" if not run.machine.on_cpu else "the CPU"
        panel.describe(run.recipe, run.launch, place, run.view)
        click.echo(launching.script(run.launch, dotenv=Path(".env").exists()), nl=False)
        return 0, None
    if not _ready(run, how):
        return 1, None
    run = replace(run, environ={**run.environ, **run.money.until()})
    patience = Patience(how.stall_minutes * 60, end=how.end_stalled)
    tries = Attempts(how.auto_resume, run.environ)
    try:
        ended = repeated(partial(meet_and_run, run, tries, patience), run.begun, tries)
    finally:
        if end:
            end.folder = tries.folder
    return ended.exit_code, ended.folder


def _checked(name: str | None, overrides: tuple[str, ...], how: Options) -> Checked | None:
    """Return the run that is meant, none where something stops it, which was said."""
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
        return None
    machine = ground.machine(recipe, node, how, cluster)
    obstacles = preflight.check(recipe, machine, node, environ, cpu_allowed=how.cpu)
    view = outlook(recipe, machine, node, environ) if not _stops(obstacles, how) else Outlook(None)
    money = spending(recipe, machine, node, environ, how, begun)
    folder = begun.folder if begun else RunFolder(root / run_name(recipe.name))
    launch = launching.build(
        recipe, machine, folder, environ, accelerate=ground.accelerate(), spread=view.changes
    )
    if begun:
        obstacles += resuming.check(begun, launch.resolved, machine.processes)
    show_problems(obstacles, recipe.texts, to_stderr=True)
    if _stops(obstacles, how):
        return None
    if view.forecast:
        show_problems(plan_check(view.forecast), recipe.texts, to_stderr=True)
    show_problems(money.problems(recipe, view.forecast), recipe.texts, to_stderr=True)
    foreign = ground.runs_foreign_code(problems)
    return Checked(
        recipe, launch, environ, node, machine, view, begun, money, foreign=foreign, raw=how.raw
    )


def _ready(run: Checked, how: Options) -> bool:
    """Return whether the run may start here: its code is trusted, the stack is installed, and the
    machine is fit for it.
    """
    ground.ask_for_trust(run.foreign, how.trust)
    ground.require_stack()
    if how.skip_doctor:
        return True
    from launcher.cli import examine  # a dry run, which should be quick, is over here

    need = examine.need_of(run.recipe, run.launch, run.machine, run.environ, run.view.forecast)
    return examine.ready(need, run.node)


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
