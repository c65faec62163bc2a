"""The progress bars that libraries draw with tqdm, read back from a log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# As tqdm/std.py, format_meter: "x.safetensors:  37%|###7   | 115M/315M [00:13<00:08, 23.1MB/s]".
# What follows a bar on its line, as a warning may, is not part of it.
_BAR = re.compile(
    r"(?P<name>.*?)(?:: *| *)(?P<percent>\d{1,3})%\|[^|]*\| *"
    r"(?P<done>[\d.]+[kMGTPEZY]?)/(?P<total>[\d.]+[kMGTPEZY]?) "
    r"\[[\d:?]+<[\d:?]+, +(?P<speed>[\d.]+[kMGTPEZY]?|\?)(?P<unit>[^\],]*)[\],]"
)
_SCALE = {"": 1.0} | {letter: 1000.0**power for power, letter in enumerate("kMGTPEZY", 1)}
_MOVES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # up and down, between several bars
LONGEST = 500  # characters of a line that are looked at


@dataclass(frozen=True)
class Bar:
    """A bar as it stood: ``done`` of ``total``, in bytes or things; ``speed`` in those a second,
    none where tqdm does not know it yet.
    """

    name: str
    done: float
    total: float
    speed: float | None
    in_bytes: bool

    @property
    def whole(self) -> bool:
        """Whether all is done."""
        return self.done >= self.total


def bar(text: str) -> Bar | None:
    """Return the bar that a piece of a log shows, none where it shows none."""
    found = _BAR.match(_MOVES.sub("", text[:LONGEST]).strip())
    if found is None:
        return None
    speed = None if found["speed"] == "?" else _number(found["speed"])
    if speed and found["unit"].startswith("s/"):
        speed = 1 / speed
    name = re.sub(r" \(num_proc=\d+\)$", "", found["name"].rstrip(": "))
    return Bar(
        name=name.rsplit("/", 1)[-1] if name.startswith("(…)") else name,
        done=_number(found["done"]),
        total=_number(found["total"]),
        speed=speed,
        in_bytes=found["unit"].startswith("B/s"),
    )


def _number(text: str) -> float:
    digits, scale = (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
    try:
        return float(digits) * _SCALE[scale]
    except ValueError:  # 1.2.3
        return 0.0


def going_on(bars: Iterable[Bar], before: Bar | None = None) -> Bar | None:
    """Return the bar that is worth showing after these, in the order of the log: a download before
    what counts its files, otherwise the last one that has a name and is not done.
    """
    now = before
    for one in bars:
        if not one.name:
            continue
        if now and now.in_bytes and not now.whole and not one.in_bytes and not one.whole:
            continue
        now = one
    return None if now is None or now.whole else now
