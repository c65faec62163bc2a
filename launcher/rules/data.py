"""The data: where it is, how a row is read, which keys of an entry do anything."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from launcher import facts
from launcher.diagnostics import Severity, delete
from launcher.facts.types import Kind
from launcher.files import exists, is_folder
from launcher.recipe import Recipe, located
from launcher.rules.hub import is_repository
from launcher.rules.names import method, misnamed
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.validator import schema

FILES = (".json", ".jsonl", ".csv", ".parquet", ".arrow", ".txt")
# What axolotl's loader opens itself (utils/data/shared.py).
REMOTE = ("https://", "s3://", "gs://", "gcs://", "abfs://", "adl://", "az://", "oci://")


def entries(recipe: Recipe, *keys: str) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield every dataset entry under the given lists, with its path."""
    for key in keys or ("datasets", "test_datasets"):
        listed = recipe.value.get(key)
        for index, entry in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(entry, dict):
                yield (key, str(index)), entry


@rule("R401", "dataset-without-path", Severity.ERROR)
def dataset_without_path(recipe: Recipe) -> Findings:
    """A dataset entry has no ``path``: axolotl's schema lets it pass.

    The run dies of a TypeError when the data is prepared.

    Example:

    ```yaml
    datasets:
      - type: alpaca
    ```

    Use instead:

    ```yaml
    datasets:
      - path: tatsu-lab/alpaca
        type: alpaca
    ```
    """
    for path, entry in entries(recipe):
        if not entry.get("path") and entry.get("type") != "_synthetic":
            hint = "add path: a name on the Hub, a file or a folder"
            yield Finding(recipe.key_span(*path), f"{path[0]}[{path[1]}] has no path", hint)


@rule("R402", "dataset-not-found", Severity.ERROR)
def dataset_not_found(recipe: Recipe) -> Findings:
    """A path is no file here, and no name that a data set on the Hub can have.

    axolotl looks for a file or folder, then on the Hub, then at a URL. Relative paths count from
    the working directory, not from the recipe. The run dies when the data is prepared.

    Example:

    ```yaml
    datasets:
      - path: ./no-such-folder/rows.jsonl
        type: alpaca
    ```

    Use instead:

    ```yaml
    datasets:
      - path: my-org/rows
        type: alpaca
    ```
    """
    for path, name in _missing(recipe):
        span = recipe.value_span(*path, "path")
        if name.startswith("http://"):
            yield Finding(span, "axolotl loads https:// only", f"https://{name[len('http://') :]}")
        elif not is_repository(name):
            fact = f'"{name}" is no file here and no name on the Hub'
            yield Finding(
                span, fact, "relative paths start at the working directory; on the Hub: owner/name"
            )


@rule("R406", "data-file-not-here", Severity.WARNING)
def data_file_not_here(recipe: Recipe) -> Findings:
    """A path looks like a data file, and there is none in the working directory.

    axolotl then asks the Hub for a data set of that name; where the Hub has none, the run dies when
    the data is prepared. Relative paths count from the working directory, not from the recipe.

    Example:

    ```yaml
    datasets:
      - path: data/no-such-rows.jsonl
        type: alpaca
    ```

    Use instead:

    ```yaml
    datasets:
      - path: my-org/rows
        type: alpaca
    ```
    """
    for path, name in _missing(recipe):
        if name.endswith(FILES) and is_repository(name):
            fact = f'no file "{name}" here, and hardly a data set of that name on the Hub'
            hint = "relative paths start at the working directory"
            yield Finding(recipe.value_span(*path, "path"), fact, hint)


