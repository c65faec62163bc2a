"""Secrets in a recipe, and code that a recipe brings along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from launcher import facts
from launcher.diagnostics import Severity, Span
from launcher.facts.types import Kind
from launcher.recipe import Recipe
from launcher.redact import is_secret_name, is_secret_value
from launcher.rules.data import entries
from launcher.rules.data_types import importable
from launcher.rules.names import method
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.validator import is_on
from launcher.schema.wording import dotted

_DATA = ("datasets", "test_datasets", "pretraining_dataset")
_OURS = ("axolotl.", "launcher.")  # packages whose modules are no foreign code


@rule("R101", "secret-in-recipe", Severity.ERROR)
def secret_in_recipe(recipe: Recipe) -> Findings:
    """A token or an API key stands in the recipe or in an override.

    A recipe is shared, logged and kept with the run, and axolotl copies it into the model card on
    the Hub.

    Example:

    ```yaml
    comet_api_key: 0123456789abcdef
    ```

    Use instead:

    ```yaml
    comet_project_name: my-runs
    ```
    """
    for path, value in _leaves(recipe.value):
        named = is_secret_name(path[-1]) and isinstance(value, str) and value
        if named or is_secret_value(value):
            hint = (
                f"put it into .env as {_variable(path[-1], value)} and delete it here; "
                "then make a new one: this one is known"
            )
            yield Finding(_beside_name(recipe, path), f"{dotted(path)} holds a secret", hint)


@rule("R102", "remote-code", Severity.WARNING)
def remote_code(recipe: Recipe) -> Findings:
    """A model's or a data set's repository may run its own code, or a foreign module is loaded.

    Whoever owns the repository can run code on your machine, with your tokens in its environment.
    The same holds for a module that stands beside a recipe: as a plugin, ``trainer_cls`` or a
    dataset's ``type``. ``axr train`` asks before it starts such a recipe.

    Example:

    ```yaml
    trust_remote_code: true
    ```

    Use instead:

    ```yaml
    trust_remote_code: false
    ```
    """
    for path, value in _leaves(recipe.value):
        if path[-1] == "trust_remote_code" and is_on(value):
            fact = f"{dotted(path)} runs Python code that comes with the repository"
            hint = (
                "delete the key if the architecture is part of transformers; "
                "otherwise pin revision_of_model to a commit"
                if len(path) == 1
                else "delete the key: data in plain files needs no code; "
                "otherwise pin revision to a commit"
            )
            yield Finding(recipe.key_span(*path), fact, hint)
    for path in _pickles(recipe):
        fact = f"{dotted(path)}: pandas reads pickles, and a pickle runs code when it is read"
        yield Finding(recipe.value_span(*path), fact, "save the rows as parquet, or as JSON lines")
    for path, value in foreign_modules(recipe):
        what = "plugin" if path[0] == "plugins" else dotted(path)
        fact = f'{what} "{value}" is code from outside axolotl'
        yield Finding(recipe.value_span(*path), fact, "make sure that you know what it does")


def foreign_modules(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path and the value of all that axolotl imports from outside: the plugins, and what
    it loads later, by a dotted path (core/builders, prompt_strategies).
    """
    yield from foreign_plugins(recipe)
    trainer = recipe.value.get("trainer_cls")
    if isinstance(trainer, str) and trainer and not trainer.startswith(_OURS):
        yield ("trainer_cls",), trainer
    yield from _foreign_types(recipe)


def _foreign_types(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each dataset type that is a module of somebody's, and is there to be loaded."""
    known, own = facts.load(), method(recipe)
    if own != facts.SUPERVISED and own not in known.preference_types:
        return
    for path, entry in entries(recipe):
        name = entry.get("type")
        loaded = known.load_type(own, name) if isinstance(name, str) else None
        if loaded and loaded.kind is Kind.CUSTOM and importable(loaded.module):
            yield (*path, "type"), str(name)


def foreign_plugins(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path and the name of every plugin that is not axolotl's own."""
    for path, value in _leaves(recipe.value.get("plugins"), ("plugins",)):
        if isinstance(value, str) and not value.startswith(_OURS):
            yield path, value


def _pickles(recipe: Recipe) -> Iterator[tuple[str, ...]]:
    """Yield where a data set is read by the reader of pickles (datasets/packaged_modules)."""
    for path, value in _leaves({key: recipe.value.get(key) for key in _DATA}):
        if path[-1] in ("ds_type", "path") and value == "pandas":
            yield path


def _beside_name(recipe: Recipe, path: tuple[str, ...]) -> Span:
    """Return the span of the value, or of its key where the value stands on a line of its own: an
    excerpt knows what to hide by the name before it.
    """
    key, value = recipe.key_span(*path), recipe.value_span(*path)
    return value if value.line == key.line else key


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, (*path, str(key)))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _leaves(child, (*path, str(index)))
    elif path:
        yield path, value


def _variable(key: str, value: str) -> str:
    """Return the environment variable that a secret belongs in, by what it looks like, or else by
    its key.
    """
    shapes = {"hf_": "HF_TOKEN", "wandb_v1_": "WANDB_API_KEY", "gh": "GITHUB_TOKEN"}
    by_shape = (name for start, name in shapes.items() if value.startswith(start))
    by_key = "HF_TOKEN" if key == "hub_token" else key.upper()
    return by_key if is_secret_name(key) else next(by_shape, "a variable")


RULES = (secret_in_recipe, remote_code)
