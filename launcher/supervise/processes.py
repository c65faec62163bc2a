"""The processes below this one: found, signalled, ended, none left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ENDING_SECONDS = 10.0
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in linux/prctl.h


def become_subreaper() -> None:
    """Adopt orphans: torch's elastic agent puts each rank into a session of its own, beyond the
    reach of a group signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


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


def end_all(show: Callable[[str], None]) -> None:
    """Leave no process behind: ask those that are left to end, then kill them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        send(descendants(), number)
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


def send(processes: Iterable[int], number: int) -> None:
    """Send a signal to each that is still there."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)
