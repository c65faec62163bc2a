"""Several nodes train together: they meet, agree on a run, and part."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launcher import meeting, runs
from launcher import resume as resuming
from launcher.cli.console import say
from launcher.cluster import Cluster
from launcher.dataset.digest import digests
from launcher.meeting import Meeting
from launcher.recipe import Recipe
from launcher.resume import Begun
from launcher.runs.folder import RunFolder

SHARED = "resumed run, whose folder has to be on a disk that all nodes share"
SHARED_SECONDS = 2.0  # until what another node has written is seen here, on a network volume
_DIGITS = 12  # of a digest: enough to tell two recipes apart, and to read


@dataclass
class Together:
    """A run's nodes while it goes on; ``met`` is none where there is but this one. ``words``: what
    the others are told when this node leaves.
    """

    run: str
    met: Meeting | None = None
    words: str = "it ended before its training"

    def trouble(self) -> str:
        """Return what happened to another node, nothing where all is well."""
        return self.met.trouble() if self.met else ""

    def trouble_within(self, seconds: float) -> str:
        """Wait for news of the other nodes; a rank that loses another ends before the launcher of
        that one, which may have a better reason, can tell it.
        """
        deadline = time.monotonic() + seconds
        while self.met and not self.met.trouble() and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.trouble()

    def environment(self) -> dict[str, str]:
        """Return the network interface that the other nodes are reached by, for NCCL and gloo."""
        name = _interface(self.met.address) if self.met else ""
        return {"NCCL_SOCKET_IFNAME": name, "GLOO_SOCKET_IFNAME": name} if name else {}


@contextlib.contextmanager
def together(cluster: Cluster, facts: Mapping[str, str], run: str) -> Iterator[Together]:
    """Meet the other nodes, and leave them when the run is over here. Raises ``LauncherError``
    where they differ, or do not come.
    """
    if cluster.nodes == 1:
        yield Together(run)
        return
    say(f"  nodes    {cluster}")
    met = meeting.meet(cluster, facts, run, show=lambda text: say(text, fg="yellow"))
    found = Together(met.run, met)
    try:
        yield found
    finally:
        met.leave(found.words)


def warn_of_own_disk(folder: RunFolder) -> None:
    """Say on another node than the first that its checkpoints, which the first one writes, are not
    here: nobody could go on from them on this node.
    """
    head, deadline = RunFolder(folder.root).lock, time.monotonic() + SHARED_SECONDS
    while folder.node and not head.exists():
        if time.monotonic() > deadline:
            text = (
                "checkpoints are written on node 0 alone, whose disk is not this one: the run "
                "cannot go on after a failure; set AXR_RUNS to a disk that all nodes share"
            )
            say(f"  disk     {text}", fg="yellow")
            return
        time.sleep(0.1)


def facts(recipe: Recipe, begun: Begun | None, processes: int) -> dict[str, str]:
    """Return what has to be the same on every node, by names that a person understands."""
    step = f"{begun.folder.root.name} from step {begun.step}" if begun else "none"
    settings = {key: value for key, value in recipe.settings.items() if key != resuming.KEY}
    return {
        "recipe": _digest(settings),  # the checkpoint's folder may have another path on each node
        "data files": _digest(digests(recipe)),
        "processes": str(processes),
        SHARED: step,
        **runs.versions(),
    }


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _interface(address: str) -> str:
    """Return the name of the network interface with this address, nothing where none has it."""
    import psutil

    plain = address.removeprefix("::ffff:")
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] == plain for one in addresses):
            return str(name)
    return ""
