"""What the processes of a rehearsal tell the one that started it: one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import os
import time
import traceback
from pathlib import Path
from typing import Any

FILE = "AXR_REHEARSAL_EVENTS"  # the variable that names the file
WHOLE = "AXR_REHEARSAL_STAGE"  # set where a whole process is one stage: the resumed run
DEEPEST = 30  # frames of a traceback that are kept


class Broken(Exception):
    """A stage that failed for a reason that is told in the words of a user."""


def tell(**event: Any) -> None:
    """Append an event. Several processes append to one file, each line at once."""
    if name := os.environ.get(FILE):
        line = json.dumps({"time": time.time(), **event}, default=str) + "\n"
        with open(name, "a", encoding="utf-8") as stream:
            stream.write(line)


def begin(stage: str, **facts: Any) -> None:
    """Tell that a stage begins; within a process that is one stage, nothing."""
    if not os.environ.get(WHOLE):
        tell(stage=stage, state="begin", **facts)


def end(stage: str, **facts: Any) -> None:
    """Tell that a stage came to its end, and what can be said of it."""
    if not os.environ.get(WHOLE):
        tell(stage=stage, state="end", **facts)


def failed(problem: BaseException) -> None:
    """Tell what broke: the innermost cause's words, and the names of the functions on the way."""
    frames = [frame.name for frame in traceback.extract_tb(problem.__traceback__)]
    told = problem
    while told.__cause__ is not None and "RemoteTraceback" not in type(told.__cause__).__name__:
        told = told.__cause__
    tell(
        state="failed",
        stage=os.environ.get(WHOLE, ""),
        kind=type(told).__name__,
        words=str(told),
        frames=frames[-DEEPEST:],
    )


def read(file: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the events after ``offset`` bytes, and the offset of what is still to come."""
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            data = stream.read()
    except OSError:  # nothing has been told yet
        return [], offset
    whole, _, _ = data.rpartition(b"\n")
    events = []
    for line in whole.splitlines():
        with contextlib.suppress(ValueError):
            events.append(json.loads(line))
    return [event for event in events if isinstance(event, dict)], offset + len(whole) + bool(whole)
