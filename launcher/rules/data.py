"""The data: where it is, and which of its rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from launcher import facts
from launcher.diagnostics import Severity
from launcher.files import exists, is_folder
from launcher.recipe import Recipe, located
from launcher.rules.hub import is_repository
from launcher.rules.rule import Finding, Findings, rule
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
    unreadable_split,
)
