"""What this machine has: GPUs, driver, a mounted volume."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VOLUME = Path(
    "/workspace"
)  # where RunPod, Vast.ai and the container of this project mount the volume
_COLUMNS = "index,uuid,name,memory.total,driver_version"


@dataclass(frozen=True)
class Gpu:
    """One GPU that this process may use."""

    name: str
    memory_gib: float
    """0 where the driver does not say, as for memory shared with the CPU."""


@dataclass(frozen=True)
class Node:
    """One machine. ``trouble`` says why no GPU could be counted where there should be one."""

    gpus: tuple[Gpu, ...] = ()
    cpus: int = 1
    driver: str = ""
    volume: Path | None = None
    trouble: str = ""

    def __str__(self) -> str:
        """Return for instance "2 x NVIDIA A100-SXM4-80GB" or "no GPU, 8 cores"."""
        if not self.gpus:
            return f"no GPU, {self.cpus} core{'s' * (self.cpus != 1)}"
        names = {gpu.name for gpu in self.gpus}
        return f"{len(self.gpus)} x {' / '.join(sorted(names))}"


@dataclass(frozen=True)
class Machine:
    """What a run may use of a node: so many processes, on GPUs or on the CPU, and the volume."""

    processes: int
    on_cpu: bool
    threads: int = 1
    volume: Path | None = None


def probe(environ: Mapping[str, str], *, volume: Path = VOLUME, timeout: float = 20.0) -> Node:
    """Look at this machine. Asks ``nvidia-smi`` (not torch, which takes seconds to import), for
    ``timeout`` seconds at most; never raises.
    """
    rows, trouble = _ask(environ, timeout)
    return Node(
        gpus=tuple(
            Gpu(row[2], _gib(row[3])) for row in _visible(rows, environ.get("CUDA_VISIBLE_DEVICES"))
        ),
        cpus=_cores(),
        driver=rows[0][4] if rows else "",
        volume=volume if volume.is_dir() and os.access(volume, os.W_OK) else None,
        trouble=trouble,
    )


def _ask(environ: Mapping[str, str], timeout: float) -> tuple[list[list[str]], str]:
    """Return one row a GPU with the columns as text, and what went wrong."""
    command = ["nvidia-smi", f"--query-gpu={_COLUMNS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            env=dict(environ),
        )
    except FileNotFoundError:  # no NVIDIA driver
        return [], ""
    except subprocess.TimeoutExpired:
        return [], f"no answer within {timeout:g} s"
    except OSError as problem:
        return [], problem.strerror or str(problem)
    if done.returncode:
        return [], _first_line(done.stdout) or f"exit code {done.returncode}"
    cells = ([cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines())
    rows = [row for row in cells if len(row) == len(_COLUMNS.split(",")) and row[0].isdecimal()]
    return rows, "" if rows else _first_line(done.stdout)


def _cores() -> int:
    """Return the cores that this process may use: under Slurm or taskset fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _gib(mebibytes: str) -> float:
    try:
        return round(float(mebibytes) / 1024, 1)
    except ValueError:  # "[N/A]"
        return 0.0


def _visible(rows: list[list[str]], chosen: str | None) -> list[list[str]]:
    """Keep the GPUs that CUDA_VISIBLE_DEVICES names, by index or by the first letters of a UUID.

    As in CUDA the first name that is unknown or fits several ends the list, and of a list that
    repeats a GPU nothing is left.
    """
    if chosen is None:
        return rows
    kept: list[list[str]] = []
    for name in (part.strip() for part in chosen.split(",")):
        match = [
            row
            for row in rows
            if row[0] == name or (name.startswith("GPU-") and row[1].startswith(name))
        ]
        if len(match) != 1:
            break
        if match[0] in kept:
            return []
        kept += match
    return kept