def _missing(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each dataset path that is neither a file or folder here nor an address."""
    for path, entry in entries(recipe, "datasets", "test_datasets", "pretraining_dataset"):
        name = entry.get("path")
        unknown = isinstance(name, str) and name and not name.startswith(REMOTE)
        if unknown and "$" not in str(name) and not exists(located(str(name))):
            yield path, str(name)


@rule("R403", "unknown-dataset-type", Severity.ERROR)
def unknown_dataset_type(recipe: Recipe) -> Findings:
    """The ``type`` of a dataset is none that axolotl's loader of this method finds.

    It is a free text to axolotl; the run dies when the data is prepared: "unhandled prompt
    tokenization strategy".

    Example:

    ```yaml
    datasets:
      - path: tatsu-lab/alpaca
        type: alpacca
    ```

    Use instead:

    ```yaml
    datasets:
      - path: tatsu-lab/alpaca
        type: alpaca
    ```
    """
    known, own = facts.load(), method(recipe)
    if own != facts.SUPERVISED and own not in known.preference_types:
        return
    if own == facts.SUPERVISED:
        names = known.supervised_types.names | set(known.supervised_types.bases)
    else:
        names = known.preference_types[own].names
    for path, entry in entries(recipe, "datasets"):
        name = entry.get("type")
        if not isinstance(name, str) or name == "_synthetic":
            continue
        span, loaded = recipe.value_span(*path, "type"), known.load_type(own, name)
        fact = f'no {_WORDS.get(own, own)} dataset type is called "{name}"'
        if loaded.kind is Kind.UNKNOWN:
            if name.startswith("sharegpt"):
                yield Finding(span, fact, _SHAREGPT)
            else:
                yield misnamed(span, fact, name, names)
        elif loaded.kind is Kind.CUSTOM and not _importable(loaded.module):
            fact += f', and there is no module "{loaded.module}" here'
            yield misnamed(span, fact, name, names)


_WORDS = {facts.SUPERVISED: "supervised"}
_SHAREGPT = "type: chat_template\nfield_messages: conversations"


def _importable(module: str) -> bool:
    """Whether a module of the user's can be there: beside the working directory, or installed."""
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        return False
    here = Path(*parts)
    if exists(here.with_suffix(".py")) or is_folder(here):
        return True
    try:
        return importlib.util.find_spec(parts[0]) is not None
    except ValueError:  # it is loaded and has no spec, as __main__
        return True


@rule("R404", "preference-data-without-type", Severity.WARNING)
def preference_data_without_type(recipe: Recipe) -> Findings:
    """Under ``rl: dpo`` an entry without ``type`` is taken for ready-made texts.

    Columns prompt, chosen and rejected then go in as they are, without a template. Message lists
    fail: "text input must be of type `str`".

    Example:

    ```yaml
    rl: dpo
    datasets:
      - path: my-org/pairs
    ```

    Use instead:

    ```yaml
    rl: dpo
    datasets:
      - path: my-org/pairs
        type: chat_template.default
    ```
    """
    if recipe.value.get("rl") not in ("dpo", "ipo", "simpo"):
        return
    for path, entry in entries(recipe, "datasets"):
        if not entry.get("type"):
            fact = f"datasets[{path[1]}] has no type: its texts are trained on as they are"
            hint = "add type: chat_template.default, for lists of messages"
            yield Finding(recipe.key_span(*path, "path"), fact, hint)


@rule("R405", "key-ignored-by-type", Severity.WARNING)
def key_ignored_by_type(recipe: Recipe) -> Findings:
    """The dataset's ``type`` does not read this key of its entry.

    ``type: alpaca`` reads the columns instruction, input and output whatever else the entry says;
    other columns are named under ``type:`` as a mapping. The key has no effect, so another column
    or other rows are trained on.

    Example:

    ```yaml
    datasets:
      - path: my-org/chats
        type: alpaca
        field_messages: turns
    ```

    Use instead:

    ```yaml
    datasets:
      - path: my-org/chats
        type: chat_template
        field_messages: turns
    ```
    """
    known = facts.load()
    if method(recipe) != facts.SUPERVISED or recipe.value.get("processor_type"):
        return
    for path, entry in entries(recipe, "datasets"):
        name = entry.get("type")
        reads = known.entry_keys.types.get(name) if isinstance(name, str) else None
        if reads is None:
            continue
        for key, value in entry.items():
            idle = key in _entry_keys() - reads - known.entry_keys.loading
            if value is not None and idle:
                span, fact = recipe.key_span(*path, key), f'type "{name}" does not read {key}'
                hint = "delete the line, or use another type"
                yield Finding(span, fact, hint, fix=delete(span, safe=False))


@lru_cache(maxsize=1)
def _entry_keys() -> frozenset[str]:
    """Return the keys that some dataset entry may have; others are unknown keys."""
    shapes = (value for name, value in schema()["$defs"].items() if name.endswith("Dataset"))
    return frozenset(key for shape in shapes for key in shape["properties"])


@rule("R407", "test-rows-read-otherwise", Severity.ERROR)
def test_rows_read_otherwise(recipe: Recipe) -> Findings:
    """Under ``rl`` the test rows are read with the settings of the training entry beside them.

    axolotl transforms ``test_datasets`` by ``datasets[i]``: what the test entry says of columns and
    types has no effect, and other columns end in a KeyError.

    Example:

    ```yaml
    rl: dpo
    datasets:
      - path: my-org/pairs
        type: chat_template.default
    test_datasets:
      - path: my-org/test
        type: chatml.intel
    eval_strategy: epoch
    ```

    Use instead:

    ```yaml
    rl: dpo
    datasets:
      - path: my-org/pairs
        type: chat_template.default
    test_datasets:
      - path: my-org/test
        type: chat_template.default
    eval_strategy: epoch
    ```
    """
    if not recipe.value.get("rl"):
        return
    training = [entry for _, entry in entries(recipe, "datasets")]
    for path, entry in entries(recipe, "test_datasets"):
        index = int(path[1])
        if index >= len(training):
            fact = f"there is no datasets[{index}] whose settings the test rows could be read with"
            yield Finding(recipe.key_span(*path), fact, "give as many test_datasets as datasets")
            continue
        for key in ("type", "field_messages", "field_chosen", "field_rejected"):
            if key in entry and entry.get(key) != training[index].get(key):
                fact = f"{key} differs from datasets[{index}], whose settings are used"
                yield Finding(
                    recipe.key_span(*path, key), fact, "make the columns the same in both"
                )


RULES = (
    dataset_without_path,
    dataset_not_found,
    data_file_not_here,
    unknown_dataset_type,
    preference_data_without_type,
    key_ignored_by_type,
    test_rows_read_otherwise,
)
