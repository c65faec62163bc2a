"""Every start of a run as ``status.json`` keeps it: when, from which step, how it ended. A run that
was stopped and gone on with has several, and is paid for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from launcher.runs.values import moment, number

LOST = "lost"  # the launcher was gone before it could write an end: kill -9, a machine taken away

Start = dict[str, Any]


def listed(status: Mapping[str, Any]) -> list[Start]:
    """Return the starts that a status holds; nothing where it holds something else."""
    found = status.get("starts")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def begun(
    status: Mapping[str, Any], now: str, step: int | None, last_sign: float | None
) -> list[Start]:
    """Return the starts with a new one, at ``now``, from ``step`` on. One before it that never
    ended did so at the last sign of it (Unix seconds), as far as is known.
    """
    before = listed(status)
    if before and "ended" not in before[-1]:
        before[-1] = {**before[-1], **_lost(before[-1], last_sign)}
    return [*before, {"started": now, "from_step": step or 0}]


def ended(status: Mapping[str, Any], **end: Any) -> list[Start]:
    """Return the starts with the last one ended."""
    *before, last = listed(status) or [{}]
    return [*before, {**last, **end}]


def minutes(starts: list[Start]) -> float:
    """Return the minutes of all starts that ended."""
    return round(sum(number(one.get("minutes")) or 0.0 for one in starts), 2)


def last_began(status: Mapping[str, Any]) -> float:
    """Return when the last start began, in Unix seconds; 0 where that is not known."""
    known = listed(status)
    return moment(known[-1].get("started") if known else status.get("started")) or 0.0


def _lost(start: Start, last_sign: float | None) -> Start:
    began = moment(start.get("started"))
    if began is None:
        return {"state": LOST}
    last = max(began, last_sign or began)
    when = datetime.fromtimestamp(last, timezone.utc).isoformat(timespec="seconds")
    return {"ended": when, "minutes": round((last - began) / 60, 2), "state": LOST}
