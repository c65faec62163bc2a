"""What a problem is, its order, and its renderings.

A problem is data: a stage yields ``Diagnostic`` values and never prints. ``Code`` names the kind of
problem once; its letter is the stage (Y YAML, S schema, R rules, L launch), and a code is never
used again for something else.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from launcher.redact import HIDDEN, redact

BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # what ends a line in YAML


class Severity(Enum):
    """How bad a problem is, worst first."""

    ERROR = "error"  # the run breaks, or trains something else than asked
    WARNING = "warning"  # money or quality is likely lost
    NOTE = "note"


@dataclass(frozen=True, order=True)
class Span:
    """A place in a text: 1-based line and columns, the end column exclusive."""

    file: str
    line: int = 1
    column: int = 1
    end_column: int = 1


@dataclass(frozen=True)
class Related:
    """A second place that explains the first: "first given here"."""

    message: str
    span: Span


@dataclass(frozen=True)
class Edit:
    """Write ``text`` over what stands at ``span``; without a text, delete the entry whose key that
    is.
    """

    span: Span
    text: str | None


@dataclass(frozen=True)
class Fix:
    """How the file is mended. A safe one leaves no doubt of what was meant; any other changes what
    is trained, or is a guess.
    """

    edits: tuple[Edit, ...]
    safe: bool


@dataclass(frozen=True)
class Diagnostic:
    """One problem at one place. ``message`` states the fact, ``hint`` alone holds the remedy."""

    code: str
    name: str
    severity: Severity
    message: str
    span: Span
    hint: str = ""
    related: tuple[Related, ...] = ()
    fix: Fix | None = None


@dataclass(frozen=True)
class Code:
    """A kind of problem. ``name`` is the pattern, ``doc`` its manual page: first the fact in one
    line, then what it costs.
    """

    code: str
    name: str
    severity: Severity
    doc: str

    def at(
        self,
        span: Span,
        message: str,
        hint: str = "",
        related: tuple[Related, ...] = (),
        fix: Fix | None = None,
    ) -> Diagnostic:
        """Return a problem of this kind at a place."""
        return Diagnostic(self.code, self.name, self.severity, message, span, hint, related, fix)


class LauncherError(Exception):
    """What cannot continue: a fact and a remedy. Caught in ``cli.main`` alone, which exits with
    ``exit_code``.
    """

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 3) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def write(span: Span, text: str, *, safe: bool) -> Fix:
    """Return the fix that writes ``text`` over what stands at a place."""
    return Fix((Edit(span, text),), safe)


def delete(key: Span, *, safe: bool) -> Fix:
    """Return the fix that deletes the entry whose key stands at a place."""
    return Fix((Edit(key, None),), safe)


def in_order(problems: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Sort by place, then by code; the order in which a person mends a file."""
    return sorted(problems, key=lambda problem: (problem.span, problem.code, problem.message))


def has_errors(problems: Iterable[Diagnostic]) -> bool:
    """Return whether any of the problems is an error."""
    return any(problem.severity is Severity.ERROR for problem in problems)


def summary(problems: Iterable[Diagnostic], files: int) -> str:
    """Return one line: "2 errors, 1 warning in 9 files"."""
    listed = list(problems)
    counts = [(sum(p.severity is level for p in listed), level.value) for level in Severity]
    parts = [f"{count} {word}{'s' if count > 1 else ''}" for count, word in counts if count]
    return f"{', '.join(parts) or 'no problems'} in {files} {'recipes' if files != 1 else 'recipe'}"


def render_text(problem: Diagnostic, texts: Mapping[str, str]) -> str:
    """Return the full form, with the offending line and a marker below it; ``texts`` is file to
    content.
    """
    span = problem.span
    out = [
        _line(f"{problem.severity.value}[{problem.code} {problem.name}]: {problem.message}"),
        _line(f"  --> {span.file}:{span.line}:{span.column}"),
        *_excerpt(span, texts),
    ]
    for related in problem.related:
        place = related.span
        out.append(_line(f"  note: {related.message}: {place.file}:{place.line}:{place.column}"))
        out += _excerpt(place, texts)
    return "\n".join(out + _labelled("  help: ", problem.hint))


