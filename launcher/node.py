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


@dataclass(frozen=True)
class Gpu:
    """One GPU that this process may use."""

    name: str
    memory_gib: float


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
            return f"no GPU, {self.cpus} cores"
        names = {gpu.name for gpu in self.gpus}
        return f"{len(self.gpus)} x {' / '.join(sorted(names))}"


def probe(environ: Mapping[str, str], *, volume: Path = VOLUME) -> Node:
    """Look at this machine. Asks ``nvidia-smi`` (not torch, which takes seconds to import); never
    raises.
    """
    command = [
        "nvidia-smi",
        "--query-gpu=index,uuid,name,memory.total,driver_version",
        "--format=csv,noheader,nounits",
    ]
    trouble, rows = "", []
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, env=dict(environ)
        )
        if done.returncode:
            trouble = (done.stdout + done.stderr).strip().split("\n")[
                0
            ] or f"exit code {done.returncode}"
        else:
            rows = [
                [cell.strip() for cell in line.split(",")]
                for line in done.stdout.splitlines()
                if line.strip()
            ]
    except FileNotFoundError:
        pass
    except (OSError, subprocess.TimeoutExpired) as problem:
        trouble = str(problem)
    visible = _visible([row for row in rows if len(row) == 5], environ.get("CUDA_VISIBLE_DEVICES"))
    return Node(
        gpus=tuple(Gpu(row[2], round(float(row[3]) / 1024, 1)) for row in visible),
        cpus=os.cpu_count() or 1,
        driver=rows[0][4] if rows and len(rows[0]) == 5 else "",
        volume=volume if volume.is_dir() and os.access(volume, os.W_OK) else None,
        trouble=trouble,
    )


def _visible(rows: list[list[str]], chosen: str | None) -> list[list[str]]:
    """Keep the GPUs that CUDA_VISIBLE_DEVICES names, by index or UUID; as in CUDA the first unknown
    one ends the list.
    """
    if chosen is None:
        return rows
    kept = []
    for name in (part.strip() for part in chosen.split(",")):
        match = [
            row
            for row in rows
            if row[0] == name or (name.startswith("GPU-") and row[1].startswith(name))
        ]
        if not match:
            break
        kept.append(match[0])
    return kept
