"""GPUs that are not there: a real shared library in the place of the driver's own, found by the
loader, which serves a machine that a text describes (stand_in_nvml.c). Skips where there is no C
compiler.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("stand_in_nvml.c")
A100 = "NVIDIA A100-SXM4-80GB"
UUIDS = tuple(f"GPU-{n}5f3c2e1-9a8b-4c7d-8e6f-0123456789ab" for n in range(8))


def described(*gpus: str, driver: str = "550.54.15 12040") -> str:
    """Return the text of a machine with these GPUs, each a line of the file without "gpu"."""
    return "".join([f"driver {driver}\n", *(f"gpu {gpu}\n" for gpu in gpus)])


def a100(index: int = 0, **other: int | str) -> str:
    """Return an A100, at rest and sound, unless something else is said."""
    values: dict[str, int | str] = {"total": 81920, "free": 81400, "major": 8, "minor": 0}
    values |= {"uncorrected": 0, "pending": 0, "failed": 0, "throttle": 0, "links": 12}
    values |= {"pid": 0, "used": 0, "serial": f"132012300{index:04}", "busy": 0}
    return "|".join([A100, UUIDS[index], *map(str, (values | other).values())])


def environment(folder: Path, text: str) -> dict[str, str]:
    """Return what makes a process see the machine that ``text`` describes, kept in ``folder``."""
    file = folder / "stand-in-nvml.txt"
    file.write_text(text, encoding="utf-8")
    return {"LD_LIBRARY_PATH": str(_library()), "STAND_IN_NVML": str(file)}


@lru_cache(maxsize=1)
def _library() -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = Path(tempfile.mkdtemp(prefix="axr-stand-in-nvml-"))
    atexit.register(shutil.rmtree, folder)
    words = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", str(SOURCE)]
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, *words, "-o", str(target)], check=True)
    return folder
