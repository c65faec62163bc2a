"""All that `axr doctor` looks at, at once, each with its own time limit. Judges nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher import hub, trackers
from launcher.hub import Hub, Repository
from launcher.node import Node
from launcher.node.host import Host, host
from launcher.node.network import Head, head
from launcher.node.stack import Stack, stack
from launcher.trackers import Tracker

GRACE = 2.0  # seconds beyond its own limit that a part may take to say that it ran out of time


@dataclass(frozen=True)
class Questions:
    """What to look at. ``places``: role to folder; ``packages``: module to distribution, tried
    beside ``torch``; ``ranks``: processes of the all-reduce, 0 for none. ``reads`` is none where
    the Hub is not to be asked.
    """

    places: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    torch: bool = True
    ranks: int = 0
    on_cpu: bool = True
    reads: tuple[Repository, ...] | None = None
    writes: tuple[Repository, ...] = ()
    trackers: tuple[str, ...] = ()
    head: tuple[str, int, int] | None = None  # host, port, rank of this node

    @property
    def online(self) -> bool:
        """Whether anything beyond this machine's own network is asked."""
        return self.reads is not None


@dataclass(frozen=True)
class Facts:
    """What was found. None: it was not looked at, or did not answer at all."""

    node: Node = field(default_factory=Node)
    host: Host = field(default_factory=Host)
    stack: Stack | None = None
    hub: Hub | None = None
    trackers: tuple[Tracker, ...] = ()
    head: Head | None = None


def survey(
    asked: Questions,
    node: Node,
    environ: Mapping[str, str],
    *,
    seconds: float,
    done: Callable[[str], None] = lambda part: None,
) -> Facts:
    """Look at everything at once, for so many seconds; ``done`` hears of each part that is ready.
    What hangs is left behind. Never raises.
    """
    parts = _parts(asked, environ, seconds)
    found: dict[str, Any] = {}

    def run(name: str, look: Callable[[], Any]) -> None:
        found[name] = look()
        done(name)

    threads = [threading.Thread(target=run, args=part, daemon=True) for part in parts.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + GRACE)
    told = tuple(found[f"tracker {name}"] for name in asked.trackers if f"tracker {name}" in found)
    known = {name: found[name] for name in ("host", "stack", "hub", "head") if name in found}
    return Facts(node=node, trackers=told, **known)


def _parts(
    asked: Questions, environ: Mapping[str, str], seconds: float
) -> dict[str, Callable[[], Any]]:
    parts: dict[str, Callable[[], Any]] = {
        "host": lambda: host(asked.places, environ, seconds),
    }
    if asked.torch:
        parts["stack"] = lambda: stack(
            asked.packages, asked.ranks, on_cpu=asked.on_cpu, environ=environ, seconds=seconds
        )
    if asked.reads is not None:
        reads = asked.reads
        parts["hub"] = lambda: hub.hub(reads, asked.writes, environ, seconds)
    if asked.head:
        where, port, rank = asked.head
        parts["head"] = lambda: head(where, port, rank, min(seconds, hub.TIMEOUT))
    for name in asked.trackers:
        parts[f"tracker {name}"] = lambda name=name: trackers.look(  # type: ignore[misc]
            name, environ, online=asked.online, seconds=min(seconds, hub.TIMEOUT)
        )
    return parts
