"""Whether what is missing fits on the disks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

MARGIN = 64 * 2**20  # bytes that stay free: names, locks, and what others write meanwhile


def shortages(needed: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Return for each file system that is too small the folder with most to write, the bytes that
    all of them take there, and those that are free. ``needed``: bytes by folder; none need be there
    yet.
    """
    disks: dict[int, list[str]] = {}
    for folder, size in needed.items():
        if size and (above := _above(Path(folder).expanduser())):
            disks.setdefault(above.stat().st_dev, []).append(folder)
    found = []
    for folders in disks.values():
        total = sum(needed[folder] for folder in folders)
        largest = max(folders, key=lambda folder: needed[folder])
        above = _above(Path(largest).expanduser())
        free = _free(above) if above else None
        if free is not None and free < total + MARGIN:
            found.append((largest, total, free))
    return found


def _above(folder: Path) -> Path | None:
    """Return the folder, or the nearest one above it that is there."""
    return next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), None)


def _free(folder: Path) -> int | None:
    with suppress(OSError):
        state = os.statvfs(folder)
        return state.f_bavail * state.f_frsize
    return None
