"""A line of the doctor's table: one subject, one verdict, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from launcher.diagnostics import Code, Diagnostic, Severity, Span

GIB = 2**30


class Verdict(Enum):
    """What the doctor says of one subject."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    UNCHECKED = "not checked"


@dataclass(frozen=True)
class Line:
    """What was found; of a problem the words are the diagnostic's message, the remedy its hint."""

    subject: str
    verdict: Verdict
    words: str
    problem: Diagnostic | None = None

    @property
    def remedy(self) -> str:
        """What can be pasted to mend it; nothing where there is nothing to mend."""
        return self.problem.hint if self.problem else ""


Lines = Iterator[Line]


def ok(subject: str, words: str) -> Line:
    """Return a line without a problem."""
    return Line(subject, Verdict.OK, words)


def unchecked(subject: str, why: str) -> Line:
    """Return a line on what could not be looked at, and why."""
    return Line(subject, Verdict.UNCHECKED, why)


def bad(subject: str, code: Code, words: str, remedy: str, span: Span | None = None) -> Line:
    """Return a line with a problem: at the recipe's place, or of this machine."""
    problem = code.at(span or Span("this machine"), words, remedy)
    error = problem.severity is Severity.ERROR
    return Line(subject, Verdict.ERROR if error else Verdict.WARNING, words, problem)


def failed(lines: Iterable[Line]) -> bool:
    """Return whether any of the lines is an error."""
    return any(line.verdict is Verdict.ERROR for line in lines)


def gib(size: float) -> str:
    """Return bytes as "12.3 GiB"; what is small as MiB."""
    return f"{size / GIB:,.1f} GiB" if size >= GIB else f"{size / 2**20:,.0f} MiB"


def plural(count: int, word: str) -> str:
    """Return "1 GPU", "2 GPUs"."""
    return f"{count} {word}{'s' * (count != 1)}"
