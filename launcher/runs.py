"""The run folder: every path in it, and what is written there before, during and after a run."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from launcher.diagnostics import LauncherError
from launcher.redact import redact, redact_env

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

LOG_END = 256 * 2**10  # bytes: the last words of eight ranks, and more


@dataclass(frozen=True)
class RunFolder:
    """Every path of a run. Of several nodes each but the first (``node`` 0) keeps what is its own
    in a folder of its own.
    """

    root: Path
    node: int = 0

    @property
    def own(self) -> Path:
        """What this node writes."""
        return self.root / "nodes" / str(self.node) if self.node else self.root

    @property
    def resolved(self) -> Path:
        """The config that axolotl gets."""
        return self.own / "resolved.yaml"

    @property
    def recipe(self) -> Path:
        """The recipe as it was written, comments and all."""
        return self.own / "recipe.yaml"

    @property
    def command(self) -> Path:
        """A shell script that starts the same training again."""
        return self.own / "command.sh"

    @property
    def environment(self) -> Path:
        """What of the environment can change a run, secrets hidden."""
        return self.own / "environment.json"

    @property
    def versions(self) -> Path:
        """Versions of Python and of the stack."""
        return self.own / "versions.json"

    @property
    def status(self) -> Path:
        """State, process, times, exit code."""
        return self.own / "status.json"

    @property
    def data(self) -> Path:
        """Digests of the local files that are trained on."""
        return self.own / "data.json"

    @property
    def lock(self) -> Path:
        """Held by the launcher that writes this folder."""
        return self.own / "lock"

    @property
    def ranks(self) -> Path:
        """One empty file for each rank that trains, named by its process id."""
        return self.own / "ranks"

    @property
    def stopped(self) -> Path:
        """Why and at which step the training ended early, its checkpoint whole."""
        return self.own / "stopped.json"

    @property
    def log(self) -> Path:
        """All that the training printed, secrets hidden."""
        return self.own / "train.log"

    @property
    def metrics(self) -> Path:
        """One JSON object for each record of the trainer; written by the plugin."""
        return self.own / "metrics.jsonl"

    @property
    def model(self) -> Path:
        """The result, and the checkpoints."""
        return self.root / "model"

    @property
    def prepared(self) -> Path:
        """The tokenized data. In the run folder, so that no run reads what another prepared from
        other data.
        """
        return self.root / "prepared"


def runs_root(environ: Mapping[str, str], volume: Path | None) -> Path:
    """Return where runs live: AXR_RUNS, or on the mounted volume, or ./runs."""
    if environ.get("AXR_RUNS"):
        return Path(environ["AXR_RUNS"]).expanduser()
    return volume / "runs" if volume else Path("runs")


def run_name(recipe: str) -> str:
    """Return a new name: ``qwen25-dpo-20261122-185502-kqzt``, UTC."""
    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(4))
    return f"{recipe}-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{letters}"


def now() -> str:
    """Return the time as it stands in a run's files: ISO 8601, UTC, seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Start:
    """What is known of a run before it starts. ``machine``: in words; ``overrides``: as they were
    typed; ``data``: digests by file; ``step``: of the checkpoint that it goes on from.
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


def create(folder: RunFolder, start: Start) -> None:
    """Write what is known before the start into the folder, which is held; of a run that goes on,
    what is its own stays: its recipe, its data, when it was made. Raises ``LauncherError`` where it
    cannot be written.
    """
    kept = {name: value for name, value in start.env.items() if _KEPT.match(name)}
    status: dict[str, Any] = {"state": "starting", "machine": start.machine}
    status |= {
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
            before = _status(folder).get("resumed")
            status |= {"resumed": [*(before if isinstance(before, list) else []), start.step]}
        write(folder.resolved, dump(start.resolved))
        write(folder.command, start.command)
        folder.command.chmod(0o755)
        write_json(folder.environment, dict(sorted(redact_env(kept).items())))
        write_json(folder.versions, versions())
        update_status(folder, **status)
    except OSError as problem:
        raise _unwritable(folder, problem) from problem


@contextlib.contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """Make a run folder, or take it again, so that no two launches write it; the kernel lets it go
    with the process, however that ends. Raises ``LauncherError`` where another holds it.
    """
    import fcntl

    with contextlib.ExitStack() as stack:
        try:
            folder.own.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(folder.lock.open("a", encoding="ascii"))
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fact = f"another axr train writes {folder.root}: process {_status(folder).get('pid')}"
            raise LauncherError(fact, "end that one first", exit_code=1) from None
        except OSError as problem:
            # a file system without locks, as some network volumes: no worse than before
            if problem.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise _unwritable(folder, problem) from problem
        yield


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


def write(path: Path, text: str) -> None:
    """Write atomically: a reader sees the old text or the new one, never a half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON, atomically."""
    write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def update_status(folder: RunFolder, **fields: Any) -> None:
    """Change fields of ``status.json``."""
    write_json(folder.status, {**_status(folder), **fields})


def _status(folder: RunFolder) -> dict[str, Any]:
    """Return what ``status.json`` holds; nothing where it was cut short."""
    try:
        found = json.loads(folder.status.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]
