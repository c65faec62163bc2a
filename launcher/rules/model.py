"""The model: where it is."""

from __future__ import annotations

import re

from launcher.diagnostics import Severity
from launcher.files import exists
from launcher.recipe import Recipe
from launcher.rules.hub import is_repository
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.wording import cut

KEYS = ("base_model", "base_model_config", "tokenizer_config")
_HUB = re.compile(r"^(https?://)?(www\.)?(huggingface\.co|hf\.co)/")


@rule("R016", "illegal-model-id", Severity.ERROR)
def illegal_model_id(recipe: Recipe) -> Findings:
    """The model is neither a folder here nor a name that the Hub allows: ``owner/name``.

    transformers takes a folder or a name, no address, no blanks. The run dies when the config of
    the model is looked for.

    Example:

    ```yaml
    base_model: https://huggingface.co/Qwen/Qwen2.5-3B-Instruct
    ```

    Use instead:

    ```yaml
    base_model: Qwen/Qwen2.5-3B-Instruct
    ```
    """
    for key, name in _missing(recipe):
        if not _is_path(name) and not is_repository(name):
            plain = "/".join(_HUB.sub("", name).split("/")[:2])
            hint = f"{key}: {plain}" if is_repository(plain) else "write owner/name"
            fact = f'"{cut(name)}" is no folder here and no name on the Hub'
            yield Finding(recipe.value_span(key), fact, hint)


@rule("R017", "model-not-here", Severity.WARNING)
def model_not_here(recipe: Recipe) -> Findings:
    """A path to a model leads nowhere here: right only if an earlier step, or another machine, has
    it.

    Relative paths count from the working directory, not from the recipe. The run dies when the
    config of the model is looked for.

    Example:

    ```yaml
    base_model: ./no-such-model
    ```

    Use instead:

    ```yaml
    base_model: Qwen/Qwen2.5-3B-Instruct
    ```
    """
    for key, name in _missing(recipe):
        if _is_path(name):
            hint = "relative paths start at the working directory; on the Hub: owner/name"
            yield Finding(recipe.value_span(key), f'no folder "{cut(name)}" here', hint)


def _missing(recipe: Recipe) -> list[tuple[str, str]]:
    """Return each key with its model where that is no folder here."""
    named = [(key, recipe.value.get(key)) for key in KEYS]
    return [
        (key, name)
        for key, name in named
        if isinstance(name, str)
        and name
        and "$" not in name
        and not name.startswith("~/")
        and not exists(name)
    ]


def _is_path(name: str) -> bool:
    plain = not re.search(r"[\s<>:]", name)
    return plain and (name.startswith(("/", "./", "../")) or name.count("/") > 1)


RULES = (illegal_model_id, model_not_here)
