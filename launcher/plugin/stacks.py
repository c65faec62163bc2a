"""Tells where this rank stands when the launcher asks, even inside a collective that never ends:
Python's faulthandler needs no right that a container may lack, and no turn of the interpreter.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from pathlib import Path
from typing import IO

RANKS = "ranks"


def listen(folder: Path) -> IO[str] | None:
    """On SIGUSR2 write the stacks of all threads, without their values, into ``ranks/stack-RANK``,
    whose first line is this process's number; return the file, to be kept open. None where the disk
    refuses it, which must not end a run.
    """
    with contextlib.suppress(OSError):
        (folder / RANKS).mkdir(parents=True, exist_ok=True)
        name = f"stack-{os.environ.get('RANK', '0')}"
        stream = (folder / RANKS / name).open("w", encoding="utf-8")
        print(os.getpid(), file=stream, flush=True)
        faulthandler.register(signal.SIGUSR2, file=stream, all_threads=True)
        return stream
    return None
