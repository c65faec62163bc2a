"""What a rehearsal needs of the base model: config.json and the tokenizer's files, never weights.

They come from a folder, from the Hub's cache or over the network; where the model's shape alone is
known here, a stand-in tokenizer is made later.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import hub_cache, models
from launcher.diagnostics import LauncherError
from launcher.files import is_file, is_folder, read_mapping
from launcher.models.find import download
from launcher.network import hub, unreachable
from launcher.recipe import Recipe, located

LARGEST = 64 * 2**20  # bytes; Gemma 3's tokenizer.json has 33 MB
CORES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
_BESIDE = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)
_ELSEWHERE = "name the folder of a copy as base_model; its config.json and tokenizer are enough"


@dataclass(frozen=True)
class Source:
    """A folder with a model's config.json and, unless ``tokenizer`` is empty, its tokenizer's
    files. ``shape`` and ``tokenizer`` say where they are from, ``why`` why there is no tokenizer.
    """

    folder: Path
    config: Mapping[str, Any]
    shape: str
    tokenizer: str
    why: str = ""


def gather(recipe: Recipe, environ: Mapping[str, str], folder: Path) -> Source:
    """Fill ``folder``. Raises ``LauncherError`` where nobody knows the model's shape."""
    settings = recipe.settings
    name = located(str(settings.get("base_model")))
    revision = str(settings.get("revision_of_model") or "main")
    folder.mkdir(parents=True)
    shape = name
    if why := _fetch(name, revision, environ, folder, ("config.json",)):
        try:
            known, shape = models.config(name, environ, revision=revision)
        except LauncherError as problem:
            raise LauncherError(f"{problem.message}: {why}", _ELSEWHERE, exit_code=3) from None
        (folder / "config.json").write_text(json.dumps(known), encoding="utf-8")
    config = read_mapping(folder / "config.json", LARGEST)
    if config is None:
        raise LauncherError(f'the config.json of "{name}" cannot be read as JSON', exit_code=1)
    tokenizer = located(str(settings.get("tokenizer_config") or name))
    place = revision if tokenizer == name else "main"
    lost = _fetch(tokenizer, place, environ, folder, CORES)
    if lost:
        return Source(folder, config, shape, "", lost)
    for file in _BESIDE:
        _fetch(tokenizer, place, environ, folder, (file,))
    return Source(folder, config, shape, tokenizer)


def _fetch(
    name: str, revision: str, environ: Mapping[str, str], folder: Path, files: tuple[str, ...]
) -> str:
    """Put those of the files that there are into ``folder``; return why there is none."""
    origin = Path(name) if is_folder(name) else _cached(name, revision, environ, files)
    if origin:
        present = [file for file in files if is_file(origin / file)]
        for file in present:
            shutil.copyfile(origin / file, folder / file)
        return "" if present else f"{origin} has no {files[0]}"
    if why := unreachable(hub(environ), environ):
        return why
    return _downloaded(name, revision, environ, folder, files)


def _cached(
    name: str, revision: str, environ: Mapping[str, str], files: tuple[str, ...]
) -> Path | None:
    for file in files:
        if found := hub_cache.find("models", name, file, environ, revision=revision):
            return found.parent
    return None


def _downloaded(
    name: str, revision: str, environ: Mapping[str, str], folder: Path, files: tuple[str, ...]
) -> str:
    why = ""
    for file in files:
        try:
            data = download(name, file, environ, revision=revision, limit=LARGEST)
        except LauncherError as problem:
            why = why or problem.message
            continue
        (folder / file).write_bytes(data)
        if file == CORES[0]:
            return ""
    return "" if any((folder / file).exists() for file in files) else why


def originals(config: Mapping[str, Any], name: str) -> int | None:
    """Return how many weights the real model has, where that is known."""
    with contextlib.suppress(LauncherError):
        return models.from_config(name, config).parameters
    return None
