"""An entry of the data with a file of a few rows in place of the whole set. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.cpu import Change
from launcher.rules.batch import whole
from launcher.schema.validator import is_on

MOST_REPEATS = 50
LETTERS_A_TOKEN = 5  # of JSON: an upper bound for text, so that rows are rather too many
_SLICE = re.compile(r"[\w.]+(?P<slice>\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")
FEWEST = 2  # rows that a slice must leave


def rows(at: str, entry: Mapping[str, Any], file: Path, count: int) -> Iterator[Change]:
    """Yield what changes in the entry at a dotted path, with ``count`` rows of it in a file."""
    yield Change(f"{at}.path", entry.get("path"), str(file), f"{count} rows of it")
    for key in ("name", "revision", "data_files", "ds_type", "trust_remote_code"):
        if entry.get(key):
            yield Change(f"{at}.{key}", entry[key], None, "the rows are in one file here")
    for key in ("shards", "shards_idx", "preprocess_shards"):
        if entry.get(key) is not None:
            yield Change(f"{at}.{key}", entry[key], None, "too few rows to divide")
    split = entry.get("split")
    if split and (wanted := _split(str(split), count)) != split:
        yield Change(f"{at}.split", split, wanted, "the rows here are a part of that split")


def _split(text: str, count: int) -> str:
    """Return the part of a file of ``count`` rows that stands for a split: a file has only
    "train"; a slice stays where it leaves some rows.
    """
    found = _SLICE.fullmatch(text)
    if not found or not found["slice"]:
        return "train"
    start, stop = (_bound(found[name], count) for name in ("start", "stop"))
    left = (count if stop is None else stop) - (start or 0)
    return f"train{found['slice']}" if left >= FEWEST else "train"


def _bound(text: str | None, count: int) -> int | None:
    """Return a bound of a slice in rows."""
    if not text:
        return None
    number = round(int(text[:-1]) * count / 100) if text.endswith("%") else int(text)
    return min(max(number if number >= 0 else count + number, 0), count)


def repeats(settings: Mapping[str, Any], key: str, letters: int) -> int:
    """Return how often the rows of an entry, of so many letters, are needed: axolotl packs them,
    and leaves out, without a word, a batch that is not full; an evaluation is then of nothing.
    """
    if not is_on(settings.get("sample_packing")) or not letters:
        return 1
    batch = whole(settings.get("sequence_len")) * (whole(settings.get("micro_batch_size")) or 1)
    share = settings.get("val_set_size")
    held_out = share if isinstance(share, float) and 0 < share < 1 else 1.0
    needed = 2 * batch / held_out / len(settings.get(key) or [0])
    return max(1, min(MOST_REPEATS, math.ceil(needed / (letters / LETTERS_A_TOKEN))))
