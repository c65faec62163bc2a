"""One file of the Hub that a run needs, and what can go wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.doctor.line import gib


@dataclass(frozen=True)
class Item:
    """A file. ``kind``: model, dataset, kernel; ``size`` in bytes, of which ``part`` are here of a
    download that was cut off; ``blob``: where its bytes lie; ``xet``: it comes in chunks.
    """

    kind: str
    name: str
    revision: str
    commit: str
    file: str
    size: int
    here: bool
    part: int = 0
    blob: str = ""
    xet: bool = False

    @property
    def missing(self) -> int:
        """The bytes that are to come."""
        return 0 if self.here else self.size - self.part


def amount(size: float) -> str:
    """Return bytes as "12.3 GiB", "4 MiB" or "3 KiB"."""
    return gib(size) if size >= 2**20 or not size else f"{-(-size // 2**10):.0f} KiB"


class Trouble(Exception):
    """What stops a part: the name of a code in `launcher.fetch.codes`, of what, and the fact."""

    def __init__(self, code: str, name: str, words: str) -> None:
        super().__init__(words)
        self.code, self.name, self.words = code, name, words
