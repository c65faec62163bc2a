"""What this machine has: GPUs, driver, a mounted volume."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.cluster import ONE, Cluster
from launcher.node.child import ask
from launcher.node.record import from_data

VOLUME = Path(
    "/workspace"
)  # where RunPod, Vast.ai and the container of this project mount the volume
NVML = "libnvidia-ml.so.1"  # comes with the driver


@dataclass(frozen=True)
class User:
    """A process that holds memory of a GPU."""

    pid: int
    name: str = ""
    gib: float = 0.0


@dataclass(frozen=True)
class Gpu:
    """One GPU that this process may use, or one slice of it (``mig``).

    ``memory_gib`` is 0 where the driver does not say, as for memory shared with the CPU. None
    means: the card or the driver does not say. ``uncorrected``: memory errors since the driver was
    loaded; ``remap``: what broken rows of memory wait for, "pending" or "failed"; ``throttled``:
    why it runs slower than it should; ``trouble``: why it does not answer.
    """

    name: str
    memory_gib: float
    index: int = 0
    uuid: str = ""
    free_gib: float | None = None
    capability: tuple[int, int] | None = None
    users: tuple[User, ...] = ()
    uncorrected: int | None = None
    remap: str = ""
    throttled: tuple[str, ...] = ()
    nvlinks: int | None = None
    mig: bool = False
    trouble: str = ""
    serial: str = ""


@dataclass(frozen=True)
class Node:
    """One machine. ``trouble`` says why no GPU could be counted where there should be one;
    ``cuda`` is the newest that the driver knows; ``hidden`` counts the GPUs where
    CUDA_VISIBLE_DEVICES names others, and none of them.
    """

    gpus: tuple[Gpu, ...] = ()
    cpus: int = 1
    driver: str = ""
    volume: Path | None = None
    trouble: str = ""
    cuda: str = ""
    hidden: int = 0

    def __str__(self) -> str:
        """Return for instance "2 x NVIDIA A100-SXM4-80GB" or "no GPU, 8 cores"."""
        if not self.gpus:
            return f"no GPU, {self.cpus} core{'s' * (self.cpus != 1)}"
        names = {gpu.name or "GPU that does not answer" for gpu in self.gpus}
        return f"{len(self.gpus)} x {' / '.join(sorted(names))}"


@dataclass(frozen=True)
class Machine:
    """What a run may use: so many processes on all its nodes, on GPUs or on the CPU; of this node
    so many threads a process, and the volume.
    """

    processes: int
    on_cpu: bool
    threads: int = 1
    volume: Path | None = None
    cluster: Cluster = ONE

    @property
    def here(self) -> int:
        """The processes on this node; every node has as many."""
        return self.processes // self.cluster.nodes


def probe(environ: Mapping[str, str], *, volume: Path = VOLUME, timeout: float = 20.0) -> Node:
    """Look at this machine. Asks NVML (not torch, which takes seconds to import) in a child, for
    ``timeout`` seconds at most; never raises.
    """
    found, trouble = _gpus(environ, timeout) if has_driver() else ({}, "")
    gpus = tuple(from_data(Gpu, gpu) for gpu in found.get("gpus", []))
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    visible = _visible(gpus, chosen)
    return Node(
        gpus=visible,
        cpus=_cores(),
        driver=found.get("driver", ""),
        volume=volume if writable(volume) else None,
        trouble=trouble,
        cuda=found.get("cuda", ""),
        hidden=len(gpus) if chosen and chosen != "-1" and not visible else 0,
    )


def writable(folder: Path) -> bool:
    """Whether a folder is there and may be written to."""
    return folder.is_dir() and os.access(folder, os.W_OK)


def has_driver() -> bool:
    """Whether there is NVML at all; to load it asks the driver nothing yet."""
    try:
        ctypes.CDLL(NVML)
    except OSError:
        return False
    return True


def _gpus(environ: Mapping[str, str], timeout: float) -> tuple[Mapping[str, Any], str]:
    """Return what NVML says, and what went wrong."""
    answer = ask("launcher.node.nvml", None, environ, timeout)
    found = answer.lines[-1] if answer.lines else {}
    trouble = str(found.get("trouble") or answer.trouble)
    return found, trouble or ("" if found.get("gpus") else "the driver knows no GPU")


def _cores() -> int:
    """Return the cores that this process may use: under Slurm or taskset fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _visible(gpus: tuple[Gpu, ...], chosen: str | None) -> tuple[Gpu, ...]:
    """Keep the GPUs that CUDA_VISIBLE_DEVICES names, by index or by the first letters of a UUID.

    As in CUDA the first name that is unknown or fits several ends the list, and of a list that
    repeats a GPU nothing is left.
    """
    if chosen is None:
        return gpus
    kept: list[Gpu] = []
    for name in (part.strip() for part in chosen.split(",")):
        match = [
            gpu
            for gpu in gpus
            if str(gpu.index) == name
            or (name.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(name))
        ]
        match = match[:1] if name.isdecimal() else match  # of a card in slices the first
        if len(match) != 1:
            break
        if match[0] in kept:
            return ()
        kept += match
    return tuple(kept)
