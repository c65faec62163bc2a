"""The first rows of each entry of a recipe's data: never the whole set, never for long.

What stands in a file here is read here; what takes the ``datasets`` library (the Hub, an address,
parquet, a folder) is read by a child process, which may be ended. Where a dataset that the shipped
recipes name cannot be had, small rows of the same columns stand for it.
"""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from launcher.children import alone
from launcher.files import exists
from launcher.network import hub, unreachable
from launcher.plan.data.files import Row
from launcher.plan.data.sources import SLICE, TABLE, Found, find
from launcher.recipe import Recipe, located, pack_folder
from launcher.redact import redact

TIMEOUT = 30.0  # seconds for one entry
LONGEST = 300  # characters of a library's words
DEEPEST = 100  # levels of a row
DEEP = f"a row is nested deeper than {DEEPEST} levels"
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
# So that a host that does not answer is told from one that is slow, well before the time is over.
_PATIENCE = {"HF_HUB_ETAG_TIMEOUT": "8", "HF_HUB_DOWNLOAD_TIMEOUT": "15"}


@dataclass(frozen=True)
class Sample:
    """The first rows of one entry of ``datasets`` or ``test_datasets`` (``key``, ``index``).

    ``origin``: "file", "hub" (whatever came over the network, or out of the library's cache), or
    "shipped": rows of this project with the same columns; then ``why`` says why the real ones are
    not here. ``total``: rows of the whole entry, where known.
    """

    key: str
    index: int
    rows: tuple[Row, ...]
    place: str
    origin: str
    why: str = ""
    total: int | None = None


@dataclass(frozen=True)
class Missing:
    """An entry whose rows cannot be had, and why."""

    key: str
    index: int
    name: str
    why: str


def first_rows(
    recipe: Recipe,
    environ: Mapping[str, str],
    *,
    most: int,
    key: str = "datasets",
    timeout: float = TIMEOUT,
) -> list[Sample | Missing]:
    """Return at most ``most`` rows of each entry of the list ``key``, the first that are trained
    on. Each entry takes ``timeout`` seconds at most; nothing is raised for what is not there.
    """
    listed = recipe.value.get(key)

    def read(index: int) -> Sample | Missing:
        return _entry(recipe, environ, (key, index), most, timeout)

    entries = listed if isinstance(listed, list) else []
    indices = [index for index, entry in enumerate(entries) if isinstance(entry, dict)]
    with ThreadPoolExecutor(max_workers=4) as pool:  # each waits for a process or a host
        return list(pool.map(read, indices))


def _entry(
    recipe: Recipe, environ: Mapping[str, str], at: tuple[str, int], most: int, timeout: float
) -> Sample | Missing:
    key, index = at
    entry = recipe.value[key][index]
    name = str(entry.get("path"))
    found = find(recipe, entry, environ)
    total = found.count if found else None
    rows = _by_hand(found, most)
    if rows and not _too_deep(rows):
        return Sample(key, index, tuple(rows), name, "file", total=total)
    rows, why = ([], DEEP) if rows else _by_library(entry, most, timeout, environ)
    if rows and not _too_deep(rows):
        local = exists(located(name))
        place = name if local or "://" in name else f"Hub: {name}"
        return Sample(key, index, tuple(rows), place, "file" if local else "hub", total=total)
    stand_in = _stand_in(name)
    if stand_in:
        return Sample(key, index, stand_in[:most], name, "shipped", why, total)
    return Missing(key, index, name, why)


def _by_hand(found: Found | None, most: int) -> Sequence[Row]:
    """Return the rows of a file that is read here. One of CSV is not where the library is: it makes
    numbers of columns of digits, and nothing of an empty field.
    """
    if not found or not found.table or (found.table.kind == ".csv" and find_spec("datasets")):
        return ()
    stop = min(found.stop, found.start + most, found.table.seen)
    return found.table.pick(range(found.start, stop)) or ()


def _too_deep(rows: Sequence[Row]) -> bool:
    """Return whether rows are nested so deep that what looks into them would not come back."""
    level: list[Any] = list(rows)
    for _ in range(DEEPEST):
        inner = (one.values() if isinstance(one, Mapping) else one for one in level)
        level = [one for many in inner for one in many if isinstance(one, Mapping | list)]
    return bool(level)


def _by_library(
    entry: Row, most: int, timeout: float, environ: Mapping[str, str]
) -> tuple[list[Row], str]:
    """Return the rows that the ``datasets`` library reads, or none and its words.

    Asks the network first, and the cache on this machine where there is none.
    """
    if not find_spec("datasets"):
        return [], "the datasets library is not installed here (make setup)"
    if "pandas" in (entry.get("ds_type"), entry.get("path")):
        return [], "no pickle is read here: that runs code"
    split = SLICE.fullmatch(str(entry.get("split") or ""))
    question = {
        "entry": {**entry, "path": located(str(entry.get("path")))},
        "split": split["split"] if split else None,
        "start": split["start"] if split else None,
        "stop": split["stop"] if split else None,
        "most": most,
        "seconds": math.ceil(timeout) + 1,
    }
    name = str(entry.get("path"))
    if exists(located(name)):
        return _ask(question, timeout, {**environ, **_OFFLINE})
    why = unreachable(name if "://" in name else hub(environ), environ)
    if not why:
        rows, why = _ask(question, timeout, {**environ, **_PATIENCE})
        if rows:
            return rows, ""
    return _ask(question, timeout, {**environ, **_OFFLINE})[0], why


def _ask(
    question: Mapping[str, Any], timeout: float, environ: Mapping[str, str]
) -> tuple[list[Row], str]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "launcher.dataset.stream"],
            input=json.dumps(question, default=str),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            env=alone({**os.environ, **environ}),
        )
    except subprocess.TimeoutExpired:
        return [], f"no row within {timeout:g} s"
    try:
        answer = json.loads(done.stdout.strip().rpartition("\n")[2])
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        last = done.stderr.strip().rpartition("\n")[2]
        return [], redact(last)[:LONGEST] or f"the reader ended with exit code {done.returncode}"
    return answer["rows"], redact(answer["why"])[:LONGEST]


@lru_cache(maxsize=8)
def _stand_in(name: str) -> tuple[Row, ...]:
    """Return the shipped rows that stand for a dataset; none where there are none."""
    with (pack_folder("schemas") / TABLE).open(encoding="utf-8", newline="") as lines:
        files = {row["path"]: row["rows_file"] for row in csv.DictReader(lines, delimiter="\t")}
    if not files.get(name):
        return ()
    text = (pack_folder("recipes") / "data" / files[name]).read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())
