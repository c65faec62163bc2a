"""Child processes of Python: what they may import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def alone(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a Python that imports nothing from the working directory, which may
    hold a json.py of anybody's (from Python 3.11 on).
    """
    packages = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [packages, environ.get("PYTHONPATH", "")]))
    return {**environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": path}
