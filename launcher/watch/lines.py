"""A run in lines that are made for ``grep``: ``key=value`` words, one line an interval."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.watch.bars import Bar
from launcher.watch.gpus import Use
from launcher.watch.seen import Seen

EVERY = 30.0  # seconds between two lines where nothing else calls for one


@dataclass
class Rhythm:
    """Says when a line is due: a new phase, the first step, an evaluation, the end, an interval."""

    told: tuple[object, ...] = ()
    when: float = -math.inf

    def due(self, seen: Seen, now: float) -> bool:
        """Return whether to print this moment, at ``now`` (a clock that only goes on)."""
        event = (seen.phase, seen.evaluations, seen.step > 0, seen.ended and seen.state)
        if event == self.told and now - self.when < EVERY:
            return False
        self.told, self.when = event, now
        return True


def line(seen: Seen, gpus: Sequence[Use], now: float) -> str:
    """Return a moment in one line; ``now`` in Unix seconds."""
    words = [f"axr {time.strftime('%H:%M:%S', time.localtime(now))}", *_words(seen, gpus)]
    return " ".join(words)


def _words(seen: Seen, gpus: Sequence[Use]) -> Iterator[str]:
    if seen.ended:
        yield f"state={seen.state.replace(' ', '_')}"
    yield f"phase={seen.phase}"
    if seen.bar:
        yield from _bar(seen.bar)
    if seen.step or seen.phase not in ("start", "download", "tokenise", "load"):
        yield f"step={seen.step}" + (f"/{seen.steps}" if seen.steps else "")
    if seen.batches:
        yield f"batch={seen.batches[0]}" + (f"/{seen.batches[1]}" if seen.batches[1] else "")
    numbers = (
        ("loss", seen.loss, 4),
        ("margin", seen.margin, 3),
        ("accuracy", seen.accuracy, 3),
        ("eval_loss", seen.eval_loss, 4),
        ("s_per_step", seen.seconds_a_step, 3),
    )
    yield from (f"{key}={value:.{digits}g}" for key, value, digits in numbers if value is not None)
    yield from _resources(seen, gpus)


def _resources(seen: Seen, gpus: Sequence[Use]) -> Iterator[str]:
    if seen.tokens_per_second is not None:
        yield f"tokens_per_s={seen.tokens_per_second:.0f}"
    if seen.peak_gib is not None:
        yield f"peak_gib={seen.peak_gib:.1f}"
    yield from _gpus(gpus)
    if seen.eta is not None:
        yield f"eta={span(seen.eta)}"
    if seen.usd is not None:
        yield f"usd={seen.usd:.2f}"


def _gpus(gpus: Sequence[Use]) -> Iterator[str]:
    """Yield the use of the GPU that does least, which the others wait for, or which waits."""
    known = [one.percent for one in gpus if one.percent is not None]
    if known:
        yield f"gpu_percent={min(known)}"


def _bar(bar: Bar) -> Iterator[str]:
    yield f"what={'_'.join(bar.name.split())}"
    if bar.in_bytes:
        yield f"gb={bar.done / 1e9:.3g}/{bar.total / 1e9:.3g}"
        if bar.speed is not None:
            yield f"mb_per_s={bar.speed / 1e6:.3g}"
    else:
        yield f"done={bar.done:.0f}/{bar.total:.0f}"


def span(seconds: float) -> str:
    """Return seconds as short as they can be read: 40s, 27m, 1h05m, 2d03h."""
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:.0f}s"
    if minutes < 60:
        return f"{minutes:.0f}m"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours}h{rest:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"
