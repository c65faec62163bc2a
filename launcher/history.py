"""The last real runs of a recipe, from their folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher import runs
from launcher.progress import Progress, measured
from launcher.runs import RunFolder


@dataclass(frozen=True)
class PastRun:
    """A run that was long enough to be measured."""

    name: str
    machine: str
    state: str
    minutes: float | None
    progress: Progress


def last(root: Path, recipe: str, *, count: int = 3) -> list[PastRun]:
    """Return the last runs of a recipe below ``root``, the newest first. A folder that is no run's,
    or of a run that broke before there was anything to measure, is passed over.
    """
    folders = sorted(root.glob(f"{recipe}-????????-??????-????"), key=_time, reverse=True)
    found = (one for folder in folders for one in _read(RunFolder(folder)))
    return [one for one, _ in zip(found, range(count), strict=False)]


def _time(folder: Path) -> str:
    return folder.name[-20:]


def _read(folder: RunFolder) -> Iterator[PastRun]:
    try:
        status = json.loads(folder.status.read_text(encoding="utf-8"))
        found = measured(runs.read_metrics(folder))
        state, machine = str(status["state"]), str(status.get("machine") or "unknown machine")
    except (OSError, ValueError, KeyError, TypeError):
        return
    if found:
        yield PastRun(folder.root.name, machine, state, status.get("minutes"), found)
