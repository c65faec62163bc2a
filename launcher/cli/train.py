"""``axr train``: check, prepare, start, stay, report."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click
from dotenv import dotenv_values

from launcher import launch as launching
from launcher import node as nodes
from launcher import preflight, runs
from launcher import recipe as recipes
from launcher.cli import plan_panel as panel
from launcher.cli.console import next_commands, plain, say, show_problems, typed
from launcher.cli.outlook import Outlook, outlook
from launcher.diagnostics import Diagnostic, LauncherError, has_errors
from launcher.launch import Launch
from launcher.node import Machine, Node
from launcher.plan.check import check as plan_check
from launcher.recipe import Recipe
from launcher.rules.batch import whole
from launcher.rules.security import remote_code
from launcher.runs import RunFolder
from launcher.validate import validate


@click.command(
    epilog="\b\nExamples:\n"
    "  axr train qwen25-dpo\n"
    "  axr train my.yaml learning_rate=1.0e-6 datasets.0.path=pairs.jsonl\n"
    "  axr train llama31-dpo-lora --gpus 8 --dry-run > run.sh\n"
    "  axr train smollm2-dpo                     runs on a CPU, too",
)
@click.argument("name")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--gpus", type=click.IntRange(min=1), help="How many GPUs to use (default: all that are found)."
)
@click.option("--cpu", is_flag=True, help="Train on the CPU, even if the recipe is made for a GPU.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the shell script that would be run; start and write nothing.",
)
@click.option(
    "--trust", is_flag=True, help="Allow the plugins and the remote code that the recipe names."
)
def train(
    name: str, overrides: tuple[str, ...], gpus: int | None, cpu: bool, dry_run: bool, trust: bool
) -> int:
    """Train a recipe here: check it, make a run folder, start axolotl under accelerate."""
    code, _ = run_recipe(name, overrides, gpus=gpus, cpu=cpu, dry_run=dry_run, trust=trust)
    return code


def run_recipe(
    name: str,
    overrides: tuple[str, ...],
    *,
    gpus: int | None = None,
    cpu: bool = False,
    dry_run: bool = False,
    trust: bool = False,
) -> tuple[int, RunFolder | None]:
    """Do all that ``axr train`` does; return the exit code, and the run folder if one was made."""
    recipe = recipes.load(recipes.find(name), overrides)
    environ = environment(Path(".env"))
    node = nodes.probe(environ)
    problems = validate(recipe)
    show_problems(problems, recipe.texts, to_stderr=True)
    if has_errors(problems):
        return 1, None
    machine = _machine(recipe, node, gpus, cpu=cpu, dry_run=dry_run)
    obstacles = preflight.check(recipe, machine, node, environ, cpu_allowed=cpu)
    show_problems(obstacles, recipe.texts, to_stderr=True)
    if has_errors(
        problem
        for problem in obstacles
        if not (dry_run and problem.code == preflight.SECRET_UNSET.code)
    ):
        return 1, None
    view = outlook(recipe, machine, node, environ)
    if view.forecast:
        show_problems(plan_check(view.forecast), recipe.texts, to_stderr=True)
    folder = RunFolder(runs.runs_root(environ, node.volume) / runs.run_name(recipe.name))
    launch = launching.build(
        recipe, machine, folder, environ, accelerate=_accelerate(), spread=view.changes
    )
    if dry_run:
        place = f"{machine.processes} x GPU" if not machine.on_cpu else "the CPU"
        _describe(recipe, launch, place, view)
        click.echo(launching.script(launch, dotenv=Path(".env").exists()), nl=False)
        return 0, None
    ask_for_trust(problems, trust)
    require_stack()
    return _run(recipe, launch, environ, node, view), folder


def _run(
    recipe: Recipe, launch: Launch, environ: Mapping[str, str], node: Node, view: Outlook
) -> int:
    from launcher import supervise

    complete = {**environ, **launch.env}
    runs.create(
        launch.folder,
        recipe=recipe.texts[recipe.file],
        resolved=launch.resolved,
        command=launching.again(launch, Path.cwd(), dotenv=Path(".env").exists()),
        env=complete,
        machine=str(node),
    )
    _describe(recipe, launch, str(node), view)
    code = supervise.execute(launch, complete, show=lambda text: say(text, fg="yellow", bold=True))
    _report_end(launch, code)
    return code


def environment(dotenv: Path) -> dict[str, str]:
    """Return the user's environment, with ``.env`` beneath it: what is exported wins."""
    try:
        kept = {name: value for name, value in dotenv_values(dotenv).items() if value}
    except (OSError, UnicodeDecodeError) as problem:
        raise LauncherError(f'cannot read "{dotenv}": {problem}', "see .env.example") from problem
    environ = {**kept, **os.environ}
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    token = Path(environ.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "token"
    if (
        not environ.get("HF_TOKEN") and token.is_file()
    ):  # logged in; stays true when HF_HOME moves to the volume
        environ.setdefault("HF_TOKEN_PATH", str(token))
    return environ


def _machine(recipe: Recipe, node: Node, gpus: int | None, *, cpu: bool, dry_run: bool) -> Machine:
    """Return what the run may use. A dry run takes what is asked for, or what the recipe needs, for
    present.
    """
    found = len(node.gpus)
    needed = recipe.block.get("needs", {})
    if cpu and gpus:
        raise LauncherError(f"--gpus {gpus} and --cpu exclude each other", exit_code=2)
    if dry_run and not found and not cpu and (gpus or needed.get("gpu") != "none"):
        count = gpus or max(1, whole(needed.get("gpus")))
        say(f"no GPU here: this is what {count} would run", fg="yellow")
        return Machine(count, on_cpu=False, threads=_threads(node, count), volume=node.volume)
    if gpus and gpus > found and not dry_run:
        raise LauncherError(
            f"--gpus {gpus}, but this machine has {node}", node.trouble, exit_code=2
        )
    if cpu or not found:
        return Machine(1, on_cpu=True, threads=node.cpus, volume=node.volume)
    count = gpus or found
    return Machine(count, on_cpu=False, threads=_threads(node, count), volume=node.volume)


def _threads(node: Node, processes: int) -> int:
    return max(1, min(8, node.cpus // processes))


def _accelerate() -> str:
    """Return the program beside this Python: never another environment's by mistake."""
    beside = Path(sys.executable).with_name("accelerate")
    return str(beside) if beside.exists() else "accelerate"


def ask_for_trust(problems: list[Diagnostic], trust: bool) -> None:
    """Ask before code from outside is run. Raises ``LauncherError`` where nobody can answer."""
    foreign = [problem for problem in problems if problem.code == remote_code.code.code]
    if not foreign or trust:
        return
    if not sys.stdin.isatty():
        raise LauncherError(
            "the recipe runs code from outside", "read it, then add --trust", exit_code=1
        )
    if not click.confirm("Run this code on this machine?", err=True):
        raise click.Abort


def require_stack() -> None:
    """Raise ``LauncherError`` where axolotl is not installed for this Python."""
    if (
        importlib.util.find_spec("axolotl") is None
        or importlib.util.find_spec("accelerate") is None
    ):
        hint = (
            "in a checkout: make setup\n"
            "elsewhere, with Python 3.11: uv pip install 'axolotl-recipes[train]'"
        )
        raise LauncherError(f"axolotl is not installed for {sys.executable}", hint)


def _describe(recipe: Recipe, launch: Launch, machine: str, view: Outlook) -> None:
    say(str(recipe.block.get("title", recipe.name)), bold=True)
    say(f"  model    {plain(str(launch.resolved.get('base_model')))}")
    say(f"  machine  {machine}, {launch.world_size} process{'es' * (launch.world_size > 1)}")
    say(f"  run      {launch.folder.root}")
    say(f"  plan     {panel.sentence(view.forecast) if view.forecast else view.why}")
    for change in launch.changes:
        say(f"  set      {change}")


def _report_end(launch: Launch, code: int) -> None:
    folder = launch.folder
    if code == 0:
        say(f"done: the model is in {launch.resolved['output_dir']}", fg="green", bold=True)
        return
    how = f"stopped by signal {code - 128}" if code > 128 else f"failed with exit code {code}"
    say(f"the training {how}; all that it said is in {folder.log}", fg="red", bold=True)
    next_commands(f"tail -n 50 {typed(str(folder.log))}")
