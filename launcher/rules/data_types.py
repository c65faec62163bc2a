"""How a row is read: the type of a dataset entry, and the keys that the type reads."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

from launcher import facts
from launcher.diagnostics import Severity, delete
from launcher.facts.types import Kind
from launcher.files import exists, is_folder
from launcher.recipe import Recipe
from launcher.rules.data import entries
from launcher.rules.names import method, misnamed
from launcher.rules.objective import PREFERENCE
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.validator import schema


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
        elif loaded.kind is Kind.CUSTOM and not importable(loaded.module):
            fact += f', and there is no module "{loaded.module}" here'
            yield misnamed(span, fact, name, names)


_WORDS = {facts.SUPERVISED: "supervised"}


_SHAREGPT = "type: chat_template\nfield_messages: conversations"


def importable(module: str) -> bool:
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


RULES = (
    unknown_dataset_type,
    data_without_type,
    key_ignored_by_type,
    test_rows_read_otherwise,
)
