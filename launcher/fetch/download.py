"""Downloads files, several at once, and tells of each byte: imported in the child alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from launcher.fetch.item import Item, Trouble
from launcher.fetch.listing import cache_of
from launcher.fetch.trying import FULL, persistently

WORKERS = 8  # as snapshot_download of huggingface_hub
# Bytes that are written, and told of, at once: of huggingface_hub's own 10 MB all is lost where the
# connection breaks, and over a slow one nothing seems to move.
PIECE = 2**20
Told = Callable[[int, int], None]


def download(api: Any, items: Iterable[Item], told: Told, *, fresh: bool = False) -> list[Trouble]:
    """Download each file that is not here, and let each repository's name of a revision point to
    what was downloaded. ``told`` hears of a file's number and of its bytes that are here.

    ``fresh``: what hf_xet has begun is begun anew, as the plain way would go on from its size
    alone. Returns what did not come; a disk that is full ends all.
    """
    from huggingface_hub import constants

    constants.DOWNLOAD_CHUNK_SIZE = PIECE
    full = threading.Event()

    def one(number: int, item: Item, named: bool) -> Trouble | None:
        if full.is_set():
            return None
        try:
            _one(api, item, lambda size: told(number, size), named=named, fresh=fresh)
        except Trouble as trouble:
            if trouble.code == FULL:
                full.set()
            return trouble
        return None

    listed = list(items)
    first = {(item.kind, item.name, item.revision): item for item in reversed(listed)}
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        todo = [
            pool.submit(one, number, item, item in first.values())
            for number, item in enumerate(listed)
        ]
        found = [task.result() for task in todo]
    return [trouble for trouble in found if trouble]


def _one(api: Any, item: Item, told: Callable[[int], None], *, named: bool, fresh: bool) -> None:
    """Download a file; ``named`` by its revision, which is then written down for a start without a
    network. The others by their commit, so that all are of one.
    """
    if item.here and not named:
        return
    if fresh and item.xet:
        with suppress(FileNotFoundError):
            Path(f"{item.blob}.incomplete").unlink()
    seen = _Seen(told)

    def step() -> None:
        api.hf_hub_download(
            item.name,
            item.file,
            repo_type=item.kind,
            revision=item.revision if named else item.commit,
            cache_dir=cache_of(item.kind),
            tqdm_class=seen.bar,
        )

    persistently(step, f"{item.name}/{item.file}", api.endpoint, seen.moved)
    told(item.size)


class _Seen:
    """The bytes of one file, from what huggingface_hub takes for a progress bar."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self._told = told
        self._most = self._asked = 0

    def moved(self) -> bool:
        """Return whether bytes came since this was asked last."""
        before, self._asked = self._asked, self._most
        return self._most > before

    def at(self, size: int) -> None:
        """Note how many bytes are here."""
        if size > self._most:
            self._most = size
        self._told(size)

    def bar(self, *_: object, initial: int = 0, **__: object) -> _Bar:
        """Return a bar, as huggingface_hub asks for one."""
        return _Bar(self, initial)


class _Bar:
    """What huggingface_hub needs of tqdm."""

    def __init__(self, seen: _Seen, initial: int) -> None:
        self._seen, self._size = seen, initial
        seen.at(initial)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is drawn."""

    def update(self, size: float = 1) -> None:
        """Note more bytes; fewer where the host began anew."""
        self._size += int(size)
        self._seen.at(self._size)
