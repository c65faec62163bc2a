"""How many tokens the rows of local files have, by the model's own tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from launcher import facts, hub_cache
from launcher.files import is_file
from launcher.plan.data.columns import reading
from launcher.plan.data.files import FAULTS, Row, Table, spread
from launcher.plan.data.texts import Reading, Texts
from launcher.recipe import Recipe, located

MAX_MEASURED = 20_000  # rows, over all entries
TEXT = 4_000_000  # characters that are tokenized: 1.0 s on two busy cores (Qwen2.5, on code)
LARGEST_TOKENIZER = 64 * 2**20  # bytes; Gemma's, the largest of the known ones, has 33 MB
# What a row gets beside its text: the tokens of its start and end (prompt_tokenizers.py, _tokenize;
# TRL's add_eos).
ENDS = 2
# What a chat template writes around a message: ChatML `<|im_start|>` role newline .. `<|im_end|>`
# newline, 5 tokens, as Llama 3, Gemma and Phi 3; one more for a role of two tokens.
TURN = 6
# What it writes once: a default system prompt (Qwen2.5 18 tokens, SmolLM2 16), or the date (Llama
# 3.1, 25), with its own turn.
OPENING = 32
BARE = ("chatml", "llama3")  # axolotl's own templates of these names write nothing once


@dataclass(frozen=True)
class Part:
    """The rows of one dataset entry: those from ``start`` to ``stop`` of a table, of which ``rows``
    are trained on.
    """

    entry: Row
    table: Table
    start: int
    stop: int
    rows: int


@dataclass(frozen=True)
class Measured:
    """Tokens of each row that was measured, of a pair with its longer answer, and of its prompt
    alone (0 of a row that is no pair). No length is below what axolotl will count; ``complete``:
    every row was seen.
    """

    tokens: tuple[int, ...]
    prompts: tuple[int, ...]
    complete: bool
    pieces: bool


def measure(recipe: Recipe, parts: Sequence[Part], environ: Mapping[str, str]) -> Measured | None:
    """Return the lengths of rows; none where the tokenizer is not here, or what a row trains on is
    not known of each.
    """
    readings = [reading(recipe, part.entry) for part in parts]
    known = [one for one in readings if one is not None]
    if not parts or len(known) < len(parts) or len({one.pieces for one in known}) > 1:
        return None
    wanted = _wanted(parts)
    rows = [part.table.pick(indices) for part, indices in zip(parts, wanted, strict=True)]
    tokenizer = _tokenizer(recipe, environ) if all(rows) else None
    if tokenizer is None:
        return None
    with contextlib.suppress(*FAULTS), _library():
        texts = [
            [one.of(row) for row in found or ()] for one, found in zip(known, rows, strict=True)
        ]
        written = [_template(recipe, part.entry, tokenizer) for part in parts]
        pairs = [
            pair
            for one, found, template in zip(known, texts, written, strict=True)
            for pair in _lengths(tokenizer, one, found, template)
        ]
        complete = all(
            len(indices) == part.stop - part.start == part.rows and not part.table.estimated
            for part, indices in zip(parts, wanted, strict=True)
        )
        tokens, prompts = zip(*pairs, strict=True)
        return Measured(tokens, prompts, complete, known[0].pieces)
    return None


def _wanted(parts: Sequence[Part]) -> list[list[int]]:
    """Return the rows to measure: of each entry its share of the limit, evenly over its slice."""
    rows = sum(part.rows for part in parts)
    size = sum(part.table.size * part.rows / part.table.count for part in parts)
    limit = max(1, min(MAX_MEASURED, rows, int(TEXT * rows / max(size, 1))))
    return [_places(part, max(1, part.rows * limit // rows)) for part in parts if rows]


def _places(part: Part, most: int) -> list[int]:
    if not part.table.estimated:
        return spread(part.start, part.stop, min(most, part.rows))
    seen = part.table.seen  # of a large file, the head stands for all
    return spread(0, seen, min(most, seen))


def _lengths(
    tokenizer: Any, read: Reading, rows: Sequence[Texts], template: tuple[int, int]
) -> list[tuple[int, int]]:
    """Return (tokens, tokens of the prompt) of each row. Raises ``ValueError`` for too much."""
    flat = [text for row in rows for text in (*row.common, *row.answers)]
    if sum(map(len, flat)) > 4 * TEXT:
        raise ValueError("the rows are longer than their file says")
    counts = [len(one.ids) for one in tokenizer.encode_batch(flat, add_special_tokens=False)]
    opening, turn = template
    fixed = ENDS + len(tokenizer.encode(read.markup, add_special_tokens=False).ids)
    ends = accumulate((len(row.common) + len(row.answers) for row in rows), initial=0)
    found = []
    for row, (first, after) in zip(rows, pairwise(ends), strict=True):
        mine = counts[first:after]
        split = len(row.common)
        around = opening + row.turns * turn if row.turns else 0
        common = sum(mine[:split]) + fixed + around
        answer = max(mine[split:], default=0)
        found.append((common + answer, common if row.answers else 0))
    return found


def _template(recipe: Recipe, entry: Row, tokenizer: Any) -> tuple[int, int]:
    """Return the most tokens that the chat template writes once, and around a message: one chosen
    by name may write special tokens that this tokenizer takes apart.
    """
    name = str(entry.get("chat_template") or recipe.value.get("chat_template"))
    template = facts.load().templates.files.get(name)
    if template is None:
        return OPENING, TURN
    ends = [text for text in template.turn_end if text not in ("bos", "eos")]
    starts = sorted(template.tokens - {"bos", "eos", *ends}, key=len)[:2]
    written = tokenizer.encode_batch([*starts, *ends], add_special_tokens=False)
    turn = max(TURN, 4 + sum(len(one.ids) for one in written))
    return 0 if name in BARE else OPENING, turn


class _Broken(ValueError):
    """The tokenizers library cannot work with a file."""


@contextlib.contextmanager
def _library() -> Iterator[None]:
    """Turn whatever the tokenizers library raises into `_Broken`: a plain ``Exception``, or a panic
    of its Rust code, whose class (a ``BaseException``) has no name to import.
    """
    try:
        yield
    except BaseException as problem:
        if isinstance(problem, Exception) or type(problem).__name__ == "PanicException":
            raise _Broken from problem
        raise


def _tokenizer(recipe: Recipe, environ: Mapping[str, str]) -> Any:
    """Return the model's tokenizer, or none where it or the library is not here, or is broken."""
    file = _tokenizer_file(recipe, environ)
    if file is None:
        return None
    with contextlib.suppress(_Broken, OSError), _library():
        from tokenizers import Tokenizer

        found = Tokenizer.from_file(str(file))
        found.no_truncation()
        found.no_padding()
        return found
    return None


def _tokenizer_file(recipe: Recipe, environ: Mapping[str, str]) -> Path | None:
    name = str(recipe.value.get("tokenizer_config") or recipe.value.get("base_model"))
    local = Path(located(name)) / "tokenizer.json"
    with contextlib.suppress(OSError, ValueError):
        here = is_file(local)
        file = local if here else hub_cache.find("models", name, "tokenizer.json", environ)
        return file if file and file.stat().st_size <= LARGEST_TOKENIZER else None
    return None
