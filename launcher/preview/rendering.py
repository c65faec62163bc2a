"""What the pinned axolotl makes of some rows: the values that the child process answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from launcher.redact import is_secret_value, redact

MAX_WORDS = 500  # letters of an exception's words: they may quote the row


DRAWN = 6000  # tokens of a text that are kept to be drawn: the first two thirds, and the last


class Refused(Exception):
    """axolotl takes the recipe for wrong, or cannot load what it names: the fact, and a remedy."""


class Unknown(Exception):
    """Rows of a kind that is not rendered here."""


def words(problem: Exception) -> str:
    """Return an exception as one line. It may quote a row, and so a secret."""
    return redact(f"{type(problem).__name__}: {problem}")[:MAX_WORDS]


@dataclass(frozen=True)
class Token:
    """One token: its text, whether the loss counts it, and whether it is a special one. Of a letter
    that takes several, the last has the text.
    """

    text: str
    trained: bool
    special: bool


@dataclass(frozen=True)
class Run:
    """Tokens of one kind that follow each other. ``hidden``: so many were left out here, and there
    is no text.
    """

    text: str
    tokens: int
    trained: bool = False
    special: bool = False
    hidden: bool = False


@dataclass(frozen=True)
class Row:
    """One row as the model gets it. ``number`` counts from 1.

    ``error``: what axolotl, or TRL, raises for it; then there are no tokens. ``texts``: what the
    prompt strategy wrote (prompt, chosen, rejected; one "text" without pairs). ``tokens``: of each
    text. ``lengths``: tokens of each sample that the row becomes, of a pair with its longer answer.
    ``trained``: tokens that the loss counts. ``long``: longer than ``sequence_len``. ``kept``: not
    dropped for its length. ``cut``: it loses its end. ``bos``: tokens of that kind at its start.
    ``end``: the special token after the last trained text, and whether it is trained, too.
    ``parts``: the tokens of each text, of rows to be drawn; of a long text its two ends.
    """

    number: int
    error: str = ""
    texts: Mapping[str, str] | None = None
    tokens: Mapping[str, int] | None = None
    lengths: tuple[int, ...] = ()
    trained: int = 0
    kept: bool = True
    long: bool = False
    cut: bool = False
    bos: int = 0
    end: str = ""
    end_trained: bool = False
    parts: Mapping[str, tuple[Token, ...]] | None = None

    def drawn(self, most: int = DRAWN) -> dict[str, list[Run]]:
        """Return the runs of each text, at most so many tokens of it."""
        counts = self.tokens or {}
        return {name: runs(part, counts[name], most) for name, part in (self.parts or {}).items()}

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
    drawn = parts and {name: tuple(Token(*one) for one in part) for name, part in parts.items()}
    return Row(**{**found, "lengths": tuple(found.get("lengths", ())), "parts": drawn})


def runs(tokens: Sequence[Token], total: int, most: int = DRAWN) -> list[Run]:
    """Return tokens as runs of one kind, a special token for itself. Of a text of more than
    ``most`` tokens (``total``) the middle is left out. What has the shape of a secret is hidden:
    the result is kept, and shown.
    """
    if total <= most:
        return _runs(tokens)
    tail = most // 3
    head = most - tail
    left_out = Run("", total - most, hidden=True)
    return [*_runs(tokens[:head]), left_out, *_runs(tokens[len(tokens) - tail :])]


def _runs(tokens: Sequence[Token]) -> list[Run]:
    found = []
    places = range(len(tokens))
    kinds = groupby(places, lambda n: (tokens[n].trained, n if tokens[n].special else -1))
    for (trained, special), group in kinds:
        mine = [tokens[place].text for place in group]
        found.append(Run(shown("".join(mine)), len(mine), trained, special >= 0))
    return found


def shown(text: str) -> str:
    """Return a text of a row without what has the shape of a secret."""
    return redact(text) if is_secret_value(text) else text
