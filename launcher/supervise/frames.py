"""Stacks as data, and the one place that says what a rank is doing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# The collectives of torch.distributed (distributed_c10d.py), and those of accelerate that wait.
COLLECTIVES = {
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "gather_object",
    "monitored_barrier",
    "recv",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "scatter_object_list",
    "send",
    "wait_for_everyone",
}
_DISTRIBUTED = re.compile(r"(torch/distributed|accelerate|deepspeed/comm)/")
# Where every program waits, whatever for.
_WAITING = re.compile(
    r"^<frozen|(^|/)(threading|selectors|queue|socket|ssl|subprocess|contextlib|_utils|popen_fork"
    r"|multiprocessing/\w+|multiprocess/\w+|concurrent/futures/\w+)\.py$"
)
_PARTS = 3  # of a path, the last ones: enough to find the file
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-f]+(?: \[(?P<name>[^\]]*)\])?")
_FRAME = re.compile(r'^  File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<function>.*)$')


@dataclass(frozen=True)
class Frame:
    """A function that is being run, and the line at which it stands."""

    function: str
    file: str
    line: int


@dataclass(frozen=True)
class Thread:
    """A thread and its frames, the innermost first."""

    name: str
    frames: Sequence[Frame]


@dataclass(frozen=True)
class Place:
    """What a rank is doing. ``waits``: for other ranks."""

    function: str
    position: str
    waits: bool

    @property
    def group(self) -> tuple[str, bool]:
        """Ranks with the same do the same."""
        return self.function, self.waits


def place(frames: Sequence[Frame]) -> Place:
    """Return what a thread is doing: waiting in a collective, or in the innermost function that is
    no mere waiting.
    """
    for frame in frames:
        if frame.function in COLLECTIVES and _DISTRIBUTED.search(frame.file):
            return Place(frame.function, f"{frame.file}:{frame.line}", waits=True)
    found = next((one for one in frames if not _WAITING.search(one.file)), None)
    found = found or next(iter(frames), Frame("no Python code", "?", 0))
    return Place(found.function, f"{found.file}:{found.line}", waits=False)


def spied(threads: Any, process: int) -> list[Thread]:
    """Return what ``py-spy dump --json`` says of a process, the main thread first."""
    found = sorted(threads, key=lambda one: one.get("os_thread_id") != process)
    return [
        Thread(
            str(one.get("thread_name") or f"thread {one.get('os_thread_id')}"),
            [Frame(_last(f["name"]), _short(f["filename"]), f["line"]) for f in one["frames"]],
        )
        for one in found
    ]


def dumped(text: str) -> list[Thread]:
    """Return what Python's faulthandler wrote, the main thread, which it writes last, first."""
    found: list[tuple[str, list[Frame]]] = []
    for line in text.splitlines():
        if thread := _THREAD.match(line):
            found.append((thread["name"] or f"thread {len(found) + 1}", []))
        elif (frame := _FRAME.match(line)) and found:
            found[-1][1].append(Frame(frame["function"], _short(frame["file"]), int(frame["line"])))
    return [Thread(name, frames) for name, frames in reversed(found)]


def _last(function: str) -> str:
    """Return a function's own name: py-spy puts before it the class or function that it is in."""
    return function.rpartition(".")[2]


def _short(file: str) -> str:
    return "/".join(file.split("/")[-_PARTS:])
