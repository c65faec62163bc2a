"""Signs of life of a training: which phase it is in, and how long it has made no step."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher import runs
from launcher.runs.folder import RunFolder

LOOK_SECONDS = 1.0
STEPPING = {"train", "evaluate", "save"}  # phases in which steps are made, or parts of one


@dataclass(frozen=True)
class Patience:
    """How long a training may make no step, in seconds, 0 for ever; ``end``: and whether it is
    ended then.
    """

    seconds: float = 1800.0
    end: bool = False


@dataclass
class Life:
    """What the files of a run folder show. On a node where nothing tells of steps, as on all but
    the first, no silence is one.
    """

    folder: RunFolder
    phase: str = ""
    step: int | None = None
    _signs: Any = None
    _moved: float = field(default_factory=time.monotonic)
    _looked: float = 0.0

    def look(self) -> float:
        """Look again, at most once a second; return for how many seconds nothing has moved."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            signs = self._read()
            if signs is None or signs != self._signs:
                self._signs, self._moved = signs, now
        return now - self._moved

    def _read(self) -> Any:
        """Return what changes with every step. Before the first one, while data and model are
        loaded, each line of output counts, and without ``progress.json`` it always does.
        """
        said = runs.read_mapping(self.folder.progress)
        phase, step = said.get("phase"), said.get("step")
        self.phase = phase if isinstance(phase, str) else ""
        self.step = step if isinstance(step, int) else None
        if not said and self.folder.node:
            return None
        moved = {name: value for name, value in said.items() if name not in ("time", "pid")}
        sizes = [_size(self.folder.metrics)]
        if self.phase not in STEPPING:
            sizes.append(_size(self.folder.log))
        return moved, sizes


def _size(file: Path) -> int:
    with contextlib.suppress(OSError):
        return file.stat().st_size
    return 0
