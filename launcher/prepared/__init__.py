"""Tokenized data that several runs share: kept under a digest of all that shaped it, so that what
was made of other rows, another template or another version is never read.

A run tokenises into its own folder; when its training has begun, and is over, the result is moved
to its shared place whole. So nobody reads what is half written, and nobody waits for a lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher import runs
from launcher.files import read_mapping
from launcher.prepared.shaping import Unknown, shaped, still

MANIFEST = "prepared.json"
LARGEST = 16 * 2**20  # bytes of a JSON file; of a dataset in a thousand pieces some 100 kB
DIGITS = 16  # of a digest, as a folder's name
# axolotl's own marks in the folder (utils/data/lock.py): without meaning between two runs.
_MARKS = ("datasets_prep.lock", "datasets_ready.flag", "process_counter.txt")


@dataclass(frozen=True)
class Shared:
    """Where runs share prepared data; none where this run keeps its own: then ``why`` says why.
    ``shaped``: all that the digest is of.
    """

    place: Path | None = None
    why: str = ""
    shaped: Mapping[str, Any] = field(default_factory=dict)

    @property
    def maker(self) -> str:
        """The run that has made it, where it is there, whole, and may be used."""
        return _maker(self.place) if self.place else ""


def shared(
    settings: Mapping[str, Any],
    rows: Mapping[str, str],
    root: Path,
    environ: Mapping[str, str],
    *,
    foreign: bool,
) -> Shared:
    """Return where the runs below ``root`` share what a run with these ``settings`` (the config
    that axolotl gets) makes of its rows (the digests of local files). ``foreign``: code from
    outside axolotl is run. The Hub is asked for its commits.
    """
    try:
        found = shaped(settings, rows, environ, foreign=foreign)
    except (Unknown, OSError) as unknown:
        return Shared(why=str(unknown))
    text = json.dumps(found, sort_keys=True, default=str)
    name = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
    return Shared(root / "prepared" / name, shaped=found)


def keep(
    made: Path, where: Shared, rows: Mapping[str, str], run: str, environ: Mapping[str, str]
) -> bool:
    """Move what a run has made to its shared place; return whether that was done. Nothing is moved
    where something is there already, is not whole, or where rows or repositories have changed
    meanwhile, so that nobody knows what it was made of. ``rows``: their digests now.
    """
    files = _files(made)
    if not where.place or not files or not still(where.shaped, rows, environ):
        return False
    made_of = {"run": run, "made": runs.now(), "files": files, "of": dict(where.shaped)}
    try:
        for mark in _MARKS:
            (made / mark).unlink(missing_ok=True)
        runs.write_json(made / MANIFEST, made_of)
        where.place.parent.mkdir(parents=True, exist_ok=True)
        made.rename(where.place)
    except OSError:  # another run was faster, or the disk is another one
        return False
    return True


def _files(folder: Path) -> dict[str, int]:
    """Return the bytes of each file of the datasets in a folder, by its path in it; nothing where
    one of them is not whole. ``datasets`` writes state.json after the rows; caches of later steps
    beside them are none of it.
    """
    found: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for inner in sorted(one for one in folder.iterdir() if one.is_dir()):
            state = read_mapping(inner / "state.json", LARGEST) or {}
            listed = state.get("_data_files")
            rows = [str(one.get("filename")) for one in listed] if isinstance(listed, list) else []
            if not rows:
                return {}
            for name in (*rows, "state.json", "dataset_info.json"):
                found[f"{inner.name}/{name}"] = (inner / name).stat().st_size
        return found
    return {}


def _maker(place: Path) -> str:
    """Return the run that made what is at a place; nothing where it is not there whole, has more
    than was made, or may not be written, as axolotl locks it.
    """
    manifest = read_mapping(place / MANIFEST, LARGEST) or {}
    if not manifest.get("files") or _files(place) != manifest["files"]:
        return ""
    return str(manifest.get("run") or "a run") if os.access(place, os.W_OK) else ""
