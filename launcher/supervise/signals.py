"""Signals that ask for an end, collected instead of died of."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, preemption, a lost connection


@dataclass
class Received:
    """The signals that asked for an end, in order."""

    signals: list[int] = field(default_factory=list)


@contextlib.contextmanager
def received_signals() -> Iterator[Received]:
    """Collect the signals that ask for an end instead of dying of them.

    One that is ignored, as SIGHUP is under nohup, stays without effect; but not by ignoring it,
    which the child would inherit.
    """
    received = Received()
    before = {number: signal.getsignal(number) for number in _STOPPING}

    def receive(number: int, _: object) -> None:
        if before[signal.Signals(number)] is not signal.SIG_IGN:
            received.signals.append(number)

    for number in _STOPPING:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
