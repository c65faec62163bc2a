"""What the pinned axolotl makes of some rows: the values that the child process answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Piece:
    """A run of tokens of one kind: its text, how many, whether the loss counts them, and whether it
    is a special token.
    """

    text: str
    tokens: int
    trained: bool
    special: bool


@dataclass(frozen=True)
class Row:
    """One row as the model gets it. ``number`` counts from 1.

    ``error``: what axolotl, or TRL, raises for it; then there is nothing else. ``texts``: what the
    prompt strategy wrote (prompt, chosen, rejected; one "text" without pairs). ``tokens``: of each
    text. ``lengths``: tokens of each sample that the row becomes, of a pair with its longer answer.
    ``trained``: tokens that the loss counts. ``kept``: not dropped for its length. ``cut``: it
    loses its end. ``bos``: tokens of that kind at its start. ``end``: the special token after the
    last trained text, and whether it is trained, too. ``parts``: the pieces, of rows to be drawn.
    """

    number: int
    error: str = ""
    texts: Mapping[str, str] | None = None
    tokens: Mapping[str, int] | None = None
    lengths: tuple[int, ...] = ()
    trained: int = 0
    kept: bool = True
    cut: bool = False
    bos: int = 0
    end: str = ""
    end_trained: bool = False
    parts: Mapping[str, tuple[Piece, ...]] | None = None

    @property
    def longest(self) -> int:
        """The tokens of its longest sample; 0 where it could not be rendered."""
        return max(self.lengths, default=0)


@dataclass(frozen=True)
class Entry:
    """The rows of one dataset entry. ``error``: why none was rendered; ``known``: false where that
    is a limit of the preview, not of the recipe.
    """

    key: str
    index: int
    rows: tuple[Row, ...] = ()
    error: str = ""
    known: bool = True


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer as axolotl sets it up. ``real``: the model's own, not a stand-in.

    ``size``: tokens; ``embeddings``: rows of the model's embeddings, 0 where not known; ``grown``:
    the tokens without such a row. ``split``: what looks like a special token, is written around the
    rows' texts, and is several tokens here. ``refused``: what axolotl raises while it sets it up.
    """

    real: bool
    why: str = ""
    size: int = 0
    embeddings: int = 0
    grown: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    eos: str = ""
    has_template: bool = True
    refused: str = ""


@dataclass(frozen=True)
class Rendering:
    """All rows of a recipe, rendered. ``speed``: rows a second in one process on this machine;
    ``processes``: what axolotl tokenizes with.
    """

    entries: tuple[Entry, ...]
    vocabulary: Vocabulary
    speed: float
    processes: int


def rendering(answer: Mapping[str, Any]) -> Rendering:
    """Return the rendering in an answer of the child."""
    entries = tuple(
        Entry(**{**one, "rows": tuple(_row(row) for row in one.get("rows", ()))})
        for one in answer["entries"]
    )
    told = answer["vocabulary"]
    vocabulary = Vocabulary(
        **{**told, "grown": tuple(told["grown"]), "split": tuple(told["split"])}
    )
    return Rendering(entries, vocabulary, answer["speed"], answer["processes"])


def _row(found: Mapping[str, Any]) -> Row:
    parts = found.get("parts")
    drawn = parts and {name: tuple(Piece(*one) for one in part) for name, part in parts.items()}
    return Row(**{**found, "lengths": tuple(found.get("lengths", ())), "parts": drawn})
