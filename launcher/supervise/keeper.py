"""Stands between the launcher and a training, so that none of it outlives the launcher: not even
where that is killed and can do nothing any more.

Started by its path, in a Python without site packages: `keeper.py PROGRAM ARGS...`. Its stdin is a
pipe whose other end the launcher alone holds; when the kernel closes that, every process below is
ended. There are two keepers, one below the other, as one can be killed, too. Otherwise they are not
there: output, environment and the way the training ended are its own; its stdin is empty.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable

PATIENCE = 3.0  # seconds between asking and killing
CANNOT_START = 127  # exit code, as a shell's
_DEATH_SIGNAL, _DUMPABLE, _SUBREAPER = 1, 4, 36  # PR_SET_... in linux/prctl.h
_DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process, where the kernel is Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def become_subreaper() -> None:
    """Adopt orphans: torch's elastic agent puts each rank into a session of its own, beyond the
    reach of a group signal.
    """
    prctl(_SUBREAPER, 1)


def descendants(root: int | None = None) -> list[int]:
    """Return the process ids below ``root`` (this process), those that ended and were not taken
    note of among them. Empty where there is no /proc.
    """
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit() and (parent := _parent(name)) is not None:
            children.setdefault(parent, []).append(int(name))
    found, queue = [], [root or os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _parent(process: str) -> int | None:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as stream:
            return int(stream.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError):  # it has ended meanwhile
        return None


def send(processes: Iterable[int], number: int) -> None:
    """Send a signal to each that is still there."""
    for process in processes:
        try:
            os.kill(process, number)
        except (ProcessLookupError, PermissionError):
            continue


def keep(life: int, start: Callable[[int], None]) -> None:
    """Run ``start``, given this process, in a child, and end as that ends; when ``life`` is at its
    end, end all that is below.
    """
    become_subreaper()
    keeper = os.getpid()
    for number in _DEAF_TO:  # not ignored, which the child would inherit
        signal.signal(number, lambda *_: None)
    child = os.fork()
    if not child:
        start(keeper)
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ended = _reaped()
        if child in ended:
            _end_all()  # what it left behind; the launcher may be dead by now
            _end_as(ended[child])
        ready, _, _ = select.select([life, woken], [], [])
        if life in ready:
            _end_all()
            os._exit(1)
        os.read(woken, 4096)


def _reaped() -> dict[int, int]:
    """Take note of all children that have ended; return how, by process id."""
    ended: dict[int, int] = {}
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not process:
            return ended
        ended[process] = status


def _end_as(status: int) -> None:
    """End in the same way as a child, so that who waits sees no difference."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        prctl(_DUMPABLE, 0)  # the child's core is enough
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def _end_all() -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        send(descendants(), number)
        for _ in range(round(PATIENCE / 0.1)):
            _reaped()
            if not descendants():
                return
            select.select([], [], [], 0.1)


def _become(program: list[str], keeper: int) -> None:
    """Become the training, which ends when its keeper does: torch's agent then ends its ranks."""
    prctl(_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != keeper:
        os._exit(1)
    os.setsid()
    for number in (*_DEAF_TO, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores the last two
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(program[0], program)
    except OSError as problem:
        os.write(2, f'cannot start "{program[0]}": {problem.strerror}\n'.encode())
        os._exit(CANNOT_START)


def main() -> None:
    """Keep a training twice."""
    program = sys.argv[1:]
    life = os.dup(0)  # closed where another program is started
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    keep(life, lambda _: keep(life, lambda keeper: _become(program, keeper)))


if __name__ == "__main__":
    main()
