"""``axr train``: check, prepare, start, stay, report."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from dotenv import dotenv_values

from launcher import causes, preflight, runs
from launcher import launch as launching
from launcher import node as nodes
from launcher import recipe as recipes
from launcher import resume as resuming
from launcher.checkpoints import checkpoints
from launcher.cli import plan_panel as panel
from launcher.cli.console import next_commands, plain, say, show_problems, typed
from launcher.cli.outlook import Outlook, outlook
from launcher.dataset.digest import digests
from launcher.diagnostics import Diagnostic, LauncherError, has_errors
from launcher.launch import Launch
from launcher.node import Machine, Node
from launcher.plan.check import check as plan_check
from launcher.recipe import Recipe
from launcher.resume import Begun
from launcher.rules.batch import whole
from launcher.rules.security import remote_code
from launcher.runs import RunFolder
from launcher.validate import validate

# Exit codes of a run that a person, a cloud or a lost connection ended.
_ASKED = {128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


@click.command(
    epilog="\b\nExamples:\n"
    "  axr train qwen25-dpo\n"
    "  axr train my.yaml learning_rate=1.0e-6 datasets.0.path=pairs.jsonl\n"
    "  axr train llama31-dpo-lora --gpus 8 --dry-run > run.sh\n"
    "  axr train smollm2-dpo                     runs on a CPU, too\n"
    "  axr train --resume                        go on with the last run\n"
    "  axr train runs/qwen25-dpo-...-abcd        the same again, as a run of its own",
)
@click.argument("words", nargs=-1, metavar="NAME|RUN [KEY=VALUE]...")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with a run from its newest whole checkpoint: of this folder, the last of this "
    "recipe, or the last of all.",
)
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
def train(words: tuple[str, ...], resume: bool, **how: Any) -> int:
    """Train a recipe here: check it, make a run folder, start axolotl under accelerate."""
    named = bool(words) and "=" not in words[0]
    if not named and not resume:
        raise click.UsageError("Missing argument 'NAME'.")
    code, _ = run_recipe(
        words[0] if named else None, words[named:], options=Options(resume=resume, **how)
    )
    return code


@dataclass(frozen=True)
class Options:
    """How ``axr train`` was asked to run."""

    gpus: int | None = None
    cpu: bool = False
    dry_run: bool = False
    trust: bool = False
    resume: bool = False


def run_recipe(
    name: str | None, overrides: tuple[str, ...], options: Options | None = None
) -> tuple[int, RunFolder | None]:
    """Do all that ``axr train`` does; return the exit code, and the run folder if one was made."""
    how = options or Options()
    environ = environment(Path(".env"))
    node = nodes.probe(environ)
    root = runs.runs_root(environ, node.volume)
    begun = resuming.begun(name, overrides, root) if how.resume else None
    recipe = begun.recipe if begun else _recipe(name or "", overrides)
    problems = validate(recipe)
    show_problems(problems, recipe.texts, to_stderr=True)
    if has_errors(problems):
        return 1, None
    machine = _machine(recipe, node, how)
    obstacles = preflight.check(recipe, machine, node, environ, cpu_allowed=how.cpu)
    view = outlook(recipe, machine, node, environ) if not _stops(obstacles, how) else Outlook(None)
    folder = begun.folder if begun else RunFolder(root / runs.run_name(recipe.name))
    launch = launching.build(
        recipe, machine, folder, environ, accelerate=_accelerate(), spread=view.changes
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
        _describe(recipe, launch, place, view)
        click.echo(launching.script(launch, dotenv=Path(".env").exists()), nl=False)
        return 0, None
    ask_for_trust(problems, how.trust)
    require_stack()
    with runs.held(folder):
        return _run(recipe, launch, environ, node, view, begun), folder


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


def _run(
    recipe: Recipe,
    launch: Launch,
    environ: Mapping[str, str],
    node: Node,
    view: Outlook,
    begun: Begun | None,
) -> int:
    from launcher import supervise

    complete = {**environ, **launch.env}
    start = runs.Start(
        recipe=recipe.texts[recipe.file],
        resolved=launch.resolved,
        command=launching.again(launch, Path.cwd(), dotenv=Path(".env").exists()),
        env=complete,
        machine=str(node),
        processes=launch.world_size,
        overrides=[text for text in recipe.overrides if not text.startswith(resuming.KEY)],
        data={} if begun else digests(recipe),
        step=begun.step if begun else None,
    )
    runs.create(launch.folder, start)
    _describe(recipe, launch, str(node), view)
    if begun:
        say(f"  resume   goes on from step {begun.step}")
    code = supervise.execute(launch, complete, show=lambda text: say(text, fg="yellow", bold=True))
    _report_end(recipe, launch, code)
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


def _machine(recipe: Recipe, node: Node, how: Options) -> Machine:
    """Return what the run may use. A dry run takes what is asked for, or what the recipe needs, for
    present.
    """
    found, gpus, cpu = len(node.gpus), how.gpus, how.cpu
    needed = recipe.block.get("needs", {})
    if cpu and gpus:
        raise LauncherError(f"--gpus {gpus} and --cpu exclude each other", exit_code=2)
    if how.dry_run and not found and not cpu and (gpus or needed.get("gpu") != "none"):
        count = gpus or max(1, whole(needed.get("gpus")))
        say(f"no GPU here: this is what {count} would run", fg="yellow")
        return Machine(count, on_cpu=False, threads=_threads(node, count), volume=node.volume)
    if gpus and gpus > found and not how.dry_run:
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


def _report_end(recipe: Recipe, launch: Launch, code: int) -> None:
    folder = launch.folder
    if code == 0:
        say(f"done: the model is in {launch.resolved['output_dir']}", fg="green", bold=True)
        return
    how = f"stopped by signal {code - 128}" if code > 128 else f"failed with exit code {code}"
    say(f"the training {how}; all that it said is in {folder.log}", fg="red", bold=True)
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
