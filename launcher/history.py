"""The last real runs of a recipe, from their folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import escape
from itertools import islice
from pathlib import Path
from typing import Any

from launcher import runs, source
from launcher.progress import Progress, measured
from launcher.runs import starts
from launcher.runs.folder import RunFolder


@dataclass(frozen=True)
class PastRun:
    """A run that was long enough to be measured."""

    name: str
    machine: str
    state: str
    minutes: float | None
    progress: Progress


def last(
    root: Path, recipe: str, *, settings: Mapping[str, Any] | None = None, count: int = 3
) -> list[PastRun]:
    """Return the last runs below ``root`` of the recipe with this name, the newest first.

    Two files in two folders may have one name. So with ``settings`` only runs are returned that
    axolotl got the same base model and the same data for; the rest may have changed in between.
    A folder that is no run's, or of a run that broke before there was anything to measure, is
    passed over.
    """
    folders = root.glob(f"{escape(recipe)}-????????-??????-????")
    same = (
        RunFolder(folder)
        for folder in sorted(folders, key=_time, reverse=True)
        if settings is None or _trains(folder) == _subject(settings)
    )
    found = (one for folder in same for one in _read(folder))
    return list(islice(found, count))


def _time(folder: Path) -> str:
    return folder.name[-20:]


def _trains(folder: Path) -> tuple[str, ...] | None:
    settings = source.read(RunFolder(folder).resolved).value
    return None if settings is None else _subject(settings)


def _subject(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the base model and the paths of the data."""
    given = settings.get("datasets")
    entries = given if isinstance(given, list) else [given]
    paths = (entry.get("path") if isinstance(entry, Mapping) else entry for entry in entries)
    return str(settings.get("base_model")), *map(str, paths)


def _read(folder: RunFolder) -> Iterator[PastRun]:
    try:
        status = json.loads(folder.status.read_text(encoding="utf-8"))
        found = measured(runs.read_metrics(folder), starts.last_began(status))
        state, minutes = status["state"], status.get("minutes")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    if found and isinstance(state, str) and isinstance(minutes, int | float | None):
        machine = str(status.get("machine") or "unknown machine")
        yield PastRun(folder.root.name, machine, state, minutes, found)
