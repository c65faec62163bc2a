"""Numbers and times out of a run's files, which may hold anything."""

from __future__ import annotations

from datetime import datetime
from typing import Any

LARGEST = 1e15  # of a number that a file may hold; a number of Python's may have any length


def number(value: Any) -> float | None:
    """Return a number that is not negative and below `LARGEST`, none for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < LARGEST else None


def moment(text: Any) -> float | None:
    """Return the Unix seconds of a time as ``status.json`` has it, none for anything else."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
