"""Where each value of a run's config comes from: a line of the recipe, the command line, or the
launcher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher.diagnostics import BREAK, Span
from launcher.recipe import COMMAND_LINE, Recipe
from launcher.redact import redact

LAUNCHER = "launcher: "
GOES_ON = "the checkpoint that the run goes on from"
RECORDS = "what records the run, and stops it with a checkpoint"
LOCATED = "made absolute, as it is shipped"

Path = tuple[str, ...]


def origins(
    recipe: Recipe,
    resolved: Mapping[str, Any],
    reasons: Mapping[str, str],
    given: Sequence[str],
) -> dict[str, str]:
    """Return for each value of ``resolved``, by its path (``datasets.0.path``), where it is from:
    ``my.yaml:14``, ``override KEY=VALUE``, or ``launcher:`` and why. ``reasons``: what the launcher
    says of the keys that it has set; ``given``: the overrides that a person has typed.

    A value that an override or the launcher brought in whole has one origin. Secrets are hidden.
    """
    return {
        ".".join(path): _one_line(redact(_origin(recipe, path, value, reasons, given)))
        for path, value in _leaves(resolved)
    }


def _origin(
    recipe: Recipe, path: Path, value: Any, reasons: Mapping[str, str], given: Sequence[str]
) -> str:
    known = _at(recipe.value, path)
    where = _written(recipe, recipe.value_span(*path), given)
    if path[0] in reasons:
        before = recipe.settings.get(path[0])
        return f"{LAUNCHER}{reasons[path[0]]}" + (f"; was {before} ({where})" if before else "")
    if known == value:
        return where
    return f"{LAUNCHER}{RECORDS}" if known is None else f"{where}, {LOCATED}"


def _written(recipe: Recipe, span: Span, given: Sequence[str]) -> str:
    """Return a place as a person would name it."""
    if span.file != COMMAND_LINE:
        return f"{span.file}:{span.line}"
    text = recipe.overrides[span.line - 1]
    return f"override {text}" if text in given else f"{LAUNCHER}{GOES_ON}"


def _at(value: Any, path: Path) -> Any:
    """Return what a recipe has at a path; none where it has nothing."""
    for part in path:
        if isinstance(value, Mapping):
            value = next((child for key, child in value.items() if str(key) == part), None)
        elif isinstance(value, list):
            value = value[int(part)] if int(part) < len(value) else None
    return value


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every plain value, and what is an empty list or mapping."""
    children: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, Mapping):
        children = iter(value.items())
    elif isinstance(value, list):
        children = iter(enumerate(value))
    if isinstance(value, Mapping | list) and value:
        for key, child in children:
            yield from _leaves(child, (*path, str(key)))
    elif path:
        yield path, value


def _one_line(text: str) -> str:
    return " ".join(BREAK.split(text))
