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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from launcher import progress, runs
from launcher.diagnostics import LauncherError
from launcher.launch import Launch
from launcher.redact import redact, secret_values
from launcher.runs import RunFolder

SAVING_SECONDS = 120.0  # a step, and a checkpoint: 16 GB onto a network volume take about a minute
ENDING_SECONDS = 10.0
SETTLING_SECONDS = 2.0  # another node's trouble may be heard of a moment later
OVER_BUDGET = 4  # exit code
STOP_AT = "AXR_STOP_AT"  # in the environment of a training: Unix seconds at which it is to stop
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, preemption, a lost connection
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in linux/prctl.h


def execute(
    launch: Launch,
    environ: Mapping[str, str],
    *,
    show: Callable[[str], None],
    trouble: Callable[[], str] = str,
) -> int:
    """Run to the end and return the exit code: the trainer's own, 128 + the signal that stopped us,
    or 1 where another node is in ``trouble``, which no training survives.

    ``environ`` is the whole environment of the child; its secrets are hidden in the log. ``show``
    gets what the launcher has to say meanwhile. Raises ``LauncherError`` if the program cannot be
    started.
    """
    become_subreaper()
    started = time.monotonic()
    with received_signals() as received:
        process = _start(launch, environ)
        _note(launch.folder, state="running", pid=process.pid, started=runs.now())
        tee = threading.Thread(
            target=_tee,
            args=(process.stdout, launch.folder.log, secret_values(environ)),
            daemon=True,
        )
        tee.start()
        try:
            told = _measurement(launch.folder, show)
            while process.poll() is None and not received.signals and not trouble():
                told()
                time.sleep(0.1)
            lost = "" if received.signals else _lost(process, trouble)
            if lost:
                show(f"{lost}; this node ends, too")
            if received.signals:
                _stop(process, received, launch.folder, show)
        finally:
            end_all(show)
        ended = _ended(received, launch.folder, process.returncode, lost)
        tee.join(timeout=ENDING_SECONDS)
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


def descendants(root: int | None = None) -> list[int]:
    """Return the process ids below ``root`` (this process), those that ended and were not taken
    note of among them. Empty where there is no /proc.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = entry.read_text(encoding="utf-8", errors="replace")
            parent = text.rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(entry.parent.name))
    found, queue = [], [root or os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _lost(process: subprocess.Popen[bytes], trouble: Callable[[], str]) -> str:
    """Return the trouble of another node. A training that failed may have done so for that, and
    sooner than its launcher heard of it.
    """
    deadline = time.monotonic() + SETTLING_SECONDS
    while process.poll() and not trouble() and time.monotonic() < deadline:
        time.sleep(0.1)
    return trouble()


@dataclass
class Received:
    """The signals that asked for an end, in order."""

    signals: list[int] = field(default_factory=list)


@contextlib.contextmanager
def received_signals() -> Iterator[Received]:
    """Collect the signals that ask for an end instead of dying of them.

    One that is ignored, as SIGHUP is under nohup, stays without effect; but not by ignoring it,
    which the child would inherit.
    """
    received = Received()
    before = {number: signal.getsignal(number) for number in _STOPPING}

    def receive(number: int, _: object) -> None:
        if before[signal.Signals(number)] is not signal.SIG_IGN:
            received.signals.append(number)

    for number in _STOPPING:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _measurement(folder: RunFolder, show: Callable[[str], None]) -> Callable[[], None]:
    """Return what tells, once, how long the run will really take: asked often, it looks at the
    records when they have grown.
    """
    seen, done = 0, False

    def tell() -> None:
        nonlocal seen, done
        size = folder.metrics.stat().st_size if not done and folder.metrics.exists() else seen
        if size == seen:
            return
        seen = size
        if found := progress.measured(runs.read_metrics(folder)):
            show(progress.sentence(found))
            done = True

    return tell


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
    ranks = {int(file.name) for file in folder.ranks.glob("[0-9]*")} & {*descendants()}
    if not ranks:
        show("stopping: nothing is trained yet, so there is nothing to save")
        return
    show(
        f"stopping: this step ends with a checkpoint (up to {SAVING_SECONDS:.0f} s); Ctrl-C again "
        "ends it at once"
    )
    _send(ranks, signal.SIGUSR1)
    deadline = time.monotonic() + SAVING_SECONDS
    while process.poll() is None and not folder.stopped.exists() and time.monotonic() < deadline:
        if len(received.signals) > 1:
            break
        time.sleep(0.1)
    if len(received.signals) > 1:
        _send(descendants(), signal.SIGKILL)


def end_all(show: Callable[[str], None]) -> None:
    """Leave no process behind: ask those that are left to end, then kill them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        _send(descendants(), number)
        if _gone(ENDING_SECONDS):
            return
    left = ", ".join(map(str, descendants()))
    show(f"cannot end process {left}: the kernel holds it, maybe for a GPU that hangs")


def _gone(seconds: float) -> bool:
    """Wait until no process is left, so long at most; return whether none is."""
    deadline = time.monotonic() + seconds
    while _left():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _left() -> list[int]:
    """Return what is left below this process, once all that has ended is taken note of.

    Its state would not do: a process is called a zombie while threads of it still hold a GPU. And
    the first process of a container, which would inherit it, might keep it as one for ever.
    """
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return descendants()


def _send(processes: Iterable[int], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)


def _exit_code(code: int | None) -> int:
    return 1 if code is None else code if code >= 0 else 128 - code


def become_subreaper() -> None:
    """Adopt orphans: torch's elastic agent puts each rank into a session of its own, beyond the
    reach of a group signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


def _tee(stream: IO[bytes], log: Path, secrets: tuple[str, ...]) -> None:
    """Copy the child's output to ours and to the log, line by line or by carriage return, secrets
    hidden in both. Reads to the end whatever becomes of the copies: a child that nobody reads
    stands still.
    """
    kept: IO[bytes] | None = None
    with stream, contextlib.ExitStack() as stack:
        try:
            # unbuffered: what a full disk refuses must not be tried again when the file is closed
            kept = stack.enter_context(log.open("ab", buffering=0))
        except OSError as problem:
            _print(f"axr: cannot write {log}: {problem.strerror}\n")
        for text in _pieces(stream):
            hidden = redact(text, secrets)
            _print(hidden)
            try:
                if kept:
                    kept.write(hidden.encode())
            except OSError as problem:
                kept = None
                _print(f"axr: {log} ends here: {problem.strerror}\n")


def _print(text: str) -> None:
    """Write to stdout at once. Where nobody reads it any more (``| head``) it leads nowhere from
    then on.
    """
    try:
        print(text, end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _pieces(stream: IO[bytes]) -> Iterator[str]:
    pending = b""
    while chunk := os.read(stream.fileno(), 65536):
        *whole, pending = re.split(rb"(?<=[\r\n])", pending + chunk)
        yield from (piece.decode("utf-8", errors="replace") for piece in whole)
    if pending:
        yield pending.decode("utf-8", errors="replace")
