"""Tokenized data that several runs share: kept under a digest of all that shaped it, so that what
was made of other rows, another template or another version is never read.

A run tokenises into its own folder; when its training has begun, and is over, the result is moved
to its shared place whole. So nobody reads what is half written, and nobody waits for a lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from launcher import hub_cache, runs
from launcher.dataset.digest import MOST
from launcher.files import is_file, is_folder, read, read_mapping
from launcher.hub import Repository
from launcher.hub.commits import commits
from launcher.recipe import located
from launcher.runs.revisions import data, repositories

MANIFEST = "prepared.json"
LARGEST = 64 * 2**20  # bytes of a tokenizer's file; Gemma's tokenizer.json has 33 MB
DIGITS = 16  # of a digest, as a folder's name
# What of a config cannot shape the rows: how it is learnt, how fast, where to. A test holds that
# nothing in axolotl's preparation reads one of these keys, nor one that is computed from them.
FREE = re.compile(
    r"(adam|cosine|comet|dataloader|ddp|early_stopping|gradient|hub|logging|lora_(r|alpha|dropout"
    r"|target)|loraplus|loss_watchdog|lr|mlflow|peft|profiler|save|swanlab|torch_compile|trackio"
    r"|wandb|warmup)(_|$)"
    r"|use_(wandb|comet|mlflow|swanlab|tensorboard|trackio)$"
    r"|(auto_resume_from_checkpoints|bf16|dataset_prepared_path|deepspeed|embedding_lr|eval_batch_size"
    r"|eval_steps|eval_strategy|evals_per_epoch|fp16|fsdp|fsdp_config|fsdp_version|learning_rate"
    r"|load_best_model_at_end|max_grad_norm|max_steps|micro_batch_size|neftune_noise_alpha|num_epochs"
    r"|optim_args|optimizer|output_dir|resume_from_checkpoint|rl_beta|saves_per_epoch|tf32"
    r"|weight_decay)$"
)
# Whose data is not prepared on disk, or of what no digest here would tell: pictures, the Hub.
_APART = (
    "pretraining_dataset",
    "processor_type",
    "push_dataset_to_hub",
    "skip_prepare_dataset",
    "streaming",
)
_ONLINE = ("grpo", "gdpo", "ebft")
_HARMLESS = ("launcher.plugin.", "axolotl.integrations.liger.", "axolotl.integrations.cut_cross_")
_STACK = ("axolotl", "datasets", "jinja2", "numpy", "tokenizers", "transformers", "trl")
_WHOLE = 64  # letters of the digest of a file that was read from end to end
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
# axolotl's own marks in the folder (utils/data/lock.py): without meaning between two runs.
_MARKS = ("datasets_prep.lock", "datasets_ready.flag", "process_counter.txt")


class _Unknown(Exception):
    """Something that may shape the data cannot be told by a digest."""


@dataclass(frozen=True)
class Shared:
    """Where runs share prepared data; none where this run keeps its own: then ``why`` says why.
    ``shaped``: all that the digest is of.
    """

    place: Path | None = None
    why: str = ""
    shaped: Mapping[str, Any] = field(default_factory=dict)

    @property
    def maker(self) -> str:
        """The run that has made it, where it is there, whole, and may be used."""
        return _maker(self.place) if self.place else ""


def shared(
    settings: Mapping[str, Any],
    rows: Mapping[str, str],
    root: Path,
    environ: Mapping[str, str],
    *,
    foreign: bool,
) -> Shared:
    """Return where the runs below ``root`` share what a run with these ``settings`` (the config
    that axolotl gets) makes of its rows (the digests of local files). ``foreign``: code from
    outside axolotl is run. The Hub is asked for its commits.
    """
    try:
        shaped = _shaped(settings, rows, environ, foreign=foreign)
    except (_Unknown, OSError) as unknown:
        return Shared(why=str(unknown))
    text = json.dumps(shaped, sort_keys=True, default=str)
    name = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
    return Shared(root / "prepared" / name, shaped=shaped)


def keep(
    made: Path, where: Shared, rows: Mapping[str, str], run: str, environ: Mapping[str, str]
) -> bool:
    """Move what a run has made to its shared place; return whether that was done. Nothing is moved
    where something is there already, is not whole, or where rows or repositories have changed
    meanwhile, so that nobody knows what it was made of. ``rows``: their digests now.
    """
    files = _files(made)
    if not where.place or not files or not _still(where, rows, environ):
        return False
    made_of = {"run": run, "made": runs.now(), "files": files, "of": dict(where.shaped)}
    try:
        for mark in _MARKS:
            (made / mark).unlink(missing_ok=True)
        runs.write_json(made / MANIFEST, made_of)
        where.place.parent.mkdir(parents=True, exist_ok=True)
        made.rename(where.place)
    except OSError:  # another run was faster, or the disk is another one
        return False
    return True


def _shaped(
    settings: Mapping[str, Any],
    rows: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    foreign: bool,
) -> dict[str, Any]:
    """Return all that shapes the rows. Raises `_Unknown`."""
    if foreign or any(not str(p).startswith(_HARMLESS) for p in settings.get("plugins") or []):
        raise _Unknown("code from outside or a plugin may shape its data")
    for key in _APART:
        if settings.get(key):
            raise _Unknown(f"{key} is set")
    if str(settings.get("rl")) in _ONLINE:
        raise _Unknown(f"rl is {settings['rl']}")
    shaping = {key: value for key, value in settings.items() if not FREE.match(key)}
    wanted = repositories(settings)
    return {
        "settings": shaping,
        "rows": _rows(settings, rows, wanted),
        "files": {
            name: _digest(Path(name)) for name in sorted({*_named(settings, shaping, wanted)})
        },
        "hub": _commits(commits(wanted, environ)),
        "versions": _versions(),
    }


def _commits(known: Mapping[Repository, str]) -> dict[str, str]:
    for one, commit in known.items():
        if not commit:
            raise _Unknown(f"which commit of {one.name} is read is not known")
    return {f"{one.kind} {one.name}": commit for one, commit in known.items()}


def _rows(
    settings: Mapping[str, Any], found: Mapping[str, str], wanted: list[Repository]
) -> dict[str, str]:
    """Return the digests of the local data; of a file that was not read whole its time, too."""
    if len(found) >= MOST:
        raise _Unknown(f"its data has {MOST} files or more")
    on_hub = {one.name for one in wanted if one.kind == "dataset"}
    for name in (str(entry.get("path")) for entry in data(settings)):
        place = str(Path(located(name)))
        here = any(file == place or file.startswith(f"{place}/") for file in found)
        if not here and name not in on_hub:
            raise _Unknown(f'"{name}" is neither a file here nor a name on the Hub')
    return {file: _timed(file, digest) for file, digest in found.items()}


def _timed(file: str, digest: str) -> str:
    """Return a digest that tells of a change anywhere in the file; raises ``OSError``."""
    return digest if len(digest) == _WHOLE else f"{digest}, {os.stat(file).st_mtime_ns}"


def _named(
    settings: Mapping[str, Any], shaping: Mapping[str, Any], wanted: list[Repository]
) -> Iterator[str]:
    """Yield the files that a config names beside its rows: the tokenizer's, a template."""
    on_hub = {one.name for one in wanted if one.kind == "model"}
    for key in ("base_model", "tokenizer_config"):
        name = settings.get(key)
        if isinstance(name, str) and is_folder(name):
            inner = [*Path(name).iterdir(), *Path(name, "additional_chat_templates").glob("*")]
            yield from (str(file) for file in inner if is_file(file) and not _weights(file))
        elif name not in on_hub and (name or key == "base_model"):
            raise _Unknown(f'{key} "{name}" is neither a folder here nor a name on the Hub')
    lists = ("datasets", "test_datasets")
    beside = {key: value for key, value in shaping.items() if key not in lists}
    yield from (located(text) for text in _texts(beside) if is_file(located(text)))
    entries = ({**entry, "path": "", "data_files": ""} for entry in data(settings))
    yield from (located(t) for one in entries for t in _texts(one) if t and is_file(located(t)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list):
        for child in value:
            yield from _texts(child)
    elif isinstance(value, str):
        yield value


def _weights(file: Path) -> bool:
    return file.name.endswith(_WEIGHTS)


def _digest(file: Path) -> str:
    content = read(file, LARGEST)
    if content is None:
        raise _Unknown(f'"{file}" cannot be read')
    return hashlib.sha256(content).hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in _STACK:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed = metadata.distribution(name)
            found[name] = installed.version
            if '"editable": true' in (installed.read_text("direct_url.json") or ""):
                raise _Unknown(f"{name} is installed from a folder that may be edited")
    return found


def _still(where: Shared, now: Mapping[str, str], environ: Mapping[str, str]) -> bool:
    """Whether rows and files are what they were, and the commits those that were then downloaded:
    what the Hub's cache has now.
    """
    try:
        same = {file: _timed(file, digest) for file, digest in now.items()} == where.shaped["rows"]
        files = {name: _digest(Path(name)) for name in where.shaped["files"]}
    except (_Unknown, OSError):
        return False
    return same and files == where.shaped["files"] and _read_commits(where, environ)


def _read_commits(where: Shared, environ: Mapping[str, str]) -> bool:
    wanted = repositories(where.shaped["settings"])
    cached = {
        f"{one.kind} {one.name}": hub_cache.commit(
            f"{one.kind}s", one.name, environ, revision=one.revision
        )
        for one in wanted
    }
    return bool(cached == where.shaped["hub"])


def _files(folder: Path) -> dict[str, int]:
    """Return the bytes of each file of the datasets in a folder, by its path in it; nothing where
    one of them is not whole. ``datasets`` writes state.json after the rows; caches of later steps
    beside them are none of it.
    """
    found: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for inner in sorted(one for one in folder.iterdir() if one.is_dir()):
            state = read_mapping(inner / "state.json", LARGEST) or {}
            listed = state.get("_data_files")
            rows = [str(one.get("filename")) for one in listed] if isinstance(listed, list) else []
            if not rows:
                return {}
            for name in (*rows, "state.json", "dataset_info.json"):
                found[f"{inner.name}/{name}"] = (inner / name).stat().st_size
        return found
    return {}


def _maker(place: Path) -> str:
    """Return the run that made what is at a place; nothing where it is not there whole, has more
    than was made, or may not be written, as axolotl locks it.
    """
    manifest = read_mapping(place / MANIFEST, LARGEST) or {}
    if not manifest.get("files") or _files(place) != manifest["files"]:
        return ""
    return str(manifest.get("run") or "a run") if os.access(place, os.W_OK) else ""
