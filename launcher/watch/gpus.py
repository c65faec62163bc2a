"""How busy the GPUs of this machine are, asked of the driver by a child process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.node import child, has_driver
from launcher.runs.values import number

MODULE = "launcher.node.use"


@dataclass(frozen=True)
class Use:
    """One GPU: how much of the last second it worked, in percent, and the GiB that are taken; none
    where it does not say.
    """

    percent: int | None = None
    used_gib: float | None = None
    total_gib: float | None = None


class Sampler:
    """The last that the driver said, of the GPUs with these UUIDs or of all. Where there is no
    driver, or one that does not answer, it stays empty; nobody waits for it.
    """

    def __init__(self, wanted: Collection[str] = ()) -> None:
        """Start to ask."""
        self.wanted = frozenset(wanted)
        self.latest: tuple[Use, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None
        if not has_driver():
            return
        with contextlib.suppress(OSError):
            self.process = child.start(MODULE, os.environ)
            threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def close(self) -> None:
        """Ask no more: the child ends with its stdin."""
        if self.process and self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.latest = uses(line, self.wanted)
        self.latest = ()
        process.wait()


def uses(line: bytes, wanted: Collection[str] = ()) -> tuple[Use, ...]:
    """Return what a line of the child says."""
    try:
        found = json.loads(line)
    except ValueError:
        return ()
    rows = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return tuple(_use(row) for row in rows if not wanted or row.get("uuid") in wanted)


def _use(row: Mapping[str, Any]) -> Use:
    percent = number(row.get("percent"))
    whole = None if percent is None else int(percent)
    return Use(whole, number(row.get("used_gib")), number(row.get("total_gib")))
