"""Reads a run's folder again and again, each time only what is new."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import runs
from launcher.runs import starts
from launcher.runs.folder import RunFolder
from launcher.runs.starts import LOST
from launcher.runs.values import moment, number
from launcher.watch import bars, records
from launcher.watch.records import Evaluation, Record
from launcher.watch.seen import LIVE, Seen, plan

MOST = 16 * 2**20  # bytes that are read of a file at once: of more only the end is
END = 2**16  # bytes of a log that are read at first
BARS = ("start", "tokenise", "load", "finish")  # phases of which a bar says more than the phase
STARTED = 5.0  # seconds that the clocks of a launcher and a file may differ


@dataclass
class Tail:
    """A file that grows: what came since it was last read, by whole lines."""

    path: Path
    first: int = MOST  # bytes before its end to begin with
    offset: int = -1
    rest: bytes = b""

    def lines(self) -> list[str]:
        """Return the new lines, those of a bar, which end with a carriage return, among them."""
        try:
            size = self.path.stat().st_size
            if size == self.offset:
                return []
            if self.offset < 0:
                self.offset = max(0, size - self.first)
            if size < self.offset:  # begun anew
                self.offset, self.rest = 0, b""
            if size - self.offset > MOST:
                self.offset, self.rest = size - MOST, b""
            with self.path.open("rb") as stream:
                stream.seek(self.offset)
                new = stream.read(size - self.offset)
        except OSError:
            self.offset = max(0, self.offset)  # what is not there yet begins anew
            return []
        self.offset += len(new)
        *whole, self.rest = re.split(rb"[\r\n]", (self.rest + new)[-MOST:])
        return [line.decode("utf-8", errors="replace") for line in whole if line.strip()]

    def unfinished(self) -> str:
        """Return the last line where it has no end: nobody may ever write one."""
        return self.rest.decode("utf-8", errors="replace")


class Follower:
    """One run's folder, as it grows."""

    def __init__(self, folder: RunFolder, *, from_its_end: bool = False) -> None:
        """Read ``folder``; ``from_its_end``: nothing that is in the log already."""
        self.folder = folder
        self.metrics = Tail(folder.metrics)
        self.log = Tail(folder.log, first=0 if from_its_end else END)
        self.records: tuple[Record, ...] = ()
        self.evaluations: list[Evaluation] = []
        self.bar: bars.Bar | None = None
        self.last = ""

    def read(self, now: float) -> Seen:
        """Return what is known now."""
        self._metrics()
        self._log()
        status, progress = read_json(self.folder.status), read_json(self.folder.progress)
        started = moment(status.get("started"))
        if started and (number(progress.get("time")) or 0) < started - STARTED:
            progress = {}  # an earlier start's
        return _seen(self, status, progress, started, now)

    def _metrics(self) -> None:
        found = [records.record(line) for line in self.metrics.lines()]
        new = [one for one in found if isinstance(one, Record)]
        self.records = records.joined(self.records, new) if new else self.records
        self.evaluations += [one for one in found if isinstance(one, Evaluation)]

    def _log(self) -> None:
        lines = self.log.lines()
        pairs = [(line, bars.bar(line)) for line in lines]
        self.bar = bars.going_on((found for _, found in pairs if found), self.bar)
        self.last = next((line for line, found in reversed(pairs) if not found), self.last)


def _seen(
    of: Follower,
    status: Mapping[str, Any],
    progress: Mapping[str, Any],
    started: float | None,
    now: float,
) -> Seen:
    forecast = plan(read_json(of.folder.plan))
    state = state_of(of.folder, status)
    live = state in LIVE
    steps = _whole(progress.get("max_steps")) or forecast.steps
    mine = [one for one in of.records if started is None or one.time >= started - STARTED]
    step = max(_whole(progress.get("step")) or 0, mine[-1].step if mine else 0)
    speed = records.pace(mine, _whole(status.get("processes")) or 1)
    phase = _phase(progress, of.bar)
    last = of.records[-1] if of.records else None
    signs = (number(progress.get("time")), mine[-1].time if mine else None, changed(of.folder.log))
    sign = max((one for one in signs if one), default=None)
    return Seen(
        name=of.folder.root.name,
        state=state,
        phase=phase,
        step=step or (last.step if last else 0),
        steps=steps,
        batches=_batches(progress) if phase == "evaluate" else None,
        bar=of.bar if live and phase in (*BARS, "download") else None,
        loss=last.loss if last else None,
        margin=last.margin if last else None,
        accuracy=last.accuracy if last else None,
        eval_loss=of.evaluations[-1].loss if of.evaluations else None,
        evaluations=len(of.evaluations),
        losses=tuple(one.loss for one in of.records),
        margins=tuple(one.margin for one in of.records if one.margin is not None),
        seconds_a_step=speed.now,
        tokens_per_second=speed.tokens,
        peak_gib=max((one.peak_gib for one in mine if one.peak_gib), default=None),
        eta=records.left(mine, speed, step=step, steps=steps, now=now) if live else None,
        seconds=elapsed(status, now if live else sign),
        earlier=earlier(status),
        sign=sign,
        last=of.last,
        pid=_whole(status.get("pid")),
        plan=forecast,
    )


def state_of(folder: RunFolder, status: Mapping[str, Any]) -> str:
    """Return the state of a run; ``lost`` where it says that it goes on and nobody holds it."""
    state = status.get("state")
    if not isinstance(state, str) or not state.isprintable():
        return ""
    return LOST if state in LIVE and not runs.is_held(folder) else state


def elapsed(status: Mapping[str, Any], end: float | None) -> float | None:
    """Return the seconds that the last start took; one whose end is not written down until ``end``
    (Unix seconds): now, or when it was last heard of.
    """
    started, ended = moment(status.get("started")), moment(status.get("ended"))
    if started is None:
        minutes = number(status.get("minutes"))
        return None if minutes is None else minutes * 60
    if ended is not None and ended >= started:
        return ended - started
    return None if end is None else max(0.0, end - started)


def earlier(status: Mapping[str, Any]) -> float:
    """Return the seconds that all starts but the last took: they were paid, too."""
    before = starts.listed(status)[:-1]
    return sum((number(one.get("minutes")) or 0.0) * 60 for one in before)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a file holds; an empty one where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _phase(progress: Mapping[str, Any], bar: bars.Bar | None) -> str:
    phase = progress.get("phase")
    known = phase if isinstance(phase, str) and phase.isalpha() else "start"
    return "download" if known in BARS and bar and bar.in_bytes else known


def _batches(progress: Mapping[str, Any]) -> tuple[int, int | None] | None:
    done = _whole(progress.get("done"))
    return None if done is None else (done, _whole(progress.get("of")))


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def changed(path: Path) -> float | None:
    """Return when a file was last written, in Unix seconds."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
