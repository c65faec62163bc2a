"""All checks of one recipe, in turn: reading, schema, rules."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.diagnostics import Diagnostic, in_order
from launcher.recipe import Recipe
from launcher.rules import RULES, security
from launcher.schema import check

# Problems that leave nothing else worth saying: the values are not known, or not of the form that
# the rules read.
_FORM = {check.TYPE.code, check.VALUE.code}


def validate(recipe: Recipe) -> list[Diagnostic]:
    """Return every problem of a recipe, in the order of its text."""
    return in_order(_problems(recipe))


def _problems(recipe: Recipe) -> Iterator[Diagnostic]:
    yield from recipe.problems
    if not recipe.value:
        return
    schema = list(check.check(recipe))
    yield from schema
    malformed = any(problem.code in _FORM for problem in schema)
    for rule in RULES:
        if not malformed or rule in security.RULES:
            yield from rule(recipe)
