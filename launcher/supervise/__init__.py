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
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from launcher import causes, outcome, runs
from launcher.causes import Told
from launcher.diagnostics import LauncherError
from launcher.launch import Launch
from launcher.redact import secret_values
from launcher.runs.folder import RunFolder
from launcher.supervise import failure, processes
from launcher.supervise.failure import Tail
from launcher.supervise.life import Patience
from launcher.supervise.output import Careful, View, tee
from launcher.supervise.signals import Received, received_signals
from launcher.supervise.stall import Watch

SAVING_SECONDS = 120.0  # a step, and a checkpoint: 16 GB onto a network volume take about a minute
SETTLING_SECONDS = 2.0  # another node's trouble may be heard of a moment later
OVER_BUDGET = 4  # exit code
ASKED = "asked"  # why a training stopped: by a signal, here or on another node
STOP_AT = "AXR_STOP_AT"  # in the environment of a training: Unix seconds at which it is to stop


@dataclass(frozen=True)
class Ended:
    """How a run ended. Of one that failed: ``why`` in the launcher's words, where it knows better
    than the training, as of another node; ``told``: the known cause; ``rank``: which failed first,
    of several; ``last``: what that said last.
    """

    folder: RunFolder
    state: str
    exit_code: int
    why: str = ""
    told: Told | None = None
    rank: int | None = None
    last: str = ""

    @property
    def cause(self) -> dict[str, Any] | None:
        """Why it failed, for ``status.json``."""
        if self.state != "failed":
            return None
        if self.told is None:
            return {"name": "unknown", "fact": "", "line": self.why or self.last, "rank": self.rank}
        cause = self.told.cause
        return {"name": cause.name, "fact": cause.fact, "line": self.told.line, "rank": self.rank}


def execute(
    launch: Launch,
    environ: Mapping[str, str],
    *,
    view: View,
    trouble: Callable[[], str] = str,
    patience: Patience | None = None,
) -> Ended:
    """Run to the end and return how that was. Exit code: the trainer's own, 128 + the signal that
    stopped us, or 1 where another node is in ``trouble``, which no training survives, or where it
    stood still for longer than ``patience`` allows.

    ``environ`` is the whole environment of the child; its secrets are hidden in the log and from
    ``view``, which is told of all that happens. Raises ``LauncherError`` if the program cannot be
    started.
    """
    processes.become_subreaper()
    started, folder, tail = time.monotonic(), launch.folder, Tail()
    view = Careful(view)
    _forget(folder)

    def heard(text: str) -> None:
        tail.add(text)
        view.output(text)

    with received_signals() as received:
        process = _start(launch, environ)
        _note(folder, state="running", pid=os.getpid(), started=runs.now())
        copying = threading.Thread(
            target=tee,
            args=(process.stdout, folder.log, secret_values(environ), heard),
            daemon=True,
        )
        copying.start()
        watch = Watch(folder, patience or Patience(), view.say, partial(_note, folder))
        try:
            why = _follow(process, received, watch, view, trouble)
        finally:
            processes.end_all(view.say)
            if process.stdin:
                process.stdin.close()
        ended = _ended(received, folder, process.returncode, why)
        late = slice(len(received.signals), None)
        copying.join(timeout=processes.ENDING_SECONDS)
        ended = _explained(ended, tail) if ended.state == "failed" else ended
        minutes = round((time.monotonic() - started) / 60, 2)
        _note(
            folder,
            **outcome.ended(folder, ended.state, ended.exit_code, minutes),
            cause=ended.cause,
        )
    if ended.exit_code < 128 and received.signals[late]:
        signal.raise_signal(received.signals[late][0])  # whoever goes on would not hear of it
    return ended


def _follow(
    process: subprocess.Popen[bytes],
    received: Received,
    watch: Watch,
    view: View,
    trouble: Callable[[], str],
) -> str:
    """Stay with a training until it ends or has to; return why it has to, where it was not a
    signal.
    """
    while process.poll() is None and not received.signals and not trouble():
        view.tick()
        if watch.over():
            return watch.stalled
        time.sleep(0.1)
    if received.signals:
        _stop(process, received, watch, view)
        return ""
    lost = _lost(process, trouble)
    if lost:
        view.say(f"{lost}; this node ends, too")
    return lost


def _ended(received: Received, folder: RunFolder, returncode: int | None, why: str) -> Ended:
    """Return how a run ended; without a return code the launcher ended it. One that was asked to
    stop and came to its end all the same is done; one that stopped by itself had spent its budget,
    or another node was asked.
    """
    early = folder.stopped.exists()
    if received.signals and (early or returncode != 0):
        first = received.signals[0]
        return Ended(folder, "preempted" if first == signal.SIGTERM else "stopped", 128 + first)
    if early and runs.read_mapping(folder.stopped).get("why") == ASKED:
        return Ended(folder, "preempted", 128 + signal.SIGTERM, why=why)
    if early:
        return Ended(folder, "over budget", OVER_BUDGET)
    code = 1 if why else _exit_code(returncode)
    return Ended(folder, "failed" if code else "done", code, why=why)


def _explained(ended: Ended, tail: Tail) -> Ended:
    """Find out why a run failed, and keep the last words of the rank that failed first."""
    found = failure.of(tail.lines(), ended.exit_code)
    with contextlib.suppress(OSError):
        runs.write(ended.folder.failure, "".join(f"{line}\n" for line in found.lines))
    told = causes.told([ended.why]) if ended.why else found.told
    last = next((line.strip() for line in reversed(found.lines) if line.strip()), "")
    return replace(ended, told=told, rank=found.rank, last=last[: causes.LONGEST])


def _forget(folder: RunFolder) -> None:
    """Forget what an earlier start left that would be taken for this one's."""
    for file in (folder.progress, folder.failure, *folder.ranks.glob("stack-*")):
        with contextlib.suppress(OSError):
            file.unlink()


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


def _stop(process: subprocess.Popen[bytes], received: Received, watch: Watch, view: View) -> None:
    """Have a checkpoint saved, and wait for it, or for an end that comes by itself; a second signal
    ends everything at once.
    """
    folder = watch.folder
    below = {str(process): process for process in processes.descendants()}
    ranks = {below[file.name] for file in folder.ranks.glob("[0-9]*") if file.name in below}
    if not ranks:
        view.say("stopping: nothing is trained yet, so there is nothing to save")
        return
    view.say(
        f"stopping: this step ends with a checkpoint (up to {SAVING_SECONDS:.0f} s); Ctrl-C again "
        "ends it at once"
    )
    processes.send(ranks, signal.SIGUSR1)
    deadline = time.monotonic() + SAVING_SECONDS
    while process.poll() is None and not folder.stopped.exists() and time.monotonic() < deadline:
        if len(received.signals) > 1:
            break
        view.tick()
        watch.look()
        time.sleep(0.1)
    if len(received.signals) > 1:
        processes.send(processes.descendants(), signal.SIGKILL)


def _exit_code(code: int | None) -> int:
    return 1 if code is None else code if code >= 0 else 128 - code
