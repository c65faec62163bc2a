"""All checks of one recipe, in turn: reading, schema, rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from launcher.diagnostics import Diagnostic, Severity, in_order
from launcher.recipe import Recipe
from launcher.rules import RULES, refusals, security
from launcher.schema import check

# What leaves a value in a form that the rules do not expect.
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
    malformed = _keys_of(recipe, (problem for problem in schema if problem.code in _FORM))
    yield from _once(list(_by_rules(recipe, malformed)))


def _by_rules(recipe: Recipe, malformed: frozenset[str]) -> Iterator[Diagnostic]:
    for rule in RULES:
        if rule in security.RULES or not malformed:
            yield from rule(recipe)
            continue
        sound = _Sound(recipe.value, malformed)
        found = list(rule(replace(recipe, value=sound, malformed=malformed)))
        if not sound.asked:
            yield from found


def _once(problems: list[Diagnostic]) -> Iterator[Diagnostic]:
    """Leave out what axolotl refuses where a rule of ours says so in words of its own."""
    refused = refusals.refused_combination.code.code
    told = {
        line
        for problem in problems
        if problem.severity is Severity.ERROR and problem.code != refused
        for line in _lines(problem)
    }
    for problem in problems:
        if problem.code != refused or told.isdisjoint(_lines(problem)):
            yield problem


def _lines(problem: Diagnostic) -> set[tuple[str, int]]:
    spans = [problem.span, *(related.span for related in problem.related)]
    return {(span.file, span.line) for span in spans}


def _keys_of(recipe: Recipe, problems: Iterable[Diagnostic]) -> frozenset[str]:
    """Return the top-level keys at or below which problems stand; all, where one has no place."""
    open_spans = {problem.span for problem in problems}
    keys = set()
    for path, place in recipe.places.items() if open_spans else ():
        if path and open_spans & {place.key, place.value}:
            keys.add(path[0])
            open_spans -= {place.key, place.value}
    return frozenset(map(str, recipe.value) if open_spans else keys)


class _Sound(dict[str, Any]):
    """The values of a recipe without the malformed ones. It knows whether one of those was asked
    for: what a rule then finds is a guess.
    """

    def __init__(self, value: Any, malformed: frozenset[str]) -> None:
        super().__init__((key, one) for key, one in value.items() if key not in malformed)
        self._malformed = malformed
        self.asked = False

    def get(self, key: str, default: Any = None) -> Any:
        self.asked |= key in self._malformed
        return super().get(key, default)

    def __missing__(self, key: str) -> Any:
        self.asked |= key in self._malformed
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        self.asked |= key in self._malformed
        return super().__contains__(key)
