"""The data: where it is, how a row is read, which keys of an entry do anything."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from launcher import facts
from launcher.diagnostics import Severity, delete
from launcher.facts.types import Kind
from launcher.recipe import Recipe, located
from launcher.rules.files import exists, is_folder
from launcher.rules.hub import is_repository
from launcher.rules.names import method, misnamed
from launcher.rules.objective import PREFERENCE
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.validator import schema
from launcher.schema.wording import cut

FILES = (".json", ".jsonl", ".csv", ".parquet", ".arrow", ".txt")
FORMATS = ("json", "csv", "parquet", "text", "arrow")  # that datasets reads without a repository
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
        elif not is_repository(name) and not _of_another_machine(name):
            fact = f'"{name}" is no file here and no name on the Hub'
            yield Finding(
                span, fact, "relative paths start at the working directory; on the Hub: owner/name"
            )


@rule("R406", "data-file-not-here", Severity.WARNING)
def data_file_not_here(recipe: Recipe) -> Findings:
    """A path or ``data_files`` names a data file, and there is none in the working directory.

    axolotl then asks the Hub for a data set of that name; where the Hub has none, the run dies when
    the data is prepared. Relative paths count from the working directory, not from the recipe. A
    path below a folder that is not here at all, /workspace say, may be another machine's.

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
    hint = "relative paths start at the working directory"
    for path, name in _missing(recipe):
        span = recipe.value_span(*path, "path")
        if name.endswith(FILES) and is_repository(name):
            fact = f'no file "{name}" here, and hardly a data set of that name on the Hub'
            yield Finding(span, fact, hint)
        elif _of_another_machine(name):
            yield Finding(span, f'"{name}" is not on this machine', "start the run where it is")
    for path, name in _data_files(recipe):
        if not exists(name):
            yield Finding(recipe.value_span(*path), f'no file "{name}" here', hint)


def _of_another_machine(name: str) -> bool:
    """Whether a path lies below a folder at the root that is not here."""
    return name.startswith("/") and not exists("/" + name.split("/")[1])


def _data_files(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each file that an entry names under ``data_files``, where it is not one of the Hub's:
    its ``path`` is a folder here, or what datasets calls a format.
    """
    for path, entry in entries(recipe, "datasets", "test_datasets", "pretraining_dataset"):
        given, home = entry.get("data_files"), entry.get("path")
        if not isinstance(home, str) or (home not in FORMATS and not is_folder(home)):
            continue
        listed = given if isinstance(given, list) else [given]
        for index, name in enumerate(listed):
            plain = isinstance(name, str) and name and not re.search(r"[*?\[$]|://", name)
            if plain and not _of_another_machine(name):
                number = (str(index),) if isinstance(given, list) else ()
                yield (*path, "data_files", *number), str(name)


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
    for path, entry in entries(recipe):
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


@rule("R404", "data-without-type", Severity.WARNING)
def data_without_type(recipe: Recipe) -> Findings:
    """An entry without ``type`` is taken for rows that are ready to train on.

    Under ``rl: dpo`` and its kin columns prompt, chosen and rejected then go in as they are,
    without a template; message lists fail: "text input must be of type `str`". Without ``rl`` the
    rows have to be tokenized; any others end in an AttributeError.

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
    method, value = recipe.value.get("rl"), recipe.value
    if method not in (*PREFERENCE, None) or value.get("skip_prepare_dataset"):
        return
    for path, entry in entries(recipe, "datasets"):
        if not entry.get("type") and entry.get("path"):
            fact = f"datasets[{path[1]}] has no type: its texts are trained on as they are"
            hint = f"add type: {_MESSAGES[method]}, for lists of messages"
            if not method:
                fact = f"datasets[{path[1]}] has no type: its rows have to be tokenized already"
            yield Finding(recipe.key_span(*path, "path"), fact, hint)


_MESSAGES = {None: "chat_template", "kto": "chatml.argilla_chat", "orpo": "chat_template.argilla"}
_MESSAGES |= dict.fromkeys(("dpo", "ipo", "simpo"), "chat_template.default")


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

    axolotl transforms ``test_datasets`` by ``datasets[i]``: what the test entry says of columns has
    no effect, and other columns end in a KeyError.

    Example:

    ```yaml
    rl: dpo
    datasets:
      - path: my-org/pairs
        type: chat_template.default
    test_datasets:
      - path: my-org/test
        type: chat_template.default
        field_chosen: better
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
        mapping = ("type",) if isinstance(entry.get("type"), dict) else ()
        for key in (*mapping, "field_messages", "field_chosen", "field_rejected"):
            if key in entry and entry.get(key) != training[index].get(key):
                fact = f"{key} differs from datasets[{index}], whose settings are used"
                yield Finding(
                    recipe.key_span(*path, key), fact, "make the columns the same in both"
                )


@rule("R408", "unreadable-split", Severity.ERROR)
def unreadable_split(recipe: Recipe) -> Findings:
    """``split`` does not say which rows in a way that datasets reads: train[:10%], train[100:200].

    The run dies when the data is loaded: "Unrecognized instruction format". Of a data set that is
    streamed no part can be named at all.

    Example:

    ```yaml
    datasets:
      - path: my-org/rows
        type: alpaca
        split: train[0.1:]
    ```

    Use instead:

    ```yaml
    datasets:
      - path: my-org/rows
        type: alpaca
        split: train[10%:]
    ```
    """
    form = re.compile(facts.load().split_pattern, re.VERBOSE)
    for path, entry in entries(recipe, "datasets", "test_datasets", "pretraining_dataset"):
        split = entry.get("split")
        if not isinstance(split, str) or not split:
            continue
        span, parts = recipe.value_span(*path, "split"), re.split(r"\s*\+\s*", split)
        if not all(map(form.match, parts)):
            fact = f'"{cut(split)}" names no rows'
            yield Finding(span, fact, "write train, train[:10%] or train[100:200]")
        elif any(int(share) > 100 for share in re.findall(r"(\d+)%", split)):
            yield Finding(span, f'"{cut(split)}" asks for more than 100 %', "write 100% at most")
        elif split.endswith("]") and path[0] == "pretraining_dataset":
            name = split.partition("[")[0]
            yield Finding(span, "a streamed data set has no parts", f"split: {name}")


RULES = (
    dataset_without_path,
    dataset_not_found,
    data_file_not_here,
    unknown_dataset_type,
    data_without_type,
    key_ignored_by_type,
    test_rows_read_otherwise,
    unreadable_split,
)
