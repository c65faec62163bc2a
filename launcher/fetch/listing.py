"""What the Hub has, and what of it is here: imported in the child alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from launcher.fetch.choose import FILES, files, has_weights
from launcher.fetch.item import Item, Trouble
from launcher.fetch.trying import persistently

_MOST = 500  # paths of one question (huggingface_hub, get_paths_info)
_NO_WEIGHTS = "NO_WEIGHTS"


def of_model(api: Any, one: Mapping[str, Any]) -> list[Item]:
    """Return the files of a model that are wanted. Raises `Trouble` where it has no weights, or
    the Hub does not answer.
    """
    name, revision = one["name"], one["revision"]
    commit, found = _tree(api, "model", name, revision)
    chosen = files(found, one["wanted"], code=one["code"])
    if one["wanted"] != FILES and not has_weights(chosen):
        raise Trouble(_NO_WEIGHTS, name, f'"{name}" has no weights that are loaded')
    return [_item("model", name, revision, commit, found[file]) for file in chosen]


def of_folder(api: Any, kind: str, name: str, revision: str, folder: str) -> list[Item]:
    """Return the files in a folder of a repository."""
    commit, found = _tree(api, kind, name, revision, folder)
    chosen = [file for file in found if "__pycache__" not in file and not file.endswith(".pyc")]
    return [_item(kind, name, revision, commit, found[file]) for file in chosen]


def of_rows(api: Any, addresses: Iterable[str]) -> list[Item]:
    """Return the files of datasets, from addresses of the form
    ``hf://datasets/OWNER/NAME@COMMIT/FILE``. What lies elsewhere is left out.
    """
    asked: dict[tuple[str, str], list[str]] = {}
    for address in addresses:
        name, at, rest = address.removeprefix("hf://datasets/").partition("@")
        commit, _, file = rest.partition("/")
        if address.startswith("hf://datasets/") and at:
            asked.setdefault((name, commit), []).append(file)
    found = []
    for (name, commit), paths in asked.items():
        for start in range(0, len(paths), _MOST):
            told = _paths(api, name, paths[start : start + _MOST], commit)
            found += [_item("dataset", name, commit, commit, entry) for entry in told]
    return found


def _tree(
    api: Any, kind: str, name: str, revision: str, folder: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Return the commit of a revision, and its files by name."""

    def ask() -> tuple[str, list[Any]]:
        commit = api.repo_info(name, repo_type=kind, revision=revision).sha
        tree = api.list_repo_tree(name, folder, repo_type=kind, revision=commit, recursive=True)
        return commit, list(tree)

    commit, entries = persistently(ask, name, api.endpoint)
    return commit, {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}


def _paths(api: Any, name: str, paths: list[str], commit: str) -> list[Any]:
    def ask() -> list[Any]:
        return list(api.get_paths_info(name, paths, repo_type="dataset", revision=commit))

    found = persistently(ask, name, api.endpoint)
    return [entry for entry in found if hasattr(entry, "blob_id")]


def cache_of(kind: str) -> str:
    """Return the cache of a kind of repository."""
    from huggingface_hub import constants

    own = os.environ.get("KERNELS_CACHE") if kind == "kernel" else None
    return own or constants.HF_HUB_CACHE


def _item(kind: str, name: str, revision: str, commit: str, entry: Any) -> Item:
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(cache_of(kind), repo_folder_name(repo_id=name, repo_type=kind))
    blob = folder / "blobs" / (entry.lfs.sha256 if entry.lfs else entry.blob_id)
    here = (folder / "snapshots" / commit / entry.path).exists() or blob.exists()
    part = Path(f"{blob}.incomplete")
    return Item(
        kind=kind,
        name=name,
        revision=revision,
        commit=commit,
        file=entry.path,
        size=entry.size,
        here=here,
        part=0 if here or not part.exists() else min(part.stat().st_size, entry.size),
        blob=str(blob),
        xet=bool(entry.xet_hash),
    )
