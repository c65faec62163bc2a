"""What the Hub's cache on this machine holds, read by plain file access: no network, no
huggingface_hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from launcher.files import is_file


def folder(environ: Mapping[str, str]) -> Path:
    """Return the cache's folder (huggingface_hub/constants.py)."""
    if found := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(found).expanduser()
    base = Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(environ.get("HF_HOME") or base).expanduser() / "hub"


def find(
    kind: str, name: str, file: str, environ: Mapping[str, str], *, revision: str = "main"
) -> Path | None:
    """Return a file of the repository ``name`` (``kind``: models, datasets), or none.

    ``models--org--name/refs/<revision>`` holds the commit whose snapshot has the file.
    """
    if "/../" in f"/{name}/" or name.startswith("/"):
        return None
    repository = folder(environ) / f"{kind}--{name.replace('/', '--')}"
    ref = repository / "refs" / revision
    commit = ref.read_text(encoding="utf-8").strip() if is_file(ref) else revision
    found = repository / "snapshots" / commit / file
    return found if is_file(found) else None
