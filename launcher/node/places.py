"""The folders that a run writes to: room, file system, speed."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITE_PIECE = 8 * 2**20  # bytes, each handed to the disk before the next
WRITE_SECONDS, WRITE_PIECES = 0.3, 16


@dataclass(frozen=True)
class Place:
    """A folder that a run writes to. ``mount`` and ``kind`` are those of its file system, ``free``
    bytes for this user, ``speed`` bytes a second as just written; ``why`` says what is not known.
    """

    role: str
    path: str
    mount: str = ""
    kind: str = ""
    free: int | None = None
    writable: bool = True
    speed: float | None = None
    why: str = ""


def look(role: str, path: str) -> dict[str, Any]:
    """Return what a `Place` holds; a moment is spent writing there."""
    known: dict[str, Any] = {"role": role, "path": path}
    try:
        wanted = Path(path).expanduser().absolute()
        folder = _nearest(wanted)
        point, kind = mount(str(folder.resolve()))
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize
        known |= {"mount": point, "kind": kind, "free": free}
        if not os.access(folder, os.W_OK | os.X_OK):
            return {**known, "writable": False}
        if in_the_way := [one for one in (wanted, *wanted.parents) if _no_folder(one)]:
            return {**known, "writable": False, "why": f"{in_the_way[0]} is no folder"}
        return {**known, **_written(folder, free)}
    except OSError as problem:
        return {**known, "why": problem.strerror or str(problem)}


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest above it that there is: the run makes the rest."""
    return next(one for one in (folder, *folder.parents) if one.is_dir())


def _no_folder(place: Path) -> bool:
    return os.path.lexists(place) and not place.is_dir()


def _written(folder: Path, free: int) -> dict[str, Any]:
    """Write for a moment and return how fast that went; the file is gone afterwards."""
    file = folder / f".axr-doctor-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DSYNC
    try:
        stream = os.open(file, flags, 0o600)
        file.unlink()  # at once: it goes with this process, whatever happens to it
    except OSError as problem:
        return {"writable": False, "why": problem.strerror or str(problem)}
    piece, done = os.urandom(WRITE_PIECE), 0
    most = min(WRITE_PIECES, free // (4 * WRITE_PIECE))  # a disk that is full is left alone
    begin = time.monotonic()
    try:
        while done < most and time.monotonic() - begin < WRITE_SECONDS:
            done += os.write(stream, piece) // WRITE_PIECE
    except OSError as problem:
        return {"why": f"while writing: {problem.strerror}"}
    finally:
        os.close(stream)
    spent = max(time.monotonic() - begin, 1e-6)
    return {"speed": round(done * WRITE_PIECE / spent)} if done else {}


def mount(path: str) -> tuple[str, str]:
    """Return where the file system of a path is mounted, and its kind."""
    import psutil

    best = ("", "")
    for part in psutil.disk_partitions(all=True):
        below = path == part.mountpoint or path.startswith(part.mountpoint.rstrip("/") + "/")
        if below and len(part.mountpoint) >= len(best[0]):
            best = (part.mountpoint, part.fstype)
    return best
