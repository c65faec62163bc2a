"""What a problem is, its order, and its renderings.

A problem is data: a stage yields ``Diagnostic`` values and never prints. ``Code`` names the kind of
problem once; its letter is the stage (Y YAML, S schema, R rules, L launch), and a code is never
used again for something else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from launcher.redact import redact


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
class Diagnostic:
    """One problem at one place. ``message`` states the fact, ``hint`` alone holds the remedy."""

    code: str
    name: str
    severity: Severity
    message: str
    span: Span
    hint: str = ""
    related: tuple[Related, ...] = ()


@dataclass(frozen=True)
class Code:
    """A kind of problem. ``name`` is the pattern, ``why`` what it costs."""

    code: str
    name: str
    severity: Severity
    why: str

    def at(
        self, span: Span, message: str, hint: str = "", related: tuple[Related, ...] = ()
    ) -> Diagnostic:
        """Return a problem of this kind at a place."""
        return Diagnostic(self.code, self.name, self.severity, message, span, hint, related)


class LauncherError(Exception):
    """What cannot continue: a fact and a remedy. Caught in ``cli.main`` alone, which exits with
    ``exit_code``.
    """

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 3) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


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
    out = [f"{problem.severity.value}[{problem.code} {problem.name}]: {problem.message}"]
    out.append(f"  --> {span.file}:{span.line}:{span.column}")
    out += _excerpt(span, texts)
    for related in problem.related:
        place = related.span
        out.append(f"  note: {related.message}: {place.file}:{place.line}:{place.column}")
        out += _excerpt(place, texts)
    if problem.hint:
        out += _labelled("  help: ", problem.hint)
    return redact("\n".join(out))


def render_concise(problem: Diagnostic, texts: Mapping[str, str]) -> str:
    """Return one line: ``file:line:column: error[S102 unknown-key] message (hint)``."""
    span = problem.span
    hint = f" ({problem.hint})" if problem.hint else ""
    place = f"{span.file}:{span.line}:{span.column}"
    line = (
        f"{place}: {problem.severity.value}[{problem.code} {problem.name}] {problem.message}{hint}"
    )
    return redact(line.replace("\n", "; "))


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
                "message": r.message,
                "file": r.span.file,
                "line": r.span.line,
                "column": r.span.column,
            }
            for r in problem.related
        ],
    }
    return json.dumps(fields, ensure_ascii=False)


def render_github(problem: Diagnostic, texts: Mapping[str, str]) -> str:
    """Return a workflow command, which GitHub shows as an annotation on the pull request."""
    span = problem.span
    level = "notice" if problem.severity is Severity.NOTE else problem.severity.value
    place = f"line={span.line},col={span.column},endColumn={span.end_column}"
    message = problem.message + (f"\nhelp: {problem.hint}" if problem.hint else "")
    title = _property(f"{problem.code} {problem.name}")
    return f"::{level} file={_property(span.file)},{place},title={title}::{_data(redact(message))}"


FORMATS: Mapping[str, Callable[[Diagnostic, Mapping[str, str]], str]] = {
    "text": render_text,
    "concise": render_concise,
    "json": render_json,
    "github": render_github,
}


def _labelled(label: str, text: str) -> list[str]:
    first, *rest = text.split("\n")
    return [label + first, *(" " * len(label) + line for line in rest)]


def _excerpt(span: Span, texts: Mapping[str, str]) -> list[str]:
    lines = texts.get(span.file, "").split("\n")
    if span.line > len(lines) or not lines[span.line - 1].strip():
        return []
    line = lines[span.line - 1].rstrip("\r").expandtabs(1)
    if redact(line) != line:  # the marker would show how long the secret is
        return [f"{span.line:>5} | {redact(line)}"]
    start, width = span.column - 1, max(1, span.end_column - span.column)
    shown, start = _window(line, start)
    marker = "^" + "~" * (min(width, max(1, len(shown) - start)) - 1)
    return [f"{span.line:>5} | {shown}", f"      | {' ' * start}{marker}"]


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
