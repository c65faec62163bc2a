"""Why a training ended: known failures, told by what it printed last."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from launcher.recipe import pack_folder

TABLE = "failures.tsv"  # in the pack's folder `schemas`
TAIL = 400  # lines; several ranks print a traceback each
LONGEST = 300  # characters of a line that are looked at
KILLED = (137, -9)  # exit codes of SIGKILL, in a shell and in Python
# The last line of a traceback, with what torchrun puts before it.
_RAISED = re.compile(r"^(\[\w*rank\d+\]:\s*)?([\w.]*\.)?[A-Z]\w*(Error|Exception|Iteration|Exit)\b")
# What axolotl logs and goes on after: on a CPU, for one, that torch has no CUDA.
_REMARK = re.compile(r"^\[[^\]]*\] \[(DEBUG|INFO|WARNING)\]")
# What a launcher says when its child failed: never the cause.
_CHILD = re.compile(r"CalledProcessError|ChildFailedError|ProcessRaisedException")


@dataclass(frozen=True)
class Cause:
    """A known failure. ``pattern`` is looked for in each line; ``{recipe}`` in the ``remedy`` is
    the recipe as it was typed. ``retry``: it may pass by itself, so that another start from the
    last checkpoint is worth its money.
    """

    name: str
    pattern: re.Pattern[str]
    fact: str
    remedy: str
    retry: bool


@dataclass(frozen=True)
class Told:
    """A cause, and the line that told it."""

    cause: Cause
    line: str


def told(lines: Sequence[str], exit_code: int | None = None) -> Told | None:
    """Return the cause that the last lines of a log tell, none where they tell no known one.

    What was raised counts before what was only printed: a warning may name a failure that did not
    come. A process that was killed and said nothing was most likely ended by the kernel.
    """
    last = [
        line.strip()[:LONGEST]
        for line in lines[-TAIL:]
        if not (_CHILD.search(line) or _REMARK.match(line))
    ]
    raised = [line for line in last if _RAISED.search(line)]
    return _first(raised) or _first(last) or (_killed(exit_code) if exit_code in KILLED else None)


def _first(lines: Sequence[str]) -> Told | None:
    """Return the first known cause, in the order of the table, and the first line that tells it."""
    return next(
        (Told(cause, line) for cause in known() for line in lines if cause.pattern.search(line)),
        None,
    )


def _killed(exit_code: int | None) -> Told:
    cause = next(one for one in known() if one.name == "host-memory")
    return Told(cause, f"exit code {exit_code}")


@lru_cache(maxsize=1)
def known() -> tuple[Cause, ...]:
    """Return the table of known failures: special ones before general ones."""
    with (pack_folder("schemas") / TABLE).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return tuple(
        Cause(
            row["name"],
            re.compile(row["pattern"]),
            row["fact"],
            row["remedy"],
            row["retry"] == "yes",
        )
        for row in rows
    )
