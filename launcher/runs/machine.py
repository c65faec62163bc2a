"""The machine that a run is made on, for its folder: which GPUs, by serial number, and the host."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from launcher.hardware import GIB
from launcher.node import Gpu, Node

LARGEST = 64 * 2**10  # bytes; torch's version.py has some hundred, a core's lines about 1,500
_CUDA = re.compile(r"""^cuda\b[^=]*=\s*["']([\d.]+)["']""", re.MULTILINE)
_MODEL = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


def machine(node: Node, gpus: int) -> dict[str, Any]:
    """Return what ``machine.json`` holds of a node whose first ``gpus`` are used; what is not known
    is left out. ``cuda`` is the newest that the driver knows, ``torch_cuda`` what torch was built
    for; memory in GiB.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    found = {
        "gpus": [_gpu(gpu) for gpu in node.gpus[:gpus]],
        "driver": node.driver,
        "cuda": node.cuda,
        "torch_cuda": torch_cuda(),
        "cpu": _match(_MODEL, Path("/proc/cpuinfo")),
        "cores": node.cpus,
        "memory_gib": round(memory, 1),
    }
    return {name: value for name, value in found.items() if value}


def torch_cuda() -> str:
    """Return the CUDA that the installed torch was built for, from its own file: to import it takes
    seconds. Nothing for a CPU.
    """
    spec = find_spec("torch")
    places = spec.submodule_search_locations if spec else None
    return _match(_CUDA, Path(next(iter(places)), "version.py")) if places else ""


def _gpu(gpu: Gpu) -> dict[str, Any]:
    kept = ("index", "name", "uuid", "serial", "memory_gib", "mig")
    known = {name: getattr(gpu, name) for name in kept}
    return {name: value for name, value in known.items() if value != "" and value is not False}


def _match(shape: re.Pattern[str], file: Path) -> str:
    try:
        with file.open("rb") as stream:
            found = shape.search(stream.read(LARGEST).decode("utf-8", errors="replace"))
    except OSError:
        return ""
    return found[1].strip() if found else ""
