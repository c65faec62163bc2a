"""The processes below this one: found, signalled, ended, none left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launcher.supervise import keeper
from launcher.supervise.keeper import become_subreaper, descendants, send

__all__ = ["become_subreaper", "descendants", "end_all", "is_keeper", "send", "start"]
ENDING_SECONDS = 10.0


def start(argv: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program below a keeper, and return the keeper, which ends as the program does. All of
    it ends when the keeper's stdin is closed, as it is with this process.

    Raises ``OSError`` if the program is not there.
    """
    if shutil.which(argv[0], path=environ.get("PATH")) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    return subprocess.Popen(
        [sys.executable, "-I", "-S", keeper.__file__, *argv],
        env=dict(environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Ctrl-C in the terminal reaches the launcher alone, which passes it on once
        start_new_session=True,
    )


def is_keeper(process: int) -> bool:
    """Whether a process is a keeper."""
    with contextlib.suppress(OSError):
        return keeper.__file__.encode() in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


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
