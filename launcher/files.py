"""Files that a recipe names, looked at without harm: it is untrusted text, and may name a pipe, a
device, a file without end, or what no file can be called.

Of most names only the existence is asked. Read are a DeepSpeed config and two files of a
checkpoint: regular files up to a size, of which no text is shown.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def exists(name: str | Path) -> bool:
    """Return whether there is a file, folder or other thing of this name, whatever the name."""
    return os.path.exists(name)  # Path.exists raises for a name that is too long or not permitted


def is_file(name: str | Path) -> bool:
    """Return whether there is a regular file of this name, whatever the name."""
    return os.path.isfile(name)


def is_folder(name: str | Path) -> bool:
    """Return whether there is a folder of this name, whatever the name."""
    return os.path.isdir(name)


def read_mapping(path: Path, limit: int) -> dict[str, Any] | None:
    """Return what a JSON file of at most ``limit`` bytes holds; none where it is no such file, or
    holds no mapping.
    """
    if not is_file(path):  # opening some devices does something
        return None
    try:
        with open(path, "rb", opener=_without_waiting) as stream:
            data = stream.read(limit + 1)
        loaded = json.loads(data) if len(data) <= limit else None
    except (OSError, ValueError, RecursionError):
        return None
    return loaded if isinstance(loaded, dict) else None


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)
