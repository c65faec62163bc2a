"""The rows of a recipe, through axolotl's own loader: imported in children alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.dataset.stream import words
from launcher.fetch.item import Trouble

_NO_ROWS = "NO_ROWS"


@dataclass(frozen=True)
class Set:
    """What one entry loads: the addresses of its files, and the bytes that its rows take on the
    disk once they are prepared; 0 where they are, or where that is not known.
    """

    files: tuple[str, ...]
    prepared: int


def entries(cfg: Any, wanted: list[list[Any]]) -> Iterator[Any]:
    """Yield each entry as axolotl will load it: with the keys that its validation leaves, one for
    each of several names.
    """
    from axolotl.utils.data.shared import datasets_with_name_generator

    for key, index in wanted:
        listed = cfg[key] or []
        yield from datasets_with_name_generator(listed[index : index + 1])


def look(entry: Any, token: Any) -> Set:
    """Return what an entry will load. Raises `Trouble` where the library refuses it."""
    if "://" in entry.path:  # of no repository: the loader alone knows
        return Set((), 0)
    builder = _builder(entry, token)
    files = builder.config.data_files or {}
    addresses = tuple(str(file) for part in files.values() for file in part)
    there = Path(builder.cache_dir).is_dir()
    return Set(addresses, 0 if there else builder.info.dataset_size or 0)


def prepare(entry: Any, token: Any) -> None:
    """Load an entry as the training will: what is downloaded and prepared then is there for it.
    Raises `Trouble`.
    """
    try:
        load(entry, token)
        if entry.data_files and "://" not in entry.path:
            _link(entry, token)
    except Exception as problem:  # it raises classes of a dozen other libraries
        raise _trouble(entry, problem) from problem


def load(entry: Any, token: Any) -> Any:
    """Return the rows of an entry."""
    from axolotl.utils.data.shared import load_dataset_with_config

    return load_dataset_with_config(entry, token, streaming=False)


def _builder(entry: Any, token: Any) -> Any:
    from datasets import load_dataset_builder

    try:
        return load_dataset_builder(
            entry.path,
            name=entry.name,
            data_files=entry.data_files,
            revision=entry.revision,
            token=token,
        )
    except Exception as problem:  # as above
        raise _trouble(entry, problem) from problem


def _link(entry: Any, token: Any) -> None:
    """Let rows of named files be found without a network, too.

    datasets 4.8 prepares them under a name that is made of the files' commits, and without a
    network looks for one that is made of ``data_files`` as it is written
    (packaged_modules/cache/cache.py): it then finds none.
    """
    from datasets import BuilderConfig

    prepared = Path(_builder(entry, token).cache_dir).parents[1]
    looked_for = BuilderConfig(entry.name or "default").create_config_id(
        config_kwargs={"data_files": entry.data_files}
    )
    link = prepared.with_name(looked_for)
    if link.is_symlink() or not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(prepared.name)


def _trouble(entry: Any, problem: BaseException) -> Trouble:
    return Trouble(_NO_ROWS, entry.path, f'"{entry.path}" does not load: {words(problem)[:300]}')
