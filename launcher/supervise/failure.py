"""What the rank that failed first said last, and the cause that this tells."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from launcher import causes
from launcher.causes import Told

KEPT = 4000  # pieces of output: the last words of sixteen ranks
LONGEST = 4000  # characters of a piece; a traceback's line has some hundred
SHOWN = 100  # lines
# What torch's elastic agent says once it has seen a rank fail (torch/distributed/elastic).
_AGENT = re.compile(r"^[WE]\d{4} .*torch/distributed/elastic/.*(closing signal|failed \(exitcode)")
_FIRST = re.compile(r"Root Cause \(first observed failure\):")
_RANK = re.compile(r"^\s*rank\s*: (\d+) \(local_rank: \d+\)")
_PROCESS = re.compile(r"^\s*exitcode\s*: -?\d+ \(pid: (\d+)\)")
# Whose a line is: torch's prefix of tracebacks, NCCL's of what it logs, axolotl's of its own log.
_MARKS = re.compile(r"^\[(?:rank|default)(\d+)\]:|\[Rank (\d+)\]|\[PID:(\d+)\]")


class Tail:
    """The last of what a training printed since it was started."""

    def __init__(self) -> None:
        """Nothing was printed yet."""
        self._pieces: deque[str] = deque(maxlen=KEPT)

    def add(self, text: str) -> None:
        """Take a piece of output; of a progress bar only its last state is kept."""
        text = text[-LONGEST:]
        if self._pieces and self._pieces[-1].endswith("\r"):
            bar = self._pieces.pop()
            text = bar[:-1] + text if text == "\n" else text
        self._pieces.append(text)

    def lines(self) -> list[str]:
        """Return it line by line."""
        return "".join(self._pieces).replace("\r", "\n").splitlines()


@dataclass(frozen=True)
class Failure:
    """``lines``: the last of the rank that failed first; ``rank``: which, where it is known."""

    lines: Sequence[str]
    told: Told | None
    rank: int | None


def of(lines: Sequence[str], exit_code: int) -> Failure:
    """Return what a training's output says of its failure: the rank that failed first before all,
    as the others fail for its absence.
    """
    rank, process = _first_to_fail(lines)
    own = lines
    if rank is not None:
        own = [line for line in _before_agent(lines) if _is_of(line, rank, process)]
    told = causes.told(own) or causes.told(lines, exit_code)
    return Failure(own[-SHOWN:], told, rank)


def _first_to_fail(lines: Sequence[str]) -> tuple[int | None, str]:
    """Return the rank and the process id that torch's elastic agent saw fail first."""
    for start in (n for n, line in enumerate(lines) if _FIRST.search(line)):
        block = lines[start : start + 10]
        rank = next((found[1] for line in block if (found := _RANK.match(line))), None)
        process = next((found[1] for line in block if (found := _PROCESS.match(line))), "")
        if rank is not None:
            return int(rank), process
    return None, ""


def _before_agent(lines: Sequence[str]) -> Sequence[str]:
    """Return what was said before the agent ended the other ranks, which may protest, and how it
    says that the first ended.
    """
    start = next((n for n, line in enumerate(lines) if _AGENT.match(line)), len(lines))
    said = [line for line in lines[start:] if "failed (exitcode" in line]
    return [*lines[:start], *said[:1]]


def _is_of(line: str, rank: int, process: str) -> bool:
    """Whether a line is of a rank, or nobody's."""
    mark = _MARKS.search(line)
    if not mark:
        return True
    return mark[3] == process if mark[3] else (mark[1] or mark[2]) == str(rank)
