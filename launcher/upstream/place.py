"""axolotl's words put at the lines that they speak of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from launcher.diagnostics import Code, Diagnostic, Related, Severity, Span
from launcher.recipe import Recipe
from launcher.rules.security import foreign_plugins
from launcher.source import Path
from launcher.upstream import Complaint, Verdict

REFUSES = Code(
    "U101",
    "axolotl-refuses",
    Severity.ERROR,
    "axolotl's own validation stops here; the run ends before it starts.",
)
DROPS = Code(
    "U102",
    "axolotl-drops-key",
    Severity.ERROR,
    "axolotl's own validation loses this key, and the run goes on without it.",
)
WARNS = Code(
    "U103",
    "axolotl-warns",
    Severity.NOTE,
    "axolotl logs this while it validates, among a hundred other lines.",
)

NOT_ASKED = Code(
    "U104",
    "axolotl-not-asked",
    Severity.ERROR,
    "axolotl's validation would import a plugin that is not its own, which runs code.",
)

_NAME = re.compile(r"[A-Za-z_][\w./-]*\w")
_STRONG = re.compile(r"""[_.`'"]""")  # marks a name that is no English word
MAX_RELATED = 3
MAX_HINT_LINES = 6


def diagnostics(
    recipe: Recipe, verdict: Verdict, known: Iterable[Diagnostic] = ()
) -> Iterator[Diagnostic]:
    """Yield what axolotl says of a recipe. A dropped key or a warning is left out where ``known``,
    the problems found without axolotl, has one at its line already.
    """
    lines = {problem.span.line for problem in known}
    for complaint in verdict.errors:
        yield _at(REFUSES, recipe, complaint)
    for key in verdict.dropped:
        path = tuple(re.findall(r"[^.\[\]]+", key))
        span = recipe.key_span(*path)
        # Under fsdp_config the prefix fsdp_ goes, the setting stays.
        if span.line not in lines and not path[-1].startswith("fsdp_"):
            yield DROPS.at(span, f"axolotl drops {key}", "delete the line")
    for words in verdict.warnings:
        warning = _at(WARNS, recipe, Complaint((), words))
        if warning.span.line not in lines:
            yield warning


def not_asked(recipe: Recipe) -> Iterator[Diagnostic]:
    """Yield why axolotl cannot be asked about a recipe that nobody vouches for."""
    for path, name in foreign_plugins(recipe):
        fact = f'axolotl was not asked: it would run plugin "{name}"'
        hint = "add --trust if you know what it does"
        yield NOT_ASKED.at(recipe.value_span(*path), fact, hint)


def _at(code: Code, recipe: Recipe, complaint: Complaint) -> Diagnostic:
    """Return a problem at the place that axolotl points at, or else at the first that it names."""
    fact, *rest = (line.strip() for line in complaint.words.splitlines() if line.strip())
    hint = "\n".join(rest[:MAX_HINT_LINES])
    path = _pointed(recipe, complaint.where)
    if path:
        missing = len(path) < len(complaint.where) and complaint.where[-1] not in path
        where = ".".join(complaint.where if missing else path)
        span = recipe.key_span(*path) if missing else recipe.value_span(*path)
        return code.at(span, f"axolotl: {where}: {fact}", hint)
    lines: dict[int, Span] = {}
    for span in _named(recipe, complaint.words):
        lines.setdefault(span.line, span)
    first, *others = lines.values() or [Span(recipe.file)]
    related = tuple(Related("axolotl names this, too", span) for span in others[:MAX_RELATED])
    return code.at(first, f"axolotl: {fact}", hint, related)


def _pointed(recipe: Recipe, where: tuple[str, ...]) -> Path:
    """Return the path in the recipe that pydantic means. It names the class of an entry among the
    keys, and not the number of the entry.
    """
    path: Path = ()
    value: Any = recipe.value
    for part in where:
        if isinstance(value, list) and not part.isdecimal():
            fits = (str(i) for i, one in enumerate(value) if isinstance(one, dict) and part in one)
            entry = next(fits, None)
            if entry is None:
                continue
            path, value = (*path, entry), value[int(entry)]
        if isinstance(value, dict) and part in value:
            path, value = (*path, part), value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            path, value = (*path, part), value[int(part)]
    return path


def _named(recipe: Recipe, words: str) -> Iterator[Span]:
    """Yield the places of the keys and values that a text names, in its order; first those that
    look like names, then those that may be plain words.
    """
    found = [
        (not _STRONG.search(words[max(0, match.start() - 1) : match.end()]), match[0])
        for match in _NAME.finditer(words)
    ]
    keys: dict[str, Span] = {}
    values: dict[str, Span] = {}
    for path, place in recipe.places.items():
        if path and path[0] != "x-recipe":
            keys.setdefault(path[-1], place.key or place.value)
            keys.setdefault(".".join(path), place.key or place.value)
            values.setdefault(recipe.written(place.value).strip("\"'"), place.value)
    for _, name in sorted(found, key=lambda one: one[0]):
        stem = name.lower().rstrip("0123456789")  # FSDP2 is said of the key fsdp
        if (
            span := keys.get(name)
            or keys.get(stem)
            or (values.get(name) if len(name) > 3 else None)
        ):
            yield span
