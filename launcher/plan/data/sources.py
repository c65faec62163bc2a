"""How many rows a dataset entry has: counted in a file, by the dataset's card, or as published."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from launcher import hub_cache
from launcher.files import exists
from launcher.plan.data.files import FAULTS, Row, Table, table
from launcher.recipe import Recipe, located, pack_folder

TABLE = "datasets.tsv"  # in the pack's folder `schemas`: path, rows, source, rows_file
MAX_CARD = 4 * 2**20  # bytes of a dataset card
# What the datasets library takes for a slice (arrow_reader.py, _SUB_SPEC_RE), with numbers that a
# file can have. Of sums of slices and of percents cut otherwise the rows are not known.
_BOUND = r"-?[0-9]{1,15}%?"
SLICE = re.compile(rf"(?P<split>\w+(\.\w+)*)(\[(?P<start>{_BOUND})?:(?P<stop>{_BOUND})?\])?")


@dataclass(frozen=True)
class Found:
    """The rows of an entry that are trained on, and how they are known. ``table``: the local file
    that they are in, from ``start`` to ``stop``.
    """

    count: int
    source: str
    table: Table | None = None
    start: int = 0
    stop: int = 0


def find(
    recipe: Recipe, entry: Row, environ: Mapping[str, str], split: str = "train"
) -> Found | None:
    """Return the rows of one dataset entry, or none. ``split``: of a dataset on the Hub, where the
    entry names none; a local file has but "train" (utils/data/shared.py, _load_from_local_path).
    """
    name, asked = entry.get("path"), entry.get("split")
    if not isinstance(name, str) or not name or not isinstance(asked, (str, type(None))):
        return None
    file = located(name)
    local = exists(file)
    sliced = SLICE.fullmatch(asked or ("train" if local else split))
    if sliced is None:
        return None
    part = sliced["split"]
    whole = _counted(entry, Path(file), part) if local else _told(entry, name, part, environ)
    if whole is None:
        return None
    start, stop = _bounds(sliced["start"], sliced["stop"], whole.count)
    count = _shard(recipe, entry, stop - start)
    return None if count is None else replace(whole, count=count, start=start, stop=stop)


def _bounds(start: str | None, stop: str | None, count: int) -> tuple[int, int]:
    first, last = _bound(start, 0, count), _bound(stop, count, count)
    return first, max(first, last)


def _bound(text: str | None, default: int, count: int) -> int:
    """Return a bound of a slice as the datasets library reads it: percents are rounded."""
    if text is None:
        return default
    number = round(count * int(text[:-1]) / 100) if text.endswith("%") else int(text)
    return min(max(number if number >= 0 else count + number, 0), count)


def _shard(recipe: Recipe, entry: Row, count: int) -> int | None:
    """Return the rows of the shard that an entry names (Dataset.shard, contiguous): the first ones
    get what does not divide. Under ``rl``, axolotl reads no shards (utils/data/rl.py).
    """
    shards, index = entry.get("shards"), entry.get("shards_idx") or 0
    if not shards or recipe.value.get("rl"):
        return count
    if not isinstance(shards, int) or not isinstance(index, int) or not 0 <= index < shards:
        return None
    return count // shards + (index < count % shards)


def _counted(entry: Row, file: Path, split: str) -> Found | None:
    kind = entry.get("ds_type")
    if split != "train" or (kind and kind != ("csv" if file.suffix == ".csv" else "json")):
        return None
    found = table(file)
    if found is None:
        return None
    source = "estimated from its size" if found.estimated else "counted"
    return Found(found.count, source, found)


def _told(entry: Row, name: str, split: str, environ: Mapping[str, str]) -> Found | None:
    with contextlib.suppress(*FAULTS, yaml.YAMLError, KeyError, AttributeError):
        card = hub_cache.find("datasets", name, "README.md", environ)
        if card and card.stat().st_size <= MAX_CARD:
            for one in _splits(card.read_text(encoding="utf-8"), entry.get("name")):
                if one.get("name") == split and int(one["num_examples"]) >= 0:
                    return Found(int(one["num_examples"]), "by its card")
    known = _table().get(name) if split == "train" else None
    return Found(known, "as published") if known else None


def _splits(card: str, config: Any) -> Iterator[Row]:
    """Yield the splits that a dataset card describes in its front matter, of one configuration."""
    head = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else None
    listed = head.get("dataset_info") if isinstance(head, dict) else None
    infos = [info for info in listed if isinstance(info, dict)] if isinstance(listed, list) else []
    if isinstance(listed, dict):
        infos = [listed]
    wanted = config or "default"
    named = [info for info in infos if info.get("config_name", "default") == wanted]
    for info in named or (infos if len(infos) == 1 and not config else []):
        splits = info.get("splits")
        yield from (one for one in splits or [] if isinstance(one, dict))


@lru_cache(maxsize=1)
def _table() -> dict[str, int]:
    with (pack_folder("schemas") / TABLE).open(encoding="utf-8", newline="") as lines:
        table = csv.DictReader(lines, delimiter="\t")
        return {row["path"]: int(row["rows"]) for row in table if row["rows"]}
