"""The child process of `launcher.dataset.sample`: the first rows of an entry, as the ``datasets``
library reads them for axolotl (utils/data/shared.py), streamed where that can be.

Reads one question as JSON from stdin and prints one line: ``{"rows": [...], "why": ""}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

_KINDS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".txt": "text"}


def main() -> None:
    """Answer the question on stdin. Whatever the library raises becomes its words: it raises
    classes of a dozen other libraries.
    """
    answer: dict[str, Any] = {"rows": [], "why": ""}
    with contextlib.redirect_stdout(sys.stderr):
        try:
            question = json.load(sys.stdin)
            signal.alarm(question["seconds"])  # where whoever asks is killed meanwhile, too
            answer["rows"] = first(question)
        except StopIteration:  # what the library makes of a file of no rows
            pass
        except Exception as problem:
            answer["why"] = words(problem)
    if not answer["rows"] and not answer["why"]:
        answer["why"] = "it has no rows"
    print(json.dumps(answer, default=str), flush=True)


def words(problem: BaseException) -> str:
    """Return what went wrong in one line: of a chain, the words of its first cause."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    text = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__


def first(question: Mapping[str, Any]) -> list[Any]:
    """Return the first rows of the part that the entry's split names."""
    entry = question["entry"]
    loaded = _load(entry, question["split"])
    if isinstance(loaded, Mapping):  # as axolotl: train, else the only one, else it stops
        loaded = loaded["train"] if "train" in loaded else next(iter(loaded.values()))
    start = _bound(question["start"], loaded) or 0
    stop = _bound(question["stop"], loaded)
    most = question["most"] if stop is None else min(question["most"], max(0, stop - start))
    rows: Iterable[Any] = loaded.skip(start) if start else loaded
    return list(islice(rows, most))


def _load(entry: Mapping[str, Any], split: str | None) -> Any:
    from datasets import load_dataset, load_from_disk

    path, local = str(entry["path"]), Path(entry["path"])
    streamed = {"streaming": not os.environ.get("HF_DATASETS_OFFLINE") or local.exists()}
    files = entry.get("data_files")
    if local.is_file() or path.startswith(("https://", "http://")):
        return load_dataset(_kind(entry), data_files=path, split=split or "train", **streamed)
    if local.is_dir() and not files:
        with contextlib.suppress(FileNotFoundError):
            found = load_from_disk(path)
            return found[split] if split and isinstance(found, Mapping) else found
        return load_dataset(path, split=split, **streamed)
    if local.is_dir():
        return load_dataset(_kind(entry), data_files=files, split=split, **streamed)
    return load_dataset(
        path,
        name=entry.get("name"),
        data_files=files,
        revision=entry.get("revision"),
        split=split,
        **streamed,
    )


def _kind(entry: Mapping[str, Any]) -> str:
    """Return the reader's name, as get_dataset_type of axolotl does."""
    if entry.get("ds_type"):
        return str(entry["ds_type"])
    return next((kind for end, kind in _KINDS.items() if end in str(entry["path"])), "json")


def _bound(text: str | None, loaded: Any) -> int | None:
    """Return a bound of a slice as a row: none where there is none, and for a share, or one that is
    counted from the end, where the number of rows is not known.
    """
    size = _size(loaded) if text else 0
    if not text or (not size and not text.isdecimal()):
        return None
    number = round(size * int(text[:-1]) / 100) if text.endswith("%") else int(text)
    return number if number >= 0 else max(0, size + number)


def _size(loaded: Any) -> int:
    with contextlib.suppress(TypeError):
        return len(loaded)
    splits = loaded.info.splits or {}
    known = splits.get(str(loaded.split))
    return known.num_examples if known else 0


if __name__ == "__main__":
    main()