def render_concise(problem: Diagnostic, texts: Mapping[str, str]) -> str:
    """Return one line: ``file:line:column: error[S102 unknown-key] message (hint)``."""
    span = problem.span
    kind = f"{problem.severity.value}[{problem.code} {problem.name}]"
    hint = f" ({'; '.join(problem.hint.splitlines())})" if problem.hint else ""
    return _line(f"{span.file}:{span.line}:{span.column}: {kind} {problem.message}{hint}")


def render_json(problem: Diagnostic, texts: Mapping[str, str]) -> str:
    """Return one JSON object on one line."""
    span = problem.span
    fields = {
        "code": problem.code,
        "name": problem.name,
        "severity": problem.severity.value,
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_column": span.end_column,
        "message": redact(problem.message),
        "hint": redact(problem.hint),
        "related": [
            {
                "message": redact(r.message),
                "file": r.span.file,
                "line": r.span.line,
                "column": r.span.column,
            }
            for r in problem.related
        ],
        "fix": problem.fix and ("safe" if problem.fix.safe else "unsafe"),
    }
    text = json.dumps(fields, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)


def render_github(problem: Diagnostic, texts: Mapping[str, str]) -> str:
    """Return a workflow command, which GitHub shows as an annotation on the pull request."""
    span = problem.span
    level = "notice" if problem.severity is Severity.NOTE else problem.severity.value
    place = f"line={span.line},col={span.column},endColumn={span.end_column}"
    message = "\n".join([_line(problem.message), *_labelled("help: ", problem.hint)])
    title = _property(f"{problem.code} {problem.name}")
    return f"::{level} file={_property(span.file)},{place},title={title}::{_data(message)}"


FORMATS: Mapping[str, Callable[[Diagnostic, Mapping[str, str]], str]] = {
    "text": render_text,
    "concise": render_concise,
    "json": render_json,
    "github": render_github,
}


def _line(text: str) -> str:
    """Return a text as one line that is safe to show: no secrets, and what does not print (line
    breaks, terminal codes, invisible characters) by its number.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in redact(text)
    )


def _labelled(label: str, text: str) -> list[str]:
    """Return the lines of a hint, the label before the first; none if there is no hint."""
    lines = [_line(line) for line in text.splitlines()]
    return [f"{' ' * len(label) if number else label}{line}" for number, line in enumerate(lines)]


@lru_cache(maxsize=2)
def _lines(text: str) -> list[str]:
    return BREAK.split(text)


@lru_cache(maxsize=2)
def _holds_secret(line: str) -> bool:
    return redact(line) != line


def _excerpt(span: Span, texts: Mapping[str, str]) -> list[str]:
    lines = _lines(texts.get(span.file, ""))
    if span.line > len(lines) or not lines[span.line - 1].strip():
        return []
    line = lines[span.line - 1]
    if _holds_secret(line):  # what follows may belong to it, and a marker would show its length
        return [f"{span.line:>5} | {_line(line).partition(HIDDEN)[0]}{HIDDEN}"]
    shown, start = _window(line, span.column - 1)
    shown = "".join(c if c.isprintable() else " " if c == "\t" else "\ufffd" for c in shown)
    marked = shown[start : start + span.end_column - span.column]
    marker = "^" + "~" * (_cells(marked) - 1)
    return [f"{span.line:>5} | {shown}", f"      | {' ' * _cells(shown[:start])}{marker}"]


def _cells(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def _window(line: str, start: int, width: int = 120) -> tuple[str, int]:
    """Cut a very long line around ``start``; return the part and where ``start`` now is."""
    if len(line) <= width:
        return line, start
    begin = max(0, start - width // 2)
    return line[begin : begin + width], start - begin


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
