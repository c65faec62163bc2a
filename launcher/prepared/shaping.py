"""All that shapes what axolotl makes of a recipe's rows: settings, rows, tokenizer, versions."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from launcher import hub_cache
from launcher.dataset.digest import MOST
from launcher.files import is_file, is_folder, read
from launcher.hub import Repository
from launcher.hub.commits import commits
from launcher.recipe import located
from launcher.runs.revisions import LISTS, data, repositories

LARGEST = 64 * 2**20  # bytes of a tokenizer's file; Gemma's tokenizer.json has 33 MB
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
_IN_HUB = re.compile(r"[\w.*-]+(/[\w.*-]+)*")  # a file of a repository, whose commit is known
_WHOLE = 64  # letters of the digest of a file that was read from end to end
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")


class Unknown(Exception):
    """Something that may shape the data cannot be told by a digest."""


def shaped(
    settings: Mapping[str, Any],
    rows: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    foreign: bool,
) -> dict[str, Any]:
    """Return all that shapes the rows. Raises `Unknown`, and ``OSError`` of a file."""
    if foreign or any(not str(p).startswith(_HARMLESS) for p in settings.get("plugins") or []):
        raise Unknown("code from outside or a plugin may shape its data")
    for key in _APART:
        if settings.get(key):
            raise Unknown(f"{key} is set")
    if str(settings.get("rl")) in _ONLINE:
        raise Unknown(f"rl is {settings['rl']}")
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
            raise Unknown(f"which commit of {one.name} is read is not known")
    return {f"{one.kind} {one.name}": commit for one, commit in known.items()}


def _rows(
    settings: Mapping[str, Any], found: Mapping[str, str], wanted: list[Repository]
) -> dict[str, str]:
    """Return the digests of the local data; of a file that was not read whole its time, too."""
    if len(found) >= MOST:
        raise Unknown(f"its data has {MOST} files or more")
    if not settings.get("datasets") or not all(map(_is_list, (settings.get(k) for k in LISTS))):
        raise Unknown("its data is no list of entries")
    on_hub = {one.name for one in wanted if one.kind == "dataset"}
    for entry in data(settings):
        name = str(entry.get("path"))
        if not _here(name, found) and name not in on_hub:
            raise Unknown(f'"{name}" is neither a file here nor a name on the Hub')
        inner = entry.get("data_files") or []
        for file in inner if isinstance(inner, list) else [inner]:
            if not _here(str(file), found) and not (
                name in on_hub and _IN_HUB.fullmatch(str(file))
            ):
                raise Unknown(f'data_files "{file}" is no file here')
    return {file: _timed(file, digest) for file, digest in found.items()}


def _is_list(value: Any) -> bool:
    return not value or (isinstance(value, list) and all(isinstance(e, Mapping) for e in value))


def _here(name: str, found: Mapping[str, str]) -> bool:
    """Whether a name is that of a file whose digest is known, or of a folder with such files."""
    place = str(Path(located(name)))
    return any(file == place or file.startswith(f"{place}/") for file in found)


def _timed(file: str, digest: str) -> str:
    """Return a digest that tells of a change anywhere in the file; raises ``OSError``."""
    return digest if len(digest) == _WHOLE else f"{digest}, {os.stat(file).st_mtime_ns}"


def _named(
    settings: Mapping[str, Any], shaping: Mapping[str, Any], wanted: list[Repository]
) -> Iterator[str]:
    """Yield the files that a config names beside its rows: the tokenizer's, a template."""
    on_hub = {one.name for one in wanted if one.kind == "model"}
    for key in ("base_model", "base_model_config", "tokenizer_config"):
        name = settings.get(key)
        if isinstance(name, str) and is_folder(name):
            inner = [*Path(name).iterdir(), *Path(name, "additional_chat_templates").glob("*")]
            yield from (str(file) for file in inner if is_file(file) and not _weights(file))
        elif name not in on_hub and (name or key == "base_model"):
            raise Unknown(f'{key} "{name}" is neither a folder here nor a name on the Hub')
    beside = {key: value for key, value in shaping.items() if key not in LISTS}
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
        raise Unknown(f'"{file}" cannot be read')
    return hashlib.sha256(content).hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in _STACK:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed = metadata.distribution(name)
            found[name] = installed.version
            if '"editable": true' in (installed.read_text("direct_url.json") or ""):
                raise Unknown(f"{name} is installed from a folder that may be edited")
    return found


def still(before: Mapping[str, Any], rows: Mapping[str, str], environ: Mapping[str, str]) -> bool:
    """Whether rows and files are what they were, and the commits those that were then downloaded:
    what the Hub's cache has now.
    """
    try:
        same = {file: _timed(file, digest) for file, digest in rows.items()} == before["rows"]
        files = {name: _digest(Path(name)) for name in before["files"]}
    except (Unknown, OSError):
        return False
    return same and files == before["files"] and _read_commits(before, environ)


def _read_commits(before: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    wanted = repositories(before["settings"])
    cached = {
        f"{one.kind} {one.name}": hub_cache.commit(
            f"{one.kind}s", one.name, environ, revision=one.revision
        )
        for one in wanted
    }
    return bool(cached == before["hub"])
