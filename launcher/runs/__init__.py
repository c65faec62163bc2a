"""What is written into a run folder before, during and after a run, and read from it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import yaml

from launcher import files
from launcher.diagnostics import LauncherError
from launcher.redact import redact, redact_env
from launcher.runs import starts
from launcher.runs.folder import RunFolder

# Distributions whose version decides how a run goes.
STACK = (
    "axolotl-recipes",
    "axolotl",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "deepspeed",
    "datasets",
    "bitsandbytes",
    "flash-attn",
    "triton",
)
# Of the environment only what can change a run is kept; the rest is none of a run folder's
# business.
_KEPT = re.compile(
    r"(ACCELERATE|AXOLOTL|AXR|BNB|COMET|CUDA|DS|FLASH|HF|HUGGINGFACE|HUGGING_FACE|KERNELS|LD|MASTER|MKL"
    r"|NCCL|NVIDIA|OMP|PYTHON\w*|PYTORCH|SLURM|TOKENIZERS|TORCH\w*|TRANSFORMERS|TRITON|WANDB)(_|$)"
)

LARGEST = 16 * 2**20  # bytes of a JSON file; a status has some kilobytes
LOOKS = 25  # at a lock that is held, half a second in all
LOG_END = 256 * 2**10  # bytes: the last words of eight ranks, and more


def now() -> str:
    """Return the time as it stands in a run's files: ISO 8601, UTC, seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Start:
    """What is known of a run before it starts. ``machine``: in words; ``overrides``: as they were
    typed; ``data``: digests by file; ``step``: of the checkpoint that it goes on from; the last
    four: what the files of these names hold.
    """

    recipe: str
    resolved: Mapping[str, Any]
    command: str
    env: Mapping[str, str]
    machine: str = ""
    processes: int = 1
    overrides: Sequence[str] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    step: int | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    git: Mapping[str, Any] = field(default_factory=dict)


def create(folder: RunFolder, start: Start) -> None:
    """Write what is known before the start into the folder, which is held; of a run that goes on,
    what is its own stays: its recipe, its data, when it was made. Raises ``LauncherError`` where it
    cannot be written.
    """
    kept = {name: value for name, value in start.env.items() if _KEPT.match(name)}
    before = read_mapping(folder.status)
    status: dict[str, Any] = {"state": "starting", "machine": start.machine}
    status |= {
        "cwd": str(Path.cwd()),
        "processes": start.processes,
        "overrides": [redact(text) for text in start.overrides],
    }
    try:
        if start.step is None:
            if folder.status.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            write(folder.recipe, start.recipe)
            write_json(folder.data, start.data)
            status |= {"created": now()}
        else:
            folder.stopped.unlink(missing_ok=True)
            _forget_ranks(folder)
            steps = before.get("resumed")
            status |= {"resumed": [*(steps if isinstance(steps, list) else []), start.step]}
        status |= {"starts": starts.begun(before, now(), start.step, _last_sign(folder))}
        write(folder.resolved, dump(start.resolved))
        write(folder.command, start.command)
        folder.command.chmod(0o755)
        write_json(folder.environment, dict(sorted(redact_env(kept).items())))
        write_json(folder.versions, versions())
        for file, known in (
            (folder.plan, {**read_mapping(folder.plan), **start.plan}),
            (folder.origins, start.origins),
            (folder.machine, start.hardware),
            (folder.git, start.git),
        ):
            _write_or_forget(file, known)
        update_status(folder, **status)
    except OSError as problem:
        raise _unwritable(folder, problem) from problem


@contextlib.contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """Make a run folder, or take it again, so that no two launches write it; the kernel lets it go
    with the process, however that ends. Raises ``LauncherError`` where another holds it.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.own.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(folder.lock.open("a", encoding="ascii"))
            _lock(stream)
        except BlockingIOError:
            process = read_mapping(folder.status).get("pid")  # of the first start none, at first
            fact = f"another axr train writes {folder.root}"
            fact += f": process {process}" if process else ""
            raise LauncherError(fact, "end that one first", exit_code=1) from None
        except OSError as problem:
            # a file system without locks, as some network volumes: no worse than before
            if problem.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise _unwritable(folder, problem) from problem
        yield


def _lock(stream: IO[str]) -> None:
    """Take a lock; who looks whether it is held (`is_held`, twice a second) has it for a moment,
    which must not end a start. Raises ``BlockingIOError`` where another keeps it.
    """
    import fcntl

    for _ in range(LOOKS):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(folder: RunFolder) -> bool:
    """Whether a launcher writes this folder now. Where locks cannot be asked for, it may."""
    import fcntl

    try:
        with folder.lock.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _unwritable(folder: RunFolder, problem: OSError) -> LauncherError:
    fact = f'cannot write the run folder "{folder.root}": {problem.strerror or problem}'
    return LauncherError(
        fact, "set AXR_RUNS to a folder on a disk with space that you may write to"
    )


def dump(resolved: Mapping[str, Any]) -> str:
    """Return a config as YAML that PyYAML reads back to the same values."""
    return yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True, width=100)


def versions() -> dict[str, str]:
    """Return the installed versions of the stack; what is not installed is left out."""
    import platform

    found = {"python": platform.python_version()}
    for name in STACK:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write(path: Path, text: str, errors: str = "surrogateescape") -> None:
    """Write atomically: a reader sees the old text or the new one, never a half. ``errors``: of the
    encoding; a file may have a name that is no UTF-8, and is named so again.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", errors=errors)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON, atomically; what is no UTF-8 in it as JSON's own escape."""
    write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", "backslashreplace")


def _write_or_forget(path: Path, value: Mapping[str, Any]) -> None:
    """Write what is known now; nothing is not what an earlier start knew."""
    if value:
        write_json(path, value)
    else:
        path.unlink(missing_ok=True)


def update_status(folder: RunFolder, **fields: Any) -> None:
    """Change fields of ``status.json``."""
    write_json(folder.status, {**read_mapping(folder.status), **fields})


def read_mapping(file: Path) -> dict[str, Any]:
    """Return what a JSON file of a run holds; nothing where there is none, or it was cut short."""
    return files.read_mapping(file, LARGEST) or {}


def minutes(folder: RunFolder) -> float:
    """Return the minutes that all starts of a run took; of one that was killed, up to the last sign
    of it.
    """
    status = read_mapping(folder.status)
    return starts.minutes(starts.begun(status, now(), None, _last_sign(folder)))


def _last_sign(folder: RunFolder) -> float | None:
    """Return when a start last wrote something, in Unix seconds; none where it never did."""
    written = (file.stat().st_mtime for file in (folder.log, folder.metrics) if file.exists())
    return max(written, default=None)


def _forget_ranks(folder: RunFolder) -> None:
    """Forget the processes of an earlier start: their numbers are others' now, who would die of the
    signal that asks a rank to stop.
    """
    for file in folder.ranks.glob("[0-9]*"):
        file.unlink(missing_ok=True)


def last_lines(folder: RunFolder) -> list[str]:
    """Return the end of the log, line by line; of a longer one the last 256 KiB."""
    if not folder.log.exists():
        return []
    with folder.log.open("rb") as stream:
        stream.seek(max(0, folder.log.stat().st_size - LOG_END))
        return stream.read().decode("utf-8", errors="replace").splitlines()


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the trainer's records in order; a line that is none, as a killed run may leave it
    half-written, is passed over.
    """
    if not folder.metrics.exists():
        return []
    records = []
    for line in folder.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]
