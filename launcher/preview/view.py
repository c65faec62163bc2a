"""All that `axr preview` finds out: rows read, rendered, counted and judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.dataset.sample import Missing, Sample, first_rows
from launcher.diagnostics import Diagnostic, LauncherError, Severity, in_order
from launcher.files import exists
from launcher.preview import raw, seen, vocabulary
from launcher.preview.ask import Renderer, installed, source
from launcher.preview.codes import ROWS_NOT_HAD
from launcher.preview.facts import Facts, facts
from launcher.preview.raw import Case
from launcher.preview.rendering import Entry, Rendering
from launcher.recipe import Recipe, located
from launcher.rules.rule import number
from launcher.rules.security import remote_code

KEYS = ("datasets", "test_datasets")
# What a missing entry has to say where the recipe may well be right (dataset/sample.py).
HERE = ("no network", "HF_HUB_OFFLINE", "the datasets library", "no row within", "no pickle")


@dataclass(frozen=True)
class View:
    """What was found out. ``rendering``: none where the rows are shown as they are, ``why``: for
    what reason; ``broken``: the error, where that is a failure.
    """

    recipe: Recipe
    samples: tuple[Sample, ...]
    missing: tuple[Missing, ...]
    rendering: Rendering | None
    why: str
    broken: LauncherError | None
    facts: Mapping[str, Facts]
    problems: tuple[Diagnostic, ...]

    @property
    def exact(self) -> bool:
        """Whether lengths are those of the model's own tokenizer, as far as there are any."""
        return self.rendering is None or self.rendering.vocabulary.real

    def entry(self, sample: Sample) -> Entry | None:
        """Return the rendered rows of a sample."""
        found = self.rendering.entries if self.rendering else ()
        mine = (one for one in found if (one.key, one.index) == (sample.key, sample.index))
        return next(mine, None)


def foreign(recipe: Recipe) -> bool:
    """Return whether the recipe brings code: a repository's own, or modules of somebody's."""
    return any(True for _ in remote_code(recipe))


def view(
    recipe: Recipe,
    environ: Mapping[str, str],
    *,
    most: int,
    draw: int,
    trusted: bool,
    told: Callable[[str], None] = lambda text: None,
) -> View:
    """Read the first ``most`` rows of each entry, render them, and judge what comes of it. ``told``
    hears how it goes on. Raises ``LauncherError`` where there is no data to look at.
    """
    told("reading rows")
    found = [one for key in KEYS for one in first_rows(recipe, environ, most=most, key=key)]
    if not found:
        fact = "the recipe names no datasets whose rows can be shown"
        raise LauncherError(fact, "rows of a pretraining_dataset are not previewed")
    samples = tuple(one for one in found if isinstance(one, Sample))
    missing = tuple(one for one in found if isinstance(one, Missing))
    why = installed()
    if not why and not trusted:
        why = "the recipe runs code from outside: read it, then add --trust"
    rendering, broken = None, None
    if samples and not why:
        try:
            rendering = _rendered(recipe, environ, samples, draw, told)
        except LauncherError as problem:
            broken, why = problem, problem.message
    problems = [*(_not_had(recipe, one) for one in missing), *judge(recipe, samples, rendering)]
    return View(
        recipe,
        samples,
        missing,
        rendering,
        why,
        broken,
        {key: _facts(recipe, samples, rendering, key) for key in KEYS if _of(samples, key)},
        tuple(in_order(problems)),
    )


def _rendered(
    recipe: Recipe,
    environ: Mapping[str, str],
    samples: Sequence[Sample],
    draw: int,
    told: Callable[[str], None],
) -> Rendering:
    total = sum(len(one.rows) for one in samples)
    told("importing axolotl")
    with Renderer(environ, source(recipe, environ), foreign=foreign(recipe)) as renderer:
        return renderer.ask(
            recipe,
            samples,
            draw=draw,
            told=lambda done: told(f"rendering row {done:,} of {total:,}"),
        )


def _of(samples: Sequence[Sample], key: str) -> list[Sample]:
    return [sample for sample in samples if sample.key == key]


def _facts(recipe: Recipe, samples: Sequence[Sample], found: Rendering | None, key: str) -> Facts:
    read = [(sample, Case(recipe, sample).columns) for sample in _of(samples, key)]
    entries = [entry for entry in found.entries if entry.key == key] if found else []
    return facts(recipe, read, entries)


def judge(recipe: Recipe, samples: Sequence[Sample], found: Rendering | None) -> list[Diagnostic]:
    """Return what is wrong with rows, tokenizer and template; without a rendering, what the rows
    themselves say.
    """
    problems: list[Diagnostic] = []
    rendered = {(one.key, one.index): one for one in found.entries} if found else {}
    for sample in samples:
        case = Case(recipe, sample)
        told = list(raw.check(case))
        entry = rendered.get((sample.key, sample.index))
        problems += told
        if found and entry and not vocabulary.template_is_null(entry):
            problems += seen.check(case, entry, told, exact=found.vocabulary.real)
    if found is None:
        return problems
    problems += vocabulary.check(recipe, found.vocabulary, found.entries)
    problems += seen.slow(recipe, found, _total(samples, "datasets"))
    return problems + list(_small(recipe, samples, found))


def _small(recipe: Recipe, samples: Sequence[Sample], found: Rendering) -> Iterator[Diagnostic]:
    """Return that too few rows are held out."""
    key = "test_datasets" if recipe.value.get("test_datasets") else "datasets"
    total, size = _total(samples, key), number(recipe.value.get("val_set_size")) or 0.0
    if key == "datasets" and total:
        total = math.ceil(total * size) if size < 1 else min(int(size), total)
    return seen.small(recipe, [entry for entry in found.entries if entry.key == key], total)


def _total(samples: Sequence[Sample], key: str) -> int | None:
    """Return the rows of all entries of a list, none where that is not known of each, or where
    others stand for them.
    """
    mine = _of(samples, key)
    totals = [one.total for one in mine if one.total and one.origin != "shipped"]
    return sum(totals) if totals and len(totals) == len(mine) else None


def _not_had(recipe: Recipe, one: Missing) -> Diagnostic:
    span = recipe.value_span(one.key, str(one.index), "path")
    fact = f'the rows of {one.key}[{one.index}], "{one.name}", cannot be read: {one.why}'
    hint = "check the name; a private or gated dataset needs HF_TOKEN"
    if exists(located(one.name)):
        hint = "look at the file: it has to hold rows, for instance a JSON object a line"
    if one.why.startswith(HERE):
        told = ROWS_NOT_HAD.at(span, fact, "run it again where the rows can be had")
        return replace(told, severity=Severity.NOTE)
    return ROWS_NOT_HAD.at(span, fact, hint)
