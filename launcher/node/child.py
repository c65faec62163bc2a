"""A child process that answers in lines of JSON, in a limited time, whatever becomes of it: a sick
driver or a dead network disk holds the process that asks it, maybe for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A child ends by itself, too, where whoever asked is killed meanwhile; what it forks has to go on
# with `limit`. Nothing is imported from the working directory: it may hold a json.py of anybody's.
_RUN = """
import sys
sys.path[:] = filter(None, sys.path)
import runpy, signal
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
runpy.run_module(sys.argv[2], run_name="__main__", alter_sys=True)
"""
_PACKAGES = str(Path(__file__).parents[2])
_LETTING_GO = 1.0  # seconds that a killed child has to end; one in the kernel's hands is left alone


_running: set[int] = set()  # leaders of the groups that are asked now


@dataclass(frozen=True)
class Answer:
    """What a child said: its lines, and why they may not be all; nothing if it ended well."""

    lines: tuple[Mapping[str, Any], ...]
    trouble: str = ""


def ask(module: str, question: Any, environ: Mapping[str, str], seconds: float) -> Answer:
    """Run a module as the main program, hand it ``question`` as JSON on stdin, and return what it
    answers within so many seconds. Secrets go by ``environ`` alone. Never raises.
    """
    try:
        process = start(module, environ, seconds + _LETTING_GO, stderr=subprocess.PIPE)
    except OSError as problem:
        return Answer((), problem.strerror or str(problem))
    given = json.dumps(question).encode()
    _running.add(process.pid)
    try:
        said, complaint = process.communicate(given, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        _end(process)
        _running.discard(process.pid)
        return Answer(_lines(late.stdout or b""), f"no answer within {seconds:g} s")
    _end_group(process.pid)  # what it left behind
    _running.discard(process.pid)
    if process.returncode < 0:
        return Answer(_lines(said), f"ended by signal {-process.returncode}")
    return Answer(_lines(said), _last_line(complaint) if process.returncode else "")


def start(
    module: str, environ: Mapping[str, str], seconds: float = 0.0, stderr: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a module as the main program, in a session of its own, for so many seconds at most; 0
    for ever: it has to end when its stdin does. Raises ``OSError``.
    """
    path = os.pathsep.join(filter(None, [_PACKAGES, environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, str(seconds), module],
        env={**environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )


def limit(seconds: float) -> None:
    """End this process after so many seconds, as its parent does: a fork forgets that."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def left() -> float:
    """Return the seconds after which this process ends; 0 for never."""
    return signal.getitimer(signal.ITIMER_REAL)[0]


@atexit.register
def _end_all() -> None:
    """End what nobody waits for any more, as after Ctrl-C: it may hold memory of a GPU."""
    for leader in [*_running]:
        _end_group(leader)


def _end(process: subprocess.Popen[bytes]) -> None:
    _end_group(process.pid)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_LETTING_GO)


def _end_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _lines(said: bytes) -> tuple[Mapping[str, Any], ...]:
    """Return the objects that came whole; libraries may print what they like between them."""
    found = []
    for line in said.splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return tuple(found)


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "ended without a word"
