"""What the libraries logged as warnings while a recipe was rehearsed, each told once. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# What the rehearsal itself is the reason of, and why; matched anywhere in the text.
OURS = (
    ("'pin_memory' argument is set as true but no accelerator", "no GPU"),
    ("mtime may not be reliable on this filesystem", "the rehearsal's own folder"),
    ("an autograd kernel was not registered", "4 bits on a CPU"),
    ("`sample_packing` without an attention backend", "axolotl's merge, or the CPU's attention"),
    ("Unable to detect GPU", "no GPU"),
    ("Torch not compiled with CUDA enabled", "no GPU"),
    ("CUDA is not available", "no GPU"),
    ("Setting accelerator to CPU", "no GPU"),
    ("device_type of 'cuda', but CUDA is not available", "no GPU"),
    ("max_steps is given, it will override", "the rehearsal is short"),
)
# "/path/file.py:12: UserWarning: words\n  the line of code"
_PYTHON = re.compile(r"^\S+:\d+: (?P<kind>\w+): (?P<words>.*)", re.DOTALL)
LONGEST = 400  # characters


@dataclass(frozen=True)
class Remark:
    """One warning, and how often it came. ``ours``: why the rehearsal is the reason, if it is."""

    level: str
    logger: str
    text: str
    count: int
    ours: str = ""


def collect(events: Iterable[Mapping[str, Any]]) -> list[Remark]:
    """Return the warnings among the events, those that are equal as one, in order of coming."""
    counts: dict[tuple[str, str, str], int] = {}
    for event in events:
        if "warning" in event:
            logger, text = _read(str(event.get("logger")), str(event["warning"]))
            key = (str(event.get("level")).lower(), logger, text)
            counts[key] = counts.get(key, 0) + 1
    return [Remark(*key, count, _reason(key[2])) for key, count in counts.items()]


def _read(logger: str, text: str) -> tuple[str, str]:
    """Return who warns, and the words in one line, without the place in a library's code."""
    if found := _PYTHON.match(text):
        lines = found["words"].split("\n")
        text, logger = lines[0], found["kind"]
    words = " ".join(text.split())
    return logger, words if len(words) <= LONGEST else f"{words[: LONGEST - 3]}..."


def _reason(text: str) -> str:
    return next((reason for mark, reason in OURS if mark in text), "")
