"""Secrets in a recipe, and code that a recipe brings along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from launcher.diagnostics import Code, Diagnostic, Severity, Span
from launcher.recipe import Recipe
from launcher.redact import is_secret_name, is_secret_value
from launcher.schema.validator import is_on
from launcher.schema.wording import dotted

SECRET = Code(
    "R101",
    "secret-in-recipe",
    Severity.ERROR,
    "A recipe is shared, logged and kept with the run, and axolotl copies it into the model card "
    "on the Hub.",
)
REMOTE_CODE = Code(
    "R102",
    "remote-code",
    Severity.WARNING,
    "Whoever owns the repository can run code on your machine, with your tokens in its "
    "environment.",
)

_OURS = ("axolotl.", "launcher.")  # packages whose plugins are no foreign code


def secret_in_recipe(recipe: Recipe) -> Iterator[Diagnostic]:
    """A token or an API key stands in the recipe or in an override."""
    for path, value in _leaves(recipe.value):
        named = is_secret_name(path[-1]) and isinstance(value, str) and value
        if named or is_secret_value(value):
            hint = (
                f"put it into .env as {_variable(path[-1], value)} and delete it here; "
                "then make a new one: this one is known"
            )
            yield SECRET.at(_beside_name(recipe, path), f"{dotted(path)} holds a secret", hint)


def remote_code(recipe: Recipe) -> Iterator[Diagnostic]:
    """The recipe lets a model's or a data set's repository run its own code, or loads a plugin that
    is not axolotl's.
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
            yield REMOTE_CODE.at(recipe.key_span(*path), fact, hint)
        if path[0] == "plugins" and isinstance(value, str) and not value.startswith(_OURS):
            fact = f'plugin "{value}" is code from outside axolotl'
            hint = "make sure that you know what it does"
            yield REMOTE_CODE.at(recipe.value_span(*path), fact, hint)


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
