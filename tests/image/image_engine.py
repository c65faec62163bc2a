"""Podman, called as a person would."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Engine:
    """Podman, with storage of its own."""

    environ: dict[str, str]

    def __call__(
        self, *words: object, code: int | None = 0, timeout: float = 300, **env: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=ROOT,
            env={**self.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if code is not None:
            assert done.returncode == code, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def run(
        self, *words: object, code: int | None = 0, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a container without a network."""
        return self("podman", "run", "--rm", "--network=none", *words, code=code, timeout=timeout)
