"""Start a run and stay with it: its output shown and kept, signals passed on, no process left
behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from launcher import runs
from launcher.diagnostics import LauncherError
from launcher.launch import Launch
from launcher.redact import redact, secret_values

SAVING_SECONDS = (
    120.0  # axolotl saves the model on SIGINT; 16 GB onto a network volume takes about a minute
)
ENDING_SECONDS = 10.0
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in linux/prctl.h


def execute(launch: Launch, environ: Mapping[str, str], *, show: Callable[[str], None]) -> int:
    """Run to the end and return the exit code: the trainer's own, or 128 + the signal that stopped
    us.

    ``environ`` is the whole environment of the child; its secrets are hidden in the log. ``show``
    gets what the launcher has to say meanwhile. Raises ``LauncherError`` if the program cannot be
    started.
    """
    _become_subreaper()
    started = time.monotonic()
    with _received_signals() as received:
        process = _start(launch, environ)
        runs.update_status(launch.folder, state="running", pid=process.pid, started=runs.now())
        tee = threading.Thread(
            target=_tee,
            args=(process.stdout, launch.folder.log, secret_values(environ)),
            daemon=True,
        )
        tee.start()
        while process.poll() is None and not received.signals:
            time.sleep(0.1)
        if received.signals:
            _stop(received, show)
        _end(descendants(), signal.SIGTERM, ENDING_SECONDS)
        code = process.wait()
        tee.join(timeout=ENDING_SECONDS)
    code = 128 + received.signals[0] if received.signals else _exit_code(code)
    state = "stopped" if received.signals else "done" if code == 0 else "failed"
    minutes = round((time.monotonic() - started) / 60, 2)
    runs.update_status(
        launch.folder, state=state, exit_code=code, ended=runs.now(), minutes=minutes
    )
    return code


def descendants(root: int | None = None) -> list[int]:
    """Return the process ids below ``root`` (this process), zombies left out. Empty where there is
    no /proc.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = (
                entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
            )
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.parent.name))
    found, queue = [], [root or os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


@dataclass
class _Received:
    signals: list[int] = field(default_factory=list)


@contextlib.contextmanager
def _received_signals() -> Iterator[_Received]:
    """Collect SIGINT and SIGTERM instead of dying of them."""
    received = _Received()
    before = {
        number: signal.signal(number, lambda caught, _: received.signals.append(caught))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(launch: Launch, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            launch.argv,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal reaches the launcher alone, which passes it on once
            start_new_session=True,
        )
    except OSError as problem:
        runs.update_status(launch.folder, state="failed", ended=runs.now())
        raise LauncherError(
            f'cannot start "{launch.argv[0]}": {problem.strerror}', "make setup"
        ) from problem


def _stop(received: _Received, show: Callable[[str], None]) -> None:
    """Ask for a save and an end; a second signal, or too long a wait, ends everything at once."""
    show(
        f"stopping: axolotl saves what it can (up to {SAVING_SECONDS:.0f} s); Ctrl-C again ends "
        "it at once"
    )
    _send(descendants(), signal.SIGINT)
    deadline = time.monotonic() + SAVING_SECONDS
    while (left := descendants()) and len(received.signals) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    if left and len(received.signals) > 1:
        _send(left, signal.SIGKILL)


def _end(processes: list[int], number: int, seconds: float) -> None:
    """Send a signal, wait, and kill what is left."""
    _send(processes, number)
    deadline = time.monotonic() + seconds
    while processes and descendants() and time.monotonic() < deadline:
        time.sleep(0.05)
    while left := descendants():
        _send(left, signal.SIGKILL)
        time.sleep(0.05)


def _send(processes: list[int], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def _exit_code(code: int) -> int:
    return code if code >= 0 else 128 - code


def _become_subreaper() -> None:
    """Adopt orphans: torch's elastic agent puts each rank into a session of its own, beyond the
    reach of a group signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


def _tee(stream: IO[bytes], log: Path, secrets: tuple[str, ...]) -> None:
    """Copy the child's output to ours and to the log, line by line or by carriage return, secrets
    hidden in both.
    """
    with log.open("a", encoding="utf-8") as kept:
        sinks: list[Any] = [sys.stdout, kept]
        for text in _pieces(stream):
            hidden = redact(text, secrets)
            for sink in list(sinks):
                try:
                    sink.write(hidden)
                    sink.flush()
                except (
                    OSError,
                    ValueError,
                ):  # a closed pipe, a full disk: the training goes on without this copy
                    sinks.remove(sink)


def _pieces(stream: IO[bytes]) -> Iterator[str]:
    pending = b""
    while chunk := os.read(stream.fileno(), 65536):
        *whole, pending = re.split(rb"(?<=[\r\n])", pending + chunk)
        yield from (piece.decode("utf-8", errors="replace") for piece in whole)
    if pending:
        yield pending.decode("utf-8", errors="replace")
