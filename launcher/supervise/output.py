"""What a training prints: shown and kept, secrets hidden in both."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from launcher.redact import redact


class View(Protocol):
    """What shows a run while it goes on."""

    def say(self, text: str) -> None:
        """Show what the launcher has to say."""

    def output(self, text: str) -> None:
        """Take a piece of what the training printed: a line, or a progress bar up to its carriage
        return. Called from a thread of its own.
        """

    def tick(self) -> None:
        """Look at the run: called some ten times a second."""


class Plain:
    """Shows all that a training prints, as it comes, on stdout."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Let ``say`` show what the launcher has to say."""
        self.say = say

    def output(self, text: str) -> None:
        """Write to stdout at once. Where nobody reads it any more (``| head``) it leads nowhere
        from then on.
        """
        try:
            print(text, end="", flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def tick(self) -> None:
        """Nothing moves."""


class Careful:
    """A view that may fail and ends no run for it: from then on nothing is shown but words. What
    failed is our own mistake, so it is said, with its traceback.
    """

    def __init__(self, view: View) -> None:
        """Show a run by ``view``."""
        self.view, self.failed = view, False

    def say(self, text: str) -> None:
        """Show what the launcher has to say."""
        self._try(partial(self.view.say, text))

    def output(self, text: str) -> None:
        """Take a piece of output."""
        if not self.failed:
            self._try(partial(self.view.output, text))

    def tick(self) -> None:
        """Look at the run."""
        if not self.failed:
            self._try(self.view.tick)

    def _try(self, show: Callable[[], None]) -> None:
        try:
            show()
        except Exception:
            if not self.failed:
                self.failed = True
                with contextlib.suppress(Exception):
                    self.view.say(f"{traceback.format_exc()}this is not shown; the run goes on")


def tee(
    stream: IO[bytes], log: Path, secrets: tuple[str, ...], show: Callable[[str], None]
) -> None:
    """Copy the child's output to ``show`` and to the log, line by line or by carriage return,
    secrets hidden in both. Reads to the end whatever becomes of the copies: a child that nobody
    reads stands still.
    """
    kept: IO[bytes] | None = None
    with stream, contextlib.ExitStack() as stack:
        try:
            # unbuffered: what a full disk refuses must not be tried again when the file is closed
            kept = stack.enter_context(log.open("ab", buffering=0))
        except OSError as problem:
            show(f"axr: cannot write {log}: {problem.strerror}\n")
        for text in _pieces(stream):
            hidden = redact(text, secrets)
            show(hidden)
            try:
                if kept:
                    kept.write(hidden.encode())
            except OSError as problem:
                kept = None
                show(f"axr: {log} ends here: {problem.strerror}\n")


def _pieces(stream: IO[bytes]) -> Iterator[str]:
    pending = b""
    while chunk := os.read(stream.fileno(), 65536):
        *whole, pending = re.split(rb"(?<=[\r\n])", pending + chunk)
        yield from (piece.decode("utf-8", errors="replace") for piece in whole)
    if pending:
        yield pending.decode("utf-8", errors="replace")
