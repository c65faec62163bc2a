"""What was found out, in words: figures of the rows, and what to know before one believes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from launcher.dataset.sample import Sample
from launcher.preview.facts import Facts, Lengths
from launcher.preview.view import View
from launcher.preview.vocabulary import template_is_null
from launcher.rules.batch import micro_batch
from launcher.schema.wording import cut

Line = tuple[str, str]  # a label and a text


def origins(view: View) -> Iterator[Line]:
    """Yield where the rows are from, an entry a line."""
    for one in view.samples:
        read = f"{len(one.rows):,}"
        if one.origin == "shipped":
            yield (
                "rows",
                f"{one.key}[{one.index}]: {read} stand-in rows of the pack for {_short(one)}",
            )
            continue
        if one.total and one.total > len(one.rows):
            read = f"the first {read} of {one.total:,}"
        yield "rows", f"{one.key}[{one.index}]: {read} of {_short(one)}"
    for gone in view.missing:
        yield "rows", f"{gone.key}[{gone.index}]: none of {gone.name}: {gone.why}"


def _short(sample: Sample) -> str:
    place = sample.place
    return Path(place).name if len(place) > 60 else place


def notes(view: View) -> Iterator[str]:
    """Yield what makes the rest less than the truth."""
    for one in view.samples:
        if one.origin == "shipped":
            fact = f"{one.key}[{one.index}]: these are {len(one.rows)} stand-in rows of the pack"
            yield f"{fact}: {one.why}"
    if view.samples and not view.rendering and not view.broken:
        yield f"the rows are shown as they are, not as the model gets them: {view.why}"
    if not view.exact:
        why = view.rendering.vocabulary.why if view.rendering else ""
        first = cut(why.partition("\n")[0], 120)
        yield f"lengths are estimates, a small tokenizer stands for the model's: {first}"
    for entry in view.rendering.entries if view.rendering else ():
        if not view.exact and template_is_null(entry):
            yield f"{entry.key}[{entry.index}]: without the model's tokenizer no template is known"
        elif entry.error and not entry.known:
            yield f"{entry.key}[{entry.index}]: {entry.error}"


def figures(view: View) -> Iterator[Line]:
    """Yield the facts of the rows, a line each."""
    for key, found in view.facts.items():
        if key != "datasets":
            yield "figures", f"of {key}"
        yield from _figures(view, found, not view.exact)


def _figures(view: View, found: Facts, estimated: bool) -> Iterator[Line]:
    if found.lengths:
        about = "about " if estimated else ""
        yield "tokens", about + _lengths(found.lengths)
        yield "too long", _over(found.lengths, found.rows - found.failed, estimated)
    if found.trained is not None:
        yield "trained", f"{found.trained:.0%} of the tokens"
    micro = micro_batch(view.recipe)
    if found.padding is not None:
        each = "pairs" if view.recipe.value.get("rl") not in (None, "kto") else "rows"
        each = each.removesuffix("s") if micro == 1 else each
        yield "padding", f"{found.padding:.0%} of a micro batch of {micro} {each}"
    if found.packing is not None:
        yield "packing", f"{found.packing:.0%} of a packed sample is text"
    if found.turns:
        mean, most = found.turns
        yield "turns", f"{mean:.1f} messages a row, at most {most}"
    if found.failed:
        yield "failed", f"{found.failed:,} of {found.rows:,} rows"


def _lengths(found: Lengths) -> str:
    return f"median {found.median:,.0f}, 95th percentile {found.p95:,}, longest {found.longest:,}"


def _over(found: Lengths, rows: int, estimated: bool) -> str:
    if not found.over:
        return f"none: no row is over sequence_len {found.limit:,}"
    about = "about " if estimated else ""
    share = f"{about}{found.over / max(rows, 1):.1%}"
    fate = {"stop the run": "longer: they stop the run"}.get(found.fate, found.fate)
    verb = "are longer but" if fate == "kept" else "are"
    return f"{share} of the rows {verb} {fate}: over sequence_len {found.limit:,}"
