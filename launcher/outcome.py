"""What came of a run, for its status: how it ended, how far and how fast it went, what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launcher import runs
from launcher.progress import TOKENS
from launcher.runs import starts
from launcher.runs.folder import RunFolder
from launcher.runs.values import LARGEST, number


def ended(folder: RunFolder, state: str, exit_code: int, minutes: float) -> dict[str, Any]:
    """Return what ``status.json`` gets at the end of a start that took so many minutes: how it
    ended, and of the whole run what its records say. ``minutes`` there are those of all starts, and
    ``usd`` what they cost at the price of the plan, where it has one.
    """
    now = runs.now()
    status = runs.read_mapping(folder.status)
    end = {"ended": now, "minutes": minutes, "state": state, "exit_code": exit_code}
    all_starts = starts.ended(status, **end)
    total = starts.minutes(all_starts)
    price = number(runs.read_mapping(folder.plan).get("usd_an_hour"))
    cost = {} if price is None else {"usd": round(total / 60 * price, 2)}
    return {**end, "minutes": total, "starts": all_starts, **_records(folder, status), **cost}


def summary(records: Sequence[Mapping[str, Any]], since: float) -> dict[str, Any]:
    """Return the last step, the last losses, the peak allocated GiB of a GPU over all starts, and
    the mean tokens per second of a GPU in the last start, ``since`` that began (Unix seconds); what
    was not recorded is left out.
    """
    last_start = [one for one in records if (number(one.get("time")) or 0.0) >= since]
    found = {
        "step": _last(records, "step"),
        "loss": _last(records, "loss"),
        "eval_loss": _last(records, "eval_loss"),
        "peak_gib": max(_numbers(records, "peak_allocated_gib"), default=None),
    }
    if rates := _numbers(last_start, TOKENS):
        found["tokens_per_second"] = round(sum(rates) / len(rates), 1)
    return {name: value for name, value in found.items() if value is not None}


def _records(folder: RunFolder, status: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return summary(runs.read_metrics(folder), starts.last_began(status))
    except OSError:
        return {}


def _last(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return next(reversed(_numbers(records, name)), None)


def _numbers(records: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    values = (one.get(name) for one in records)
    return [one for one in values if isinstance(one, int | float) and abs(one) < LARGEST]
