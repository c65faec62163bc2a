"""Local data files: how many rows one holds, and some of them, without harm and without waiting.

A file is untrusted: it may be broken, hostile, or huge. Whatever it holds, there is a table or
there is none, and it is seen in well under a second.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from launcher.files import is_file

Row = Mapping[str, Any]

MiB = 2**20
COUNTED = {".jsonl": 256 * MiB, ".csv": 64 * MiB}  # a larger one is estimated from its head
PARSED = 64 * MiB  # a .json is one value: a larger one is not read
HEAD = 16 * MiB
KINDS = {".jsonl": ".jsonl", ".json": ".json", ".csv": ".csv"}  # by the end of the name
_BOM = b"\xef\xbb\xbf"
# All that a file's bytes can make the readers below raise.
FAULTS = (OSError, ValueError, TypeError, RecursionError, MemoryError, OverflowError, csv.Error)


@dataclass(frozen=True)
class Table:
    """The rows of one file. ``estimated``: their number follows from the file's size; then only the
    first ``seen`` are looked at. ``values`` are the rows where the whole file had to be parsed.
    """

    file: Path
    kind: str
    count: int
    size: int  # bytes
    seen: int
    values: Sequence[Row] | None = None

    @property
    def estimated(self) -> bool:
        """Whether the number of rows is no count."""
        return self.seen < self.count

    def pick(self, wanted: Sequence[int]) -> list[Row] | None:
        """Return the rows of these indices, in order; none where one is not a mapping of names, or
        cannot be read.
        """
        try:
            chosen = list(_chosen(self, wanted))
        except FAULTS:
            return None
        named = all(isinstance(row, dict) and None not in row for row in chosen)
        return chosen if named else None  # csv puts what has no column under none


def table(file: Path) -> Table | None:
    """Return the table of a .jsonl, .json or .csv file; none for another kind, an empty one, one
    that is not what its name says, and a .json that is too large to be read for a plan.
    """
    kind = KINDS.get(file.suffix)
    if kind is None or not is_file(file):
        return None
    try:
        found = _parsed(file) if kind == ".json" else _counted(file, kind)
    except FAULTS:
        return None
    if not found or not found.count or not found.pick([0, found.seen - 1][: found.seen]):
        return None
    return found


def spread(start: int, stop: int, most: int) -> list[int]:
    """Return at most so many indices, evenly over ``start`` to ``stop``."""
    size = stop - start
    if size <= most:
        return list(range(start, stop))
    return [start + i * size // most for i in range(most)]


def _counted(file: Path, kind: str) -> Table:
    size = file.stat().st_size
    whole = size <= COUNTED[kind]
    with file.open("rb") as stream:
        source: BinaryIO = stream if whole else _head(stream)
        seen, read = (_lines_in if kind == ".jsonl" else _records_in)(source), HEAD
    return Table(file, kind, seen if whole else seen * size // read, size, seen)


def _head(stream: BinaryIO) -> BinaryIO:
    """Return the first bytes of a large file, up to its last whole line."""
    start = stream.read(HEAD)
    return io.BytesIO(start[: start.rfind(b"\n") + 1])


def _lines_in(stream: Iterable[bytes]) -> int:
    return sum(1 for _ in _lines(stream))


def _lines(stream: Iterable[bytes]) -> Iterator[bytes]:
    return (line for line in stream if line.strip(b" \t\r\n\xef\xbb\xbf"))


def _records_in(stream: BinaryIO) -> int:
    return sum(1 for _ in _records(stream))


def _records(stream: BinaryIO) -> Iterator[Row]:
    """Yield the rows of a CSV file. A field may be as long as the file: the limit of the csv module
    is the process's own.
    """
    csv.field_size_limit(max(csv.field_size_limit(), COUNTED[".csv"]))
    first = next(iter(stream), b"").removeprefix(_BOM)
    yield from csv.DictReader(line.decode("utf-8") for line in chain([first], stream))


def _parsed(file: Path) -> Table | None:
    """Return the table of a .json file: a list, one row, or lines of JSON under that name."""
    size = file.stat().st_size
    if size > PARSED:
        return None
    text = file.read_bytes().removeprefix(_BOM).decode("utf-8")
    try:
        loaded = json.loads(text)
    except json.JSONDecodeError:
        loaded = [json.loads(line) for line in text.splitlines() if line.strip()]
    values = loaded if isinstance(loaded, list) else [loaded]
    return Table(file, ".json", len(values), size, len(values), values)


def _chosen(found: Table, wanted: Sequence[int]) -> Iterator[Any]:
    if found.values is not None:
        yield from (found.values[index] for index in wanted)
        return
    with found.file.open("rb") as stream:
        source: BinaryIO = _head(stream) if found.estimated else stream
        if found.kind == ".csv":
            yield from _at(_records(source), wanted)
        else:
            lines = _at(_lines(source), wanted)
            yield from (json.loads(line.removeprefix(_BOM).decode("utf-8")) for line in lines)


def _at(items: Iterator[Any], wanted: Sequence[int]) -> Iterator[Any]:
    place = 0
    for index in wanted:
        if index >= place:
            last = next(islice(items, index - place, None))
            place = index + 1
        yield last
