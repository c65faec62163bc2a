"""What a rule is: one function, one code, and a docstring that is its manual page.

A rule yields ``Finding`` values. Its docstring holds, in this order, the fact in one line, why it
costs money or quality, an ``Example:`` that it reports and a ``Use instead:`` that it leaves alone,
both fenced as yaml; a test runs both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from launcher.diagnostics import Code, Diagnostic, Fix, Related, Severity, Span
from launcher.recipe import Recipe
from launcher.schema.wording import cut

MAX_WORDS = 1000  # letters of a message: it may quote a value, which may be as long as the file


@dataclass(frozen=True)
class Finding:
    """One place at which a rule is broken: the fact, and the remedy."""

    span: Span
    message: str
    hint: str = ""
    related: tuple[Related, ...] = ()
    fix: Fix | None = None


Findings = Iterator[Finding]


@dataclass(frozen=True)
class Rule:
    """A code and the function that finds it."""

    code: Code
    find: Callable[[Recipe], Findings]

    def __call__(self, recipe: Recipe) -> Iterator[Diagnostic]:
        """Yield a diagnostic for each finding."""
        for found in self.find(recipe):
            message, hint = cut(found.message, MAX_WORDS), cut(found.hint, MAX_WORDS)
            yield self.code.at(found.span, message, hint, found.related, found.fix)


def rule(
    code: str, name: str, severity: Severity
) -> Callable[[Callable[[Recipe], Findings]], Rule]:
    """Make a function a rule; its docstring becomes the manual page of the code."""

    def wrap(find: Callable[[Recipe], Findings]) -> Rule:
        return Rule(Code(code, name, severity, inspect.getdoc(find) or ""), find)

    return wrap


def scientific(value: float) -> str:
    """Return a number as a recipe writes it: 5.0e-6."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}" if power else digits  # inf and nan have none


def number(value: Any) -> float | None:
    """Return the number that axolotl reads in a value ("2e-5" is one, true is none), or none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(str(value))  # of a number that is too large it makes inf, float() an error
    except ValueError:
        return None
