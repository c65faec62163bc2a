"""Start the child of a rehearsal, and stay with it: events told, no process left behind."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launcher.children import alone
from launcher.diagnostics import LauncherError
from launcher.redact import is_secret_name, is_secret_value, redact
from launcher.rehearse import events
from launcher.rehearse.rehearsal import EVENTS, Rehearsal, Report, report
from launcher.rules.security import foreign_modules
from launcher.supervise import processes
from launcher.supervise.signals import received_signals

# Letters of a folder for temporary files: the datasets library puts a socket into it, by a name of
# some 30 letters, and a socket's path has 107 at most.
LONGEST = 70
FULL = 2**20  # bytes; with less left, nothing can be written any more

# What a launcher of several processes leaves in the environment of each, on a cluster of the shell:
# torch would wait for the others.
_LAUNCHERS = ("ACCELERATE_", "AXR_", "TORCHELASTIC_", "OMPI_COMM_WORLD_", "PMI_", "MV2_COMM_WORLD_")
_RANKS = {
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT"),
}

Tell = Callable[[Mapping[str, Any]], None]


def run(rehearsal: Rehearsal, environ: Mapping[str, str], tell: Tell) -> Report:
    """Rehearse, and tell each event as it comes. Leaves no process behind, however it ends.

    Raises ``LauncherError`` where the child does not even begin, or the disk is full.
    """
    started = time.monotonic()
    processes.become_subreaper()
    known: list[dict[str, Any]] = []
    with received_signals() as received:
        with rehearsal.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "launcher.rehearse.child", str(rehearsal.folder)],
                env=_allowed(rehearsal, environment(environ, rehearsal.folder, rehearsal.ranks)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            offset = 0
            while True:
                ended = process.poll() is not None or bool(received.signals)
                new, offset = events.read(rehearsal.folder / EVENTS, offset)
                known += new
                for event in new:
                    tell(event)
                if ended:
                    break
                time.sleep(0.05)
        finally:
            processes.end_all(lambda text: tell({"remark": text}))
    signals = received.signals
    if process.returncode and not signals:
        judge_end(rehearsal, known, process.returncode)
    seconds = time.monotonic() - started
    return report(rehearsal, known, seconds, interrupted=signals[0] if signals else 0)


def _allowed(rehearsal: Rehearsal, environ: dict[str, str]) -> dict[str, str]:
    """Let the child import from the working directory only what the recipe names, and is trusted
    for.
    """
    return environ if any(foreign_modules(rehearsal.recipe)) else alone(environ)


def judge_end(rehearsal: Rehearsal, known: list[dict[str, Any]], code: int) -> None:
    """Raise ``LauncherError`` where a child that failed says nothing of the recipe; note an end
    that it could not tell itself, being killed.
    """
    disk = rehearsal.folder.parent
    said = rehearsal.log.read_text(encoding="utf-8", errors="replace")
    if shutil.disk_usage(disk).free < FULL or os.strerror(errno.ENOSPC) in said:
        hint = "free some space there, or name another folder before the command: TMPDIR=FOLDER"
        raise LauncherError(f'the disk of "{disk}" is full; it holds the rehearsal', hint)
    if not known:
        why = last_lines(rehearsal.log, 1) or f"its process ended with {code}"
        raise LauncherError(f"the rehearsal did not begin: {why}")
    if not any(event.get("state") == "over" for event in known):
        known.append({"state": "over", "code": code, "time": time.time()})


def environment(environ: Mapping[str, str], folder: Path, ranks: int) -> dict[str, str]:
    """Return the child's environment: no network, no GPU, no secret by its name or its shape, no
    place among other processes, every cache in ``folder``, the cores divided among the ranks.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not is_secret_name(name)
        and not is_secret_value(value)
        and not name.startswith(_LAUNCHERS)
        and name not in _RANKS
    }
    caches = {
        name: str(folder / "cache" / name.lower())
        for name in ("HF_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
    }
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN_PATH"):
        kept.pop(name, None)
    if len(str(folder)) <= LONGEST:
        (folder / "t").mkdir(exist_ok=True)
        kept["TMPDIR"] = str(folder / "t")
    return {
        **kept,
        **caches,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "AXOLOTL_DO_NOT_TRACK": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "1",
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // ranks)),
        "TORCHAO_FORCE_SKIP_LOADING_SO_FILES": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def last_lines(log: Path, count: int) -> str:
    """Return the last lines of a log, secrets hidden."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return redact("\n".join(lines[-count:]))
