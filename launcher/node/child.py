"""A child process that answers in lines of JSON, in a limited time, whatever becomes of it: a sick
driver or a dead network disk holds the process that asks it, maybe for ever.
"""

from __future__ import annotations

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

_PACKAGES = str(Path(__file__).parents[2])
_LETTING_GO = 1.0  # seconds that a killed child has to end; one in the kernel's hands is left alone


@dataclass(frozen=True)
class Answer:
    """What a child said: its lines, and why they may not be all; nothing if it ended well."""

    lines: tuple[Mapping[str, Any], ...]
    trouble: str = ""


def ask(module: str, question: Any, environ: Mapping[str, str], seconds: float) -> Answer:
    """Run ``python -m module``, hand it ``question`` as JSON on stdin, and return what it answers
    within so many seconds. Secrets go by ``environ`` alone. Never raises.
    """
    command = [sys.executable, "-m", module]
    path = os.pathsep.join(filter(None, [_PACKAGES, environ.get("PYTHONPATH", "")]))
    try:
        process = subprocess.Popen(
            command,
            # not from the working directory: it may hold a json.py of anybody's
            env={**environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as problem:
        return Answer((), problem.strerror or str(problem))
    given = json.dumps(question).encode()
    try:
        said, complaint = process.communicate(given, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        _end(process)
        return Answer(_lines(late.stdout or b""), f"no answer within {seconds:g} s")
    _end_group(process.pid)  # what it left behind
    if process.returncode < 0:
        return Answer(_lines(said), f"ended by signal {-process.returncode}")
    return Answer(_lines(said), _last_line(complaint) if process.returncode else "")


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
