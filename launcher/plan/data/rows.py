"""How many rows a recipe trains on, and how long they are, as far as files at hand tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.plan.data.files import Row
from launcher.plan.data.lengths import Part, measure
from launcher.plan.data.sources import Found, find
from launcher.recipe import Recipe
from launcher.rules.rule import number


@dataclass(frozen=True)
class Rows:
    """The rows of an epoch, validation rows taken out. ``source`` can be printed after the number:
    "as given", "counted", "by its card", "as published", "estimated from its size".

    ``lengths``: tokens of each row that was measured (of a pair the longer answer counts), rounded
    up; empty: not measured. ``prompts``: of a pair's prompt alone; empty: no pairs. ``complete``:
    every row was measured, so that the longest is among them. ``pieces``: axolotl cuts a long row
    into several. ``evaluated``: rows of one evaluation; ``evaluation_known``: false where it has
    rows whose number is not known.
    """

    count: int
    source: str
    lengths: tuple[int, ...] = ()
    evaluated: int = 0
    prompts: tuple[int, ...] = ()
    complete: bool = True
    pieces: bool = False
    evaluation_known: bool = True


def rows(recipe: Recipe, environ: Mapping[str, str], *, given: int | None = None) -> Rows | None:
    """Return the rows of a recipe: as ``given``, or counted in local files, or known of a dataset
    by its card or by the shipped table; none where that is not known of every entry.
    """
    if given:
        return _split(recipe, Rows(given, "as given"), environ)
    entries = _entries(recipe, "datasets")
    found = [find(recipe, entry, environ) for entry in entries]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    sources = ", ".join(dict.fromkeys(one.source for one in known))
    whole = Rows(sum(one.count for one in known), sources)
    return _split(recipe, _measured(recipe, whole, entries, known, environ), environ)


def _measured(
    recipe: Recipe,
    whole: Rows,
    entries: Sequence[Row],
    known: Sequence[Found],
    environ: Mapping[str, str],
) -> Rows:
    """Return the rows with their lengths, where those of all entries can be measured."""
    parts = [
        Part(entry, one.table, one.start, one.stop, one.count)
        for entry, one in zip(entries, known, strict=True)
        if one.table is not None and one.count
    ]
    full = len(parts) == sum(bool(one.count) for one in known)
    found = measure(recipe, parts, environ) if parts and full else None
    if found is None:
        return whole
    prompts = found.prompts if any(found.prompts) else ()
    return replace(
        whole,
        lengths=found.tokens,
        prompts=prompts,
        complete=found.complete,
        pieces=found.pieces,
    )


def _split(recipe: Recipe, whole: Rows, environ: Mapping[str, str]) -> Rows:
    """Take the validation rows out: a share, rounded up, or a number (``train_test_split``).

    Rows of ``test_datasets`` come before them (utils/data/sft.py, _prepare_standard_dataset).
    """
    if tests := _entries(recipe, "test_datasets"):
        found = [find(recipe, entry, environ, split="test") for entry in tests]
        evaluated = sum(one.count for one in found if one)
        return replace(whole, evaluated=evaluated, evaluation_known=None not in found)
    size = number(recipe.value.get("val_set_size")) or 0.0
    if not math.isfinite(size) or size <= 0:
        return whole
    held = min(math.ceil(whole.count * size) if size < 1 else int(size), whole.count)
    return replace(whole, count=whole.count - held, evaluated=held)


def _entries(recipe: Recipe, key: str) -> list[Row]:
    listed = recipe.value.get(key)
    return (
        [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    )
