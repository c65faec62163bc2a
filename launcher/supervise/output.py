"""What a training prints: shown and kept, secrets hidden in both."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from launcher.redact import redact


def tee(stream: IO[bytes], log: Path, secrets: tuple[str, ...]) -> None:
    """Copy the child's output to ours and to the log, line by line or by carriage return, secrets
    hidden in both. Reads to the end whatever becomes of the copies: a child that nobody reads
    stands still.
    """
    kept: IO[bytes] | None = None
    with stream, contextlib.ExitStack() as stack:
        try:
            # unbuffered: what a full disk refuses must not be tried again when the file is closed
            kept = stack.enter_context(log.open("ab", buffering=0))
        except OSError as problem:
            _print(f"axr: cannot write {log}: {problem.strerror}\n")
        for text in _pieces(stream):
            hidden = redact(text, secrets)
            _print(hidden)
            try:
                if kept:
                    kept.write(hidden.encode())
            except OSError as problem:
                kept = None
                _print(f"axr: {log} ends here: {problem.strerror}\n")


def _print(text: str) -> None:
    """Write to stdout at once. Where nobody reads it any more (``| head``) it leads nowhere from
    then on.
    """
    try:
        print(text, end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _pieces(stream: IO[bytes]) -> Iterator[str]:
    pending = b""
    while chunk := os.read(stream.fileno(), 65536):
        *whole, pending = re.split(rb"(?<=[\r\n])", pending + chunk)
        yield from (piece.decode("utf-8", errors="replace") for piece in whole)
    if pending:
        yield pending.decode("utf-8", errors="replace")
