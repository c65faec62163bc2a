"""``--auto-resume``: a run that failed starts again where that may help, and it says why (not)."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher import resume as resuming
from launcher import runs
from launcher.checkpoints import checkpoints
from launcher.cli import Terminated
from launcher.diagnostics import LauncherError
from launcher.resume import Begun
from launcher.runs.folder import RunFolder
from launcher.supervise import STOP_AT, Ended
from launcher.supervise.signals import Received, received_signals

WAITS = (10, 30, 60, 120, 300)  # seconds before each start; a host or a port needs a while
AGAIN = "it starts again"  # what another node is told, so that it does so, too


@dataclass
class Attempts:
    """How often a run was started without a new checkpoint: ``limit`` times again at most.
    ``folder``: the run's, once it is written.

    A restart that came to a newer whole checkpoint than the one before has made progress, and the
    count begins anew: a cheap machine may be preempted every hour for days.
    """

    limit: int
    environ: Mapping[str, str] = field(default_factory=dict)
    folder: RunFolder | None = None
    count: int = 0
    step: int = 0
    wait: float | None = None
    why: str = ""

    def judge(self, ended: Ended, model: Path) -> None:
        """Decide how long to ``wait`` before the next start, None where there is to be none, and
        ``why`` in one sentence, nothing where no word is needed.
        """
        self.wait, self.why = None, ""
        if not self.limit or ended.state != "failed":
            return
        step = next((one.step for one in checkpoints(model) if not one.fault), 0)
        self.count, self.step = (0 if step > self.step else self.count), max(step, self.step)
        wait = WAITS[min(self.count, len(WAITS) - 1)]
        if why := _not_worth_it(ended) or self._spent(wait):
            self.why = f"not started again: {why}"
            return
        self.wait, self.count = wait, self.count + 1
        whence = f"from step {step}" if step else "from its beginning"
        self.why = f"starts again in {wait} s {whence}, {self.count} of {self.limit}"

    def _spent(self, wait: float) -> str:
        """Return what leaves no room for another start, nothing where there is some."""
        if self.count >= self.limit:
            return f"{self.limit} restarts without a new checkpoint"
        over = time.time() + wait >= float(self.environ.get(STOP_AT) or "inf")
        return "its hours are over" if over else ""

    def words(self, ended: Ended) -> str:
        """Return what the other nodes are told of an end, nothing of a good one."""
        if not ended.exit_code:
            return ""
        how = f"its training ended with exit code {ended.exit_code}"
        return how if self.wait is None else f"{how}; {AGAIN}"


def repeated(
    attempt: Callable[[Begun | None], Ended], begun: Begun | None, tries: Attempts
) -> Ended:
    """Attempt a run until it is not to be started again, and return how it ended. What keeps it
    from being started is raised, and written down.
    """
    try:
        while True:
            ended = attempt(begun)
            if tries.wait is None:
                return ended
            begun = resuming.again(ended.folder)
            with runs.held(ended.folder), received_signals() as received:
                _note_restart(ended, begun.step)
                _wait(tries.wait, received)
            if received.signals:
                return _stopped(ended, received.signals[0])
    except LauncherError as problem:
        cause = {"name": "unknown", "fact": "", "line": problem.message, "rank": None}
        _note_unstarted(tries, state="failed", exit_code=problem.exit_code, cause=cause)
        raise
    except KeyboardInterrupt as problem:
        asked = isinstance(problem, Terminated)
        _note_unstarted(tries, state="preempted" if asked else "stopped")
        raise


def _stopped(ended: Ended, number: int) -> Ended:
    """Return the end of a run that was stopped before it started again."""
    state = "preempted" if number == signal.SIGTERM else "stopped"
    found = replace(ended, state=state, exit_code=128 + number)
    _note(found.folder, state=state, exit_code=found.exit_code)
    return found


def _note_unstarted(tries: Attempts, **fields: object) -> None:
    """Write down why a run that says that it starts never did."""
    folder = tries.folder
    if folder and runs.read_mapping(folder.status).get("state") == "starting":
        _note(folder, **fields)


def _note_restart(ended: Ended, step: int) -> None:
    """Write down in ``status.json`` that a run starts again, from which step, and after what."""
    before = runs.read_mapping(ended.folder.status).get("restarts")
    one = {"time": runs.now(), "step": step, "cause": (ended.cause or {}).get("name")}
    restarts = [*(before if isinstance(before, list) else []), one]
    _note(ended.folder, state="starting", restarts=restarts)


def _note(folder: RunFolder, **fields: object) -> None:
    with contextlib.suppress(OSError):  # a full disk ends the next start, not this one
        runs.update_status(folder, **fields)


def _not_worth_it(ended: Ended) -> str:
    """Return why another start would fail as well, nothing where it may not."""
    if ended.why and " stopped: " in ended.why and AGAIN not in ended.why:
        return "another node has stopped, and does not start again"
    if ended.told is None:
        return "the cause is not known"
    return "" if ended.told.cause.retry else f"{ended.told.cause.fact}, and would again"


def _wait(seconds: float, received: Received) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not received.signals:
        time.sleep(0.1)
