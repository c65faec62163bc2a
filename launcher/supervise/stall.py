"""Looks at a training while it goes on: says that it saves, and when it stands still."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from launcher import runs
from launcher.runs.folder import RunFolder
from launcher.supervise import stacks
from launcher.supervise.life import Life, Patience
from launcher.supervise.stacks import Standing


class Watch:
    """``say`` tells a person, ``note`` changes fields of ``status.json``. ``stalled``: why the
    training is to be ended, nothing as long as it is not.
    """

    def __init__(
        self,
        folder: RunFolder,
        patience: Patience,
        say: Callable[[str], None],
        note: Callable[..., Any],
    ) -> None:
        """Watch a training that has just been started."""
        self.folder, self.patience, self.say, self.note = folder, patience, say, note
        self.stalled = ""
        self._life, self._saving, self._reported = Life(folder), False, False

    def over(self) -> bool:
        """Look; return whether the training is to be ended. Called some ten times a second."""
        quiet = self.look()
        if not self.patience.seconds or quiet < self.patience.seconds:
            self._reported = False
        elif not self._reported:
            self._reported = True
            self._report(quiet)
        return bool(self.stalled)

    def look(self) -> float:
        """Look, and say whether it saves; return for how many seconds nothing has moved."""
        quiet = self._life.look()
        if (saving := self._life.phase == "save") != self._saving:
            self._saving = saving
            self.note(state="saving" if saving else "running")
        return quiet

    def _report(self, quiet: float) -> None:
        """Tell where all ranks stand, once for each time that it stands still."""
        life = self._life
        at = f"after step {life.step}" if life.step is not None else "before the first step"
        phase = f", phase {life.phase}" if life.phase else ""
        fact = f"stalled: nothing has moved for {_time(quiet)} ({at}{phase})"
        found: list[Standing] = []
        with contextlib.suppress(OSError):  # whatever becomes of this, the run goes on
            found = stacks.standings(self.folder)
        with contextlib.suppress(OSError), self.folder.stacks.open("a", encoding="utf-8") as kept:
            kept.write(stacks.report(f"{runs.now()} {fact}", found))
        fact += f": {stacks.sentence(found)}"
        if self.patience.end:
            self.stalled = fact
        ends = "the run is ended" if self.patience.end else "--end-stalled would end the run"
        self.say(f"{fact}; all stacks are in {self.folder.stacks}; {ends}")


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
