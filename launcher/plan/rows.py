"""How many rows a recipe trains on, and how long they are, as far as files at hand tell."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from launcher import hub_cache
from launcher.files import is_file
from launcher.recipe import Recipe, located, pack_folder

TABLE = "datasets.tsv"  # in the pack's folder `schemas`: path, rows, source
MAX_BYTES = 2**30  # a larger file is not read for a plan
MAX_MEASURED = 20_000  # rows whose lengths are measured
_SLICE = re.compile(r"(?P<split>[\w.-]+)\[(?P<start>-?\d+%?)?:(?P<end>-?\d+%?)?\]")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """The rows of an epoch, validation rows taken out. ``lengths``: tokens of each row that was
    measured (of a pair the longer answer counts), without the template's own tokens; empty: not
    measured. ``evaluated``: rows of one evaluation.
    """

    count: int
    source: str
    lengths: tuple[int, ...] = ()
    evaluated: int = 0


def rows(recipe: Recipe, environ: Mapping[str, str], *, given: int | None = None) -> Rows | None:
    """Return the rows of a recipe: as ``given``, or counted in local files, or known of a dataset
    by its card or by the shipped table; none where that is not known of every entry.
    """
    entries = _entries(recipe, "datasets")
    if given:
        return _split(recipe, given, "as given", ())
    found = [_of(entry, environ) for entry in entries]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    lengths = _lengths(recipe, entries, environ)
    sources = ", ".join(dict.fromkeys(source for _, source in known))
    return _split(recipe, sum(count for count, _ in known), sources, lengths)


def _split(recipe: Recipe, count: int, source: str, lengths: Iterable[int]) -> Rows:
    """Take the validation rows out: a share, rounded up, or a number (``train_test_split``)."""
    size = recipe.value.get("val_set_size") or 0
    held = math.ceil(count * size) if 0 < size < 1 else int(size)
    tests = [_of(entry, {}) for entry in _entries(recipe, "test_datasets")]
    evaluated = held + sum(found[0] for found in tests if found)
    return Rows(max(count - held, 0), source, tuple(lengths), evaluated)


def _entries(recipe: Recipe, key: str) -> list[Row]:
    listed = recipe.value.get(key)
    return [entry for entry in listed or [] if isinstance(entry, dict)]


def _of(entry: Row, environ: Mapping[str, str]) -> tuple[int, str] | None:
    """Return the rows of one dataset entry, and how they are known."""
    name, split = str(entry.get("path") or ""), str(entry.get("split") or "train")
    sliced = _SLICE.fullmatch(split)
    whole = _whole(name, sliced["split"] if sliced else split, environ)
    if whole is None:
        return None
    count, source = whole
    if sliced:
        start, end = (_bound(sliced[side], count) for side in ("start", "end"))
        count = max((count if end is None else end) - (start or 0), 0)
    return count // int(entry.get("shards") or 1), source


def _bound(text: str | None, count: int) -> int | None:
    """Return a bound of a slice as the datasets library reads it: percents are rounded."""
    if text is None:
        return None
    number = round(count * int(text[:-1]) / 100) if text.endswith("%") else int(text)
    return min(number, count) if number >= 0 else count + number


def _whole(name: str, split: str, environ: Mapping[str, str]) -> tuple[int, str] | None:
    file = Path(located(name))
    if name and is_file(file):
        with contextlib.suppress(OSError, ValueError):
            return sum(1 for _ in read(file)), "counted"
        return None
    if card := hub_cache.find("datasets", name, "README.md", environ):
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
            for one in _splits(card.read_text(encoding="utf-8")):
                if one.get("name") == split and "num_examples" in one:
                    return int(one["num_examples"]), "by its card"
    known = _table().get(name) if split == "train" else None
    return (known, "as published") if known else None


def _splits(card: str) -> Iterator[Row]:
    """Yield the splits that a dataset card describes in its front matter."""
    head = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else None
    infos = head.get("dataset_info") if isinstance(head, dict) else None
    for info in infos if isinstance(infos, list) else [infos]:
        splits = info.get("splits") if isinstance(info, dict) else None
        yield from (one for one in splits or [] if isinstance(one, dict))


def _table() -> dict[str, int]:
    with (pack_folder("schemas") / TABLE).open(encoding="utf-8", newline="") as lines:
        return {row["path"]: int(row["rows"]) for row in csv.DictReader(lines, delimiter="\t")}


def read(file: Path) -> Iterator[Row]:
    """Yield the rows of a local .jsonl, .json or .csv file. Raises ``ValueError`` for another kind,
    for a file that is not what its name says, and for one that is too large to read for a plan.
    """
    for row in _read(file):
        if not isinstance(row, dict):
            raise ValueError(f"{file} holds a row that is no mapping")
        yield row


def _read(file: Path) -> Iterator[Any]:
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"{file} is larger than {MAX_BYTES >> 30} GiB")
    with file.open(encoding="utf-8", newline="" if file.suffix == ".csv" else None) as stream:
        match file.suffix:
            case ".jsonl":
                yield from (json.loads(line) for line in stream if line.strip())
            case ".csv":
                yield from csv.DictReader(stream)
            case ".json":
                text = stream.read()
                try:
                    whole = json.loads(text)
                    yield from whole if isinstance(whole, list) else [whole]
                except json.JSONDecodeError:  # lines of JSON under the name .json
                    yield from (json.loads(line) for line in text.splitlines() if line.strip())
            case _:
                raise ValueError(f"{file.suffix} is not read")


def _lengths(recipe: Recipe, entries: list[Row], environ: Mapping[str, str]) -> list[int]:
    """Return the tokens of each row, where the rows and the model's own tokenizer are at hand."""
    files = [Path(located(str(entry.get("path")))) for entry in entries]
    if not all(is_file(file) for file in files):
        return []
    tokenizer = _tokenizer(recipe, environ)
    if tokenizer is None:
        return []
    pairs = bool(recipe.value.get("rl"))
    found: list[int] = []
    for file in files:
        texts = [list(_texts(row, pairs)) for row in islice(read(file), MAX_MEASURED)]
        flat = [text for row in texts for text in row]
        counts = iter(
            len(one.ids) for one in tokenizer.encode_batch(flat, add_special_tokens=False)
        )
        found += [max((next(counts) for _ in row), default=0) for row in texts]
    return found


def _tokenizer(recipe: Recipe, environ: Mapping[str, str]) -> Any:
    """Return the model's tokenizer, or none where it or the library is not here."""
    name = str(recipe.value.get("tokenizer_config") or recipe.value.get("base_model"))
    local = Path(located(name)) / "tokenizer.json"
    file = local if is_file(local) else hub_cache.find("models", name, "tokenizer.json", environ)
    if file is None:
        return None
    with contextlib.suppress(ImportError):
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(file))
    return None


def _texts(row: Row, pairs: bool) -> Iterator[str]:
    """Yield the text of a row, or of a pair the two texts: what is common, with each answer."""
    if not pairs:
        yield " ".join(_words(row))
        return
    answers = [key for key in row if re.search("chosen|rejected", key)]
    common = " ".join(_words({key: value for key, value in row.items() if key not in answers}))
    yield from (f"{common} {' '.join(_words(row[key]))}" for key in answers)


def _words(value: Any) -> Iterator[str]:
    """Yield every text in a row, roles of messages left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            if key not in ("role", "from"):
                yield from _words(child)
    elif isinstance(value, list):
        for child in value:
            yield from _words(child)
