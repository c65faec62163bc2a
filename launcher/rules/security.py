"""Secrets in a recipe, and code that a recipe brings along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from launcher.diagnostics import Code, Diagnostic, Severity
from launcher.recipe import Recipe
from launcher.redact import is_secret_name, is_secret_value

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


def secret_in_recipe(recipe: Recipe) -> Iterator[Diagnostic]:
    """A token or an API key stands in the recipe or in an override."""
    for path, value in _leaves(recipe.value):
        named = is_secret_name(path[-1]) and isinstance(value, str) and value
        if named or is_secret_value(value):
            key = ".".join(path)
            hint = (
                f"put it into .env as {_variable(path[-1])} and delete it here; "
                "then make a new one: this one is known"
            )
            yield SECRET.at(recipe.value_span(*path), f"{key} holds a secret", hint)


def remote_code(recipe: Recipe) -> Iterator[Diagnostic]:
    """The recipe lets a model's or a data set's repository run its own code, or loads a plugin that
    is not axolotl's.
    """
    for path, value in _leaves(recipe.value):
        if path[-1] == "trust_remote_code" and value in (True, "true", 1):
            fact = f"{'.'.join(path)} runs Python code that comes with the repository"
            hint = (
                "delete the key if the architecture is part of transformers; "
                "otherwise pin revision_of_model to a commit"
            )
            yield REMOTE_CODE.at(recipe.key_span(*path), fact, hint)
        if (
            path[0] == "plugins"
            and isinstance(value, str)
            and not value.startswith(("axolotl.", "launcher."))
        ):
            fact = f'plugin "{value}" is code from outside axolotl'
            yield REMOTE_CODE.at(
                recipe.value_span(*path), fact, "make sure that you know what it does"
            )


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, (*path, str(key)))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _leaves(child, (*path, str(index)))
    elif path:
        yield path, value


def _variable(key: str) -> str:
    known = {
        "hub_token": "HF_TOKEN",
        "comet_api_key": "COMET_API_KEY",
        "wandb_api_key": "WANDB_API_KEY",
    }
    return known.get(key.lower(), key.upper())
