"""Digests of the local files that a recipe trains on: how a run tells that one has changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from launcher.files import is_file, is_folder
from launcher.recipe import Recipe, located

# Bytes of all files; of what is beyond the two ends and the size count (2 GiB take 2 to 4 s).
WHOLE = 2 * 2**30
END = 2**20  # bytes
MOST = 1000  # files of a folder
_PART = 2**20
_LISTS = ("datasets", "test_datasets", "pretraining_dataset")


def digests(recipe: Recipe) -> dict[str, str]:
    """Return the SHA-256 of each local data file, by its path as the recipe gives it. A file that
    cannot be read has none.
    """
    found, left = {}, WHOLE
    for file in dict.fromkeys(file for name in _names(recipe) for file in _files(name)):
        with contextlib.suppress(OSError):
            size = file.stat().st_size
            whole = size <= max(left, 2 * END)
            found[str(file)] = _digest(file, size, whole=whole)
            left -= size if whole else 0
    return found


def _names(recipe: Recipe) -> Iterator[str]:
    for key in _LISTS:
        listed = recipe.value.get(key)
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, dict):
                files = entry.get("data_files")
                yield from map(str, files if isinstance(files, list) else [files or ""])
                yield str(entry.get("path") or "")


def _files(name: str) -> list[Path]:
    place = located(name)
    if is_folder(place):
        return [*islice(_below(place), MOST)]
    return [Path(place)] if name and is_file(place) else []


def _below(folder: str) -> Iterator[Path]:
    """Yield the files in a folder as they come, in order: it may be a whole disk."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names) if is_file(Path(parent, name)))


def _digest(file: Path, size: int, *, whole: bool) -> str:
    found = hashlib.sha256()
    with file.open("rb") as stream:
        for start, stop in [(0, size)] if whole else [(0, END), (size - END, size)]:
            stream.seek(start)
            while start < stop and (part := stream.read(min(_PART, stop - start))):
                found.update(part)
                start += len(part)
    return found.hexdigest() if whole else f"{found.hexdigest()} of both ends, {size} bytes"
