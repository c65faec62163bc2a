"""After a GPU ran out of memory: what of the plan is largest, and which change makes room.

The plan said that the run fits, or nearly, and it did not. So what the card had at that moment
counts: what torch could have of it, and how far the formula fell short.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.hardware import GIB, GPUS, Gpu
from launcher.plan.data.rows import Rows
from launcher.plan.fit import Saving, fitting
from launcher.plan.forecast import Forecast
from launcher.plan.memory import MARGIN

# torch's allocator (c10/cuda/CUDACachingAllocator.cpp) words it so; "capacty" up to torch 2.1, and
# before that all in one bracket.
_SIZE = r"(\d+(?:\.\d+)?) ([KMG]iB|bytes)"
_TRIED = re.compile(rf"CUDA out of memory\. Tried to allocate {_SIZE}")
_SIZES = {
    "total": rf"total capaci?ty of {_SIZE}|{_SIZE} total capacity",
    "free": rf"of which {_SIZE} is free|{_SIZE} free",
    "allocated": rf"{_SIZE} is allocated by PyTorch|{_SIZE} already allocated",
    "unused": rf"{_SIZE} is reserved by PyTorch but unallocated",
}
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
# Frames of the pinned transformers' Trainer that only an evaluation has.
_EVALUATION = re.compile(r"in (evaluation_loop|prediction_step|prediction_loop)\b")
NOT_SAID = 0.9  # of what the card is left with, where torch gives no numbers. Assumed
_FRAMES = 200  # lines of a traceback, at most


@dataclass(frozen=True)
class Shortage:
    """What torch said when the memory ran out, in bytes. ``unused``: what it held and could not
    use. ``evaluating``: whether rows were only evaluated.
    """

    tried: float
    total: float
    free: float
    allocated: float
    unused: float = 0.0
    evaluating: bool = False

    @property
    def missing(self) -> float:
        """What the card had too little."""
        return max(self.tried - self.free, 0.0)

    @property
    def usable(self) -> float:
        """What torch could have had: the rest is the context's, or another process's."""
        return min(self.total, self.allocated + self.unused + self.free)


@dataclass(frozen=True)
class Relief:
    """What to do. ``term``: the largest of the ``phase`` that the plan says is the peak, of so many
    ``bytes``; ``savings``: the changes that are enough, the best first; ``gpu``: the smallest kind
    that would be, where no change is.
    """

    phase: str
    term: str
    bytes: float
    savings: tuple[Saving, ...]
    gpu: Gpu | None


def shortage(lines: Sequence[str]) -> Shortage | None:
    """Return the last shortage that the end of a log tells of in numbers, if any does."""
    for number, line in reversed([*enumerate(lines)]):
        if found := _TRIED.search(line):
            sizes = {name: _size(pattern, line) for name, pattern in _SIZES.items()}
            if not (sizes["total"] and sizes["allocated"]):
                return None
            before = lines[max(0, number - _FRAMES) : number]
            return Shortage(_bytes(*found.groups()), **sizes, evaluating=evaluating(before))
    return None


def evaluating(lines: Sequence[str]) -> bool:
    """Return whether a traceback among the lines was raised by an evaluation."""
    return any(_EVALUATION.search(line) for line in lines)


def relief(found: Forecast, rows: Rows | None, short: Shortage | None) -> Relief:
    """Return what the plan holds largest, and what is enough on the card as it was: with a margin,
    by at least what was missing, and where more stood in memory than the formula says, so much
    more.
    """
    peak = found.memory.peak
    term, size = max(peak.terms.items(), key=lambda one: one[1])
    more = max(1.0, (short.allocated + short.tried) / peak.allocated) if short else 1.0
    card = replace(found.hardware.gpu, memory=_room(found, short, more) / GIB)
    ways = fitting(found.recipe, found.job.model, replace(found.hardware, gpu=card), rows)
    least = MARGIN * (short.missing if short else 0.0) / more
    enough = [one for one in ways if one.bytes >= least and not _asks(one)]
    enough.sort(key=lambda one: (_quantizes(one), not _plain(one), one.slower))
    return Relief(peak.name, term, size, tuple(enough), None if enough else _larger(found, more))


def _room(found: Forecast, short: Shortage | None, more: float) -> float:
    """Return the bytes of a card on which the plan's formula means what there really was."""
    if short is None:
        return NOT_SAID * found.hardware.gpu.memory_bytes
    return short.usable / more + found.memory.context


def _asks(saving: Saving) -> bool:
    """Whether more has to be done for it than to name it."""
    return any(change.note for change in saving.changes)


def _quantizes(saving: Saving) -> bool:
    """Whether another model would be trained: one of frozen 4-bit weights."""
    return "load_in_4bit" in saving.settings


def _plain(saving: Saving) -> bool:
    """Whether it is easily typed."""
    return not any(isinstance(value, dict | list) for value in saving.settings.values())


def _larger(found: Forecast, more: float) -> Gpu | None:
    """Return the smallest kind of GPU, larger than this, that the same run would fit."""
    needed = MARGIN * found.memory.allocated * more + found.memory.context
    large = max(needed, found.hardware.gpu.memory_bytes + 1)
    kinds = [kind for kind in GPUS if kind.bf16 and kind.memory_bytes >= large]
    return min(kinds, key=lambda kind: (kind.memory, kind.bandwidth), default=None)


def _size(pattern: str, line: str) -> float:
    found = re.search(pattern, line)
    return _bytes(*filter(None, found.groups())) if found else 0.0


def _bytes(number: str, unit: str) -> float:
    return float(number) * _UNITS[unit]
