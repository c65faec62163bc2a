"""``--on-finish``: a command of the user's when a run is over, so that no machine idles on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from launcher import runs
from launcher.cli import Terminated
from launcher.cli.console import say
from launcher.diagnostics import LauncherError
from launcher.runs.folder import RunFolder

ATTENDED_SECONDS = 300.0  # so long somebody waits to see a run begin
CTRL_C, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


@dataclass
class End:
    """How ``axr train`` ended. No folder: before there was a run."""

    code: int = 3
    folder: RunFolder | None = None


@contextlib.contextmanager
def finishing(command: str | None) -> Iterator[End]:
    """Run ``command`` in a shell after the body, whatever became of it.

    Not after Ctrl-C: who pressed it sits here and may want the machine. Nor where there was no run,
    as with a misspelt name, if somebody sits at the terminal; after some minutes, as when another
    node did not come, nobody does.
    """
    end, began = End(), time.monotonic()
    try:
        yield end
    except KeyboardInterrupt as problem:
        end.code = TERMINATED if isinstance(problem, Terminated) else CTRL_C
        raise
    except LauncherError as problem:
        end.code = problem.exit_code
        raise
    finally:
        soon = time.monotonic() - began < ATTENDED_SECONDS
        attended = end.folder is None and soon and sys.stdin is not None and sys.stdin.isatty()
        if command and end.code != CTRL_C and not attended:
            _run(command, end)


def _run(command: str, end: End) -> None:
    say(f"on finish: {command}")
    told = {f"AXR_{name.upper()}": _variable(value) for name, value in facts(end).items()}
    try:
        code = subprocess.run(["/bin/sh", "-c", command], env={**os.environ, **told}).returncode
    except OSError as problem:
        say(f"on finish: cannot start /bin/sh: {problem.strerror}", fg="red")
        return
    if code:
        say(f"on finish: the command failed with exit code {code}", fg="red", bold=True)


def _variable(value: object) -> str:
    """Return a fact as a variable of the environment, which cannot hold all that a text can."""
    return str(value).replace("\0", "").encode("utf-8", errors="replace").decode()


def facts(end: End) -> dict[str, Any]:
    """Return what is known of a run at its end, by name; what is not known is left out."""
    found: dict[str, Any] = {"state": "failed" if end.code else "done", "exit_code": end.code}
    if end.folder is None:
        return found
    status = runs.read_mapping(end.folder.status)
    cause, minutes = status.get("cause"), status.get("minutes")
    found |= {
        "run": end.folder.root.resolve(),
        "name": end.folder.root.name,
        "state": status.get("state", found["state"]),
        "cause": (cause.get("fact") or cause.get("line")) if isinstance(cause, dict) else cause,
        "hours": round(minutes / 60, 3) if isinstance(minutes, int | float) else None,
        **{name: status.get(name) for name in ("usd", "step", "loss", "eval_loss")},
    }
    return {name: value for name, value in found.items() if value is not None}
