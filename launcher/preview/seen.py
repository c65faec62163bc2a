"""What rows say once axolotl has rendered them: lost answers, long rows, nothing to train on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from launcher.diagnostics import Diagnostic, Severity
from launcher.launch import PATIENCE
from launcher.preview.codes import (
    ANSWER_LOST,
    ANSWER_TOO_EARLY,
    EVAL_TOO_SMALL,
    LIST_AS_TEXT,
    LONG_ROWS,
    LONG_ROWS_STOP,
    NOTHING_TRAINED,
    ROLE_NEVER_TRAINED,
    ROW_FAILS,
    SLOW_TOKENIZING,
)
from launcher.preview.columns import answer
from launcher.preview.facts import capacity, fate, packed, real_batches, sequence_len
from launcher.preview.raw import Case
from launcher.preview.rendering import Entry, Rendering, Row
from launcher.recipe import Recipe
from launcher.rules.batch import micro_batch, whole
from launcher.rules.rule import number
from launcher.schema.wording import cut

MORE = 4  # times sequence_len: to lengthen it by more is hardly the remedy
SHARE = 0.01  # of the rows too long: more is said
UNDEFINED = "_token' is undefined"  # jinja2, where a template writes what the tokenizer has not
DUMMY = "[[dummy_message]]"  # dpo/chat_template.py
WORDS = 160  # letters of axolotl's words


def check(
    case: Case, entry: Entry, told: Sequence[Diagnostic], *, exact: bool
) -> Iterator[Diagnostic]:
    """Yield what is wrong with the rows of an entry as they were rendered. ``told`` is what is
    known of them already: a row that fails is told only where nothing else explains it. ``exact``:
    the lengths are those of the model's own tokenizer.
    """
    yield from chain(
        _fails(case, entry, explained=any(one.severity is Severity.ERROR for one in told)),
        _answers(case, entry),
        _lists(case, entry, told),
        _untrained(case, entry, told),
        _long(case, entry, exact=exact),
    )


def _fails(case: Case, entry: Entry, *, explained: bool) -> Iterator[Diagnostic]:
    if explained:
        return
    if entry.error and entry.known:
        fact = f"{case.name}: axolotl renders no row: {cut(entry.error, WORDS)}"
        yield case.at(ROW_FAILS, fact, "correct the type, or the columns that it reads")
    failing: dict[str, list[int]] = {}
    for row in entry.rows:
        if row.error and not any(after is None for _, _, after in _sides(case, row)):
            failing.setdefault(row.error, []).append(row.number)
    for words, numbers in list(failing.items())[:3]:
        fact = f"{case.name}: axolotl fails at {case.numbered(numbers)}: {cut(words, WORDS)}"
        hint = "correct these rows, or delete them"
        if UNDEFINED in words:
            hint = "the template is of another family: chat_template: tokenizer_default"
        yield case.at(ROW_FAILS, fact, hint, "path")


def _answers(case: Case, entry: Entry) -> Iterator[Diagnostic]:
    """Yield answers that are not where they should be. What comes after an answer is the same in
    all rows; where there is more, the answer was found too early.
    """
    sides = [(row.number, *side) for row in entry.rows for side in _sides(case, row)]
    usual = Counter(after for _, _, _, after in sides if after is not None).most_common(1)
    end = usual[0][0] if usual else ""
    for name in ("chosen", "rejected"):
        mine = [(number, text, after) for number, side, text, after in sides if side == name]
        lost = [(number, text) for number, text, after in mine if after is None]
        early = [number for number, _, after in mine if after is not None and _more(after, end)]
        if lost:
            fact = f"{case.name}: the {name} answer is lost in "
            fact += f"{case.numbered([number for number, _ in lost])}: "
            fact += f'the model is trained on "{cut(lost[0][1], 40)}" instead'
            yield case.at(ANSWER_LOST, fact, "strip blanks and line breaks around the answers")
        if early:
            fact = f"{case.name}: the {name} answer is found in the template's own text in "
            hint = "lengthen these answers to a sentence, or delete the rows"
            yield case.at(ANSWER_TOO_EARLY, fact + case.numbered(early), hint)


def _more(after: str, usual: str) -> bool:
    return DUMMY in after or (after != usual and bool(usual) and after.endswith(usual))


def _sides(case: Case, row: Row) -> Iterator[tuple[str, str, str | None]]:
    """Yield for both answers of a row what was rendered, and what of it comes after the answer;
    none where the answer is not in it. Empty answers are told by another check.
    """
    read = case.columns
    if read is None or read.pair is None or not read.messages:
        return
    for side, name in zip(("chosen", "rejected"), read.pair, strict=True):
        given = answer(case.sample.rows[row.number - 1].get(name), read.content)
        text = (row.texts or {}).get(side)
        if isinstance(given, str) and given and text is not None:
            whole_answer = text.startswith(given) or text == given.rstrip()
            yield side, text, text[len(given) :] if whole_answer else None


def _lists(case: Case, entry: Entry, told: Sequence[Diagnostic]) -> Iterator[Diagnostic]:
    """Yield what is rendered as the Python text of a list, by types whose columns are not known."""
    if any(one.code == LIST_AS_TEXT.code for one in told):
        return
    wrong = [row.number for row in entry.rows if _as_python(case, row)]
    if wrong:
        fact = f"{case.name}: the Python text of a list is trained on in {case.numbered(wrong)}"
        yield case.at(LIST_AS_TEXT, fact, "use a type that reads messages, such as chat_template")


def _as_python(case: Case, row: Row) -> bool:
    texts = [text for text in (row.texts or {}).values() if "[{'" in text or "{'" in text]
    given = case.sample.rows[row.number - 1].values() if texts else ()
    values = [str(value) for value in given if isinstance(value, list | dict) and value]
    return any(value in text for value in values for text in texts)


def _untrained(case: Case, entry: Entry, told: Sequence[Diagnostic]) -> Iterator[Diagnostic]:
    good = [row for row in entry.rows if not row.error]
    wrong = [row.number for row in good if not row.trained and row.kept]
    if wrong and not any(one.code == ROLE_NEVER_TRAINED.code for one in told):
        fact = f"{case.name}: no token is trained on in {case.numbered(wrong)}"
        found = case.at(NOTHING_TRAINED, fact, "delete these rows, or look at what is masked")
        all_of_them = len(wrong) == len(good)
        yield replace(found, severity=Severity.ERROR) if all_of_them else found


def _long(case: Case, entry: Entry, *, exact: bool) -> Iterator[Diagnostic]:
    recipe, limit = case.recipe, sequence_len(case.recipe, entry.key)
    good = [row for row in entry.rows if not row.error]
    over = [row for row in good if row.long]
    wrong, what = [row.number for row in over], fate(recipe)
    longest = max((row.longest for row in good), default=0)
    if what == "dropped" and all(row.kept for row in over):
        what = "cut"  # by the tokens that TRL adds
    if not wrong or what == "kept" or case.sample.origin == "shipped":
        return
    span = recipe.value_span("sequence_len")
    verb = "are" if len(wrong) > 1 else "is"
    fact = f"{case.name}: {case.numbered(wrong)} {verb} longer than sequence_len {limit:,}"
    fact += "" if exact else " by an estimate, the model's tokenizer is not here"
    hint = "split these rows, or delete them"
    if longest <= MORE * limit:
        hint = f"sequence_len: {math.ceil(longest / 64) * 64}, if memory allows (axr plan)"
    if what == "stop the run" or (what == "dropped" and len(wrong) == len(good)):
        end = "the first ends the run" if what == "stop the run" else "nothing is left"
        yield LONG_ROWS_STOP.at(span, f"{fact}: {end} (the longest has {longest:,} tokens)", hint)
    elif len(wrong) > SHARE * len(good):
        share = f"{len(wrong) / len(good):.0%} of the rows"
        yield LONG_ROWS.at(span, f"{fact}: {share} {what} (up to {longest:,} tokens)", hint)


def slow(recipe: Recipe, found: Rendering, total: int | None) -> Iterator[Diagnostic]:
    """Yield that tokenizing takes too long. ``total``: rows of all entries, where known."""
    if not total or not found.speed or gpus(recipe) < 2 or not recipe.value.get("rl"):
        return
    limit = whole(recipe.value.get("ddp_timeout")) or PATIENCE
    seconds = total / found.speed / found.processes
    if seconds > limit:
        rate = f"{found.speed * found.processes:,.0f} rows/s, measured on this machine with "
        rate += f"{found.processes} process{'es' * (found.processes > 1)}"
        fact = f"tokenizing {total:,} rows takes about {seconds / 60:,.0f} min ({rate}); "
        fact += f"the other GPUs wait {limit / 60:,.0f} min"
        hint = f"ddp_timeout: {math.ceil(3 * seconds / 600) * 600}"
        yield SLOW_TOKENIZING.at(recipe.key_span("datasets"), fact, hint)


def gpus(recipe: Recipe) -> int:
    """Return how many GPUs the recipe says it needs; 0 where it does not."""
    needs = recipe.block.get("needs")
    return whole(needs.get("gpus")) if isinstance(needs, Mapping) else 0


def small(recipe: Recipe, entries: Sequence[Entry], held_out: int | None) -> Iterator[Diagnostic]:
    """Yield that the held-out rows are too few to be packed (utils/trainer.py,
    calculate_total_num_steps). ``held_out``: how many there are, where known.
    """
    value = recipe.value
    packs = value.get("sample_packing") and value.get("eval_sample_packing") is not False
    lengths = [n for entry in entries for row in entry.rows if row.kept for n in row.lengths]
    if not packs or value.get("rl") or not held_out or not lengths:
        return
    rows = [lengths[place % len(lengths)] for place in range(min(held_out, 100_000))]
    bins = len(packed(rows, capacity(recipe)))
    micro, epochs = max(1, micro_batch(recipe)), number(value.get("num_epochs")) or 1.0
    accumulated = max(1, whole(value.get("gradient_accumulation_steps"))) * max(1, gpus(recipe))
    batches = bins // micro if real_batches(recipe) else bins
    steps = math.floor(max(1, batches // accumulated) * epochs)
    steps -= math.ceil(epochs) if value.get("dataloader_drop_last") else 0
    if not steps:
        fact = f"{held_out:,} held-out rows fill {bins} packed sample{'s' * (bins != 1)}: "
        key = "val_set_size" if value.get("val_set_size") else "test_datasets"
        fact += "too few for a batch of the evaluation"
        yield EVAL_TOO_SMALL.at(recipe.key_span(key), fact, "eval_sample_packing: false")
