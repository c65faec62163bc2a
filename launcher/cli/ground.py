"""What a verb stands on that runs axolotl: the environment, the machine, the stack, and trust."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import click
from dotenv import dotenv_values

from launcher.cli.console import say
from launcher.diagnostics import Diagnostic, LauncherError
from launcher.node import Machine, Node
from launcher.recipe import Recipe
from launcher.rules.batch import whole
from launcher.rules.security import remote_code


@dataclass(frozen=True)
class Options:
    """How ``axr train`` was asked to run."""

    gpus: int | None = None
    cpu: bool = False
    dry_run: bool = False
    skip_doctor: bool = False
    trust: bool = False
    resume: bool = False


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


def machine(recipe: Recipe, node: Node, how: Options) -> Machine:
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


def accelerate() -> str:
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
