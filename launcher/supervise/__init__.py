"""Start a run and stay with it: its output shown and kept, signals passed on, no process left
behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from launcher import runs
from launcher.diagnostics import LauncherError
from launcher.launch import Launch
from launcher.redact import secret_values
from launcher.runs.folder import RunFolder
from launcher.supervise import processes
from launcher.supervise.output import View, tee
from launcher.supervise.signals import Received, received_signals

SAVING_SECONDS = 120.0  # a step, and a checkpoint: 16 GB onto a network volume take about a minute
SETTLING_SECONDS = 2.0  # another node's trouble may be heard of a moment later
OVER_BUDGET = 4  # exit code
STOP_AT = "AXR_STOP_AT"  # in the environment of a training: Unix seconds at which it is to stop


def execute(
    launch: Launch,
    environ: Mapping[str, str],
    *,
    view: View,
    trouble: Callable[[], str] = str,
) -> int:
    """Run to the end and return the exit code: the trainer's own, 128 + the signal that stopped us,
    or 1 where another node is in ``trouble``, which no training survives.

    ``environ`` is the whole environment of the child; its secrets are hidden in the log and from
    ``view``, which is told of all that happens. Raises ``LauncherError`` if the program cannot be
    started.
    """
    processes.become_subreaper()
    started = time.monotonic()
    with received_signals() as received:
        process = _start(launch, environ)
        _note(launch.folder, state="running", pid=os.getpid(), started=runs.now())
        copying = threading.Thread(
            target=tee,
            args=(process.stdout, launch.folder.log, secret_values(environ), view.output),
            daemon=True,
        )
        copying.start()
        try:
            while process.poll() is None and not received.signals and not trouble():
                view.tick()
                time.sleep(0.1)
            lost = "" if received.signals else _lost(process, trouble)
            if lost:
                view.say(f"{lost}; this node ends, too")
            if received.signals:
                _stop(process, received, launch.folder, view.say)
        finally:
            processes.end_all(view.say)
            if process.stdin:
                process.stdin.close()
        ended = _ended(received, launch.folder, process.returncode, lost)
        copying.join(timeout=processes.ENDING_SECONDS)
    minutes = round((time.monotonic() - started) / 60, 2)
    _note(launch.folder, **asdict(ended), ended=runs.now(), minutes=minutes)
    return ended.exit_code


@dataclass(frozen=True)
class _Ended:
    state: str
    exit_code: int


def _ended(received: Received, folder: RunFolder, returncode: int | None, lost: str) -> _Ended:
    """Return how a run ended; without a return code the launcher ended it. One that was asked to
    stop and came to its end all the same is done; one that stopped by itself had spent its budget.
    """
    early = folder.stopped.exists()
    if received.signals and (early or returncode != 0):
        first = received.signals[0]
        return _Ended("preempted" if first == signal.SIGTERM else "stopped", 128 + first)
    if early:
        return _Ended("over budget", OVER_BUDGET)
    code = 1 if lost else _exit_code(returncode)
    return _Ended("failed" if code else "done", code)


def _lost(process: subprocess.Popen[bytes], trouble: Callable[[], str]) -> str:
    """Return the trouble of another node. A training that failed may have done so for that, and
    sooner than its launcher heard of it.
    """
    deadline = time.monotonic() + SETTLING_SECONDS
    while process.poll() and not trouble() and time.monotonic() < deadline:
        time.sleep(0.1)
    return trouble()


def _start(launch: Launch, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return processes.start(launch.argv, environ)
    except OSError as problem:
        _note(launch.folder, state="failed", ended=runs.now())
        raise LauncherError(
            f'cannot start "{launch.argv[0]}": {problem.strerror}', "make setup"
        ) from problem


def _note(folder: RunFolder, **fields: Any) -> None:
    """Write down how the run goes; a disk that is full now must not end it, nor change its exit
    code.
    """
    with contextlib.suppress(OSError):
        runs.update_status(folder, **fields)


def _stop(
    process: subprocess.Popen[bytes],
    received: Received,
    folder: RunFolder,
    show: Callable[[str], None],
) -> None:
    """Have a checkpoint saved, and wait for it, or for an end that comes by itself; a second signal
    ends everything at once.
    """
    ranks = {int(file.name) for file in folder.ranks.glob("[0-9]*")} & {*processes.descendants()}
    if not ranks:
        show("stopping: nothing is trained yet, so there is nothing to save")
        return
    show(
        f"stopping: this step ends with a checkpoint (up to {SAVING_SECONDS:.0f} s); Ctrl-C again "
        "ends it at once"
    )
    processes.send(ranks, signal.SIGUSR1)
    deadline = time.monotonic() + SAVING_SECONDS
    while process.poll() is None and not folder.stopped.exists() and time.monotonic() < deadline:
        if len(received.signals) > 1:
            break
        time.sleep(0.1)
    if len(received.signals) > 1:
        processes.send(processes.descendants(), signal.SIGKILL)


def _exit_code(code: int | None) -> int:
    return 1 if code is None else code if code >= 0 else 128 - code
