"""Trying again, as long as what went wrong may pass: imported in the child alone."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from launcher.fetch.item import Trouble
from launcher.redact import redact

TRIES = 4  # of a step that brings not one byte; 1, 2 and 4 s lie between them
_PASSING = (408, 425, 429)  # statuses that may pass, beside 5xx
LIMITED, BROKEN, FULL = "LIMITED", "BROKEN", "FULL"
_LONGEST = 200  # characters of a library's words

T = TypeVar("T")


def persistently(
    step: Callable[[], T], what: str, endpoint: str, moved: Callable[[], bool] = lambda: False
) -> T:
    """Return what a step returns, tried again while its trouble may pass. ``moved`` says whether
    bytes have come since it was asked last: then the count begins anew.

    Raises `Trouble`, with the file and the host.
    """
    tries = 0
    while True:
        try:
            return step()
        except Exception as problem:  # of httpx, huggingface_hub, hf_xet, the file system
            if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Trouble(FULL, what, f"{what}: {problem.strerror}") from problem
            tries = 1 if moved() else tries + 1
            if tries >= TRIES or not passing(problem):
                raise _trouble(problem, what, endpoint) from problem
            time.sleep(2 ** (tries - 1))


def passing(problem: BaseException) -> bool:
    """Return whether what went wrong may go right the next time."""
    import httpx
    from huggingface_hub.errors import LocalEntryNotFoundError

    if (status := status_of(problem)) is not None:
        return status in _PASSING or status >= 500
    if isinstance(problem, httpx.HTTPError | LocalEntryNotFoundError | ConnectionError):
        return True
    text = str(problem)  # a wrong length; hf_xet has no classes of its own
    return "Consistency check failed" in text or type(problem) is RuntimeError


def status_of(problem: BaseException) -> int | None:
    """Return the HTTP status that a problem, or what caused it, stands for."""
    found: BaseException | None = problem
    while found is not None:
        response = getattr(found, "response", None)
        if response is not None:
            return int(response.status_code)
        found = found.__cause__
    return None


def _trouble(problem: BaseException, what: str, endpoint: str) -> Trouble:
    status, host = status_of(problem), urlsplit(endpoint).hostname or endpoint
    if status is not None:
        code = LIMITED if status == 429 or status >= 500 else BROKEN
        return Trouble(code, what, f"{what}: {host} answers HTTP {status}")
    cause = problem.__cause__ or problem
    words = redact((str(cause).splitlines() or [""])[0] or type(cause).__name__)[:_LONGEST]
    return Trouble(BROKEN, what, f"{what} does not come from {host}: {words}")
