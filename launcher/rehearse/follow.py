"""Start the child of a rehearsal, and stay with it: events told, no process left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launcher import supervise
from launcher.diagnostics import LauncherError
from launcher.redact import is_secret_name, redact
from launcher.rehearse import events
from launcher.rehearse.rehearsal import EVENTS, Rehearsal, Report, report

# Letters of a folder for temporary files: the datasets library puts a socket into it, by a name of
# some 30 letters, and a socket's path has 107 at most.
LONGEST = 70

Tell = Callable[[Mapping[str, Any]], None]


def run(rehearsal: Rehearsal, environ: Mapping[str, str], tell: Tell) -> Report:
    """Rehearse, and tell each event as it comes. Leaves no process behind, however it ends.

    Raises ``LauncherError`` where the child does not even begin.
    """
    started = time.monotonic()
    supervise.become_subreaper()
    known: list[dict[str, Any]] = []
    with supervise.received_signals() as received:
        with rehearsal.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "launcher.rehearse.child", str(rehearsal.folder)],
                env=environment(environ, rehearsal.folder, rehearsal.ranks),
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
            supervise.end_all(lambda text: tell({"remark": text}))
    signals = received.signals
    if not known and not signals:
        raise LauncherError(f"the rehearsal did not begin: {last_lines(rehearsal.log, 1)}")
    seconds = time.monotonic() - started
    return report(rehearsal, known, seconds, interrupted=signals[0] if signals else 0)


def environment(environ: Mapping[str, str], folder: Path, ranks: int) -> dict[str, str]:
    """Return the child's environment: no network, no GPU, no secret, every cache in ``folder``, and
    the cores divided among the ranks.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not is_secret_name(name) and not name.startswith(("ACCELERATE_", "AXR_"))
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
