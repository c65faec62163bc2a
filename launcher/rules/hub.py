"""The Hub, trackers, and the folders that a run writes to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from launcher.diagnostics import Severity, delete
from launcher.recipe import Recipe
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.validator import is_on

# huggingface_hub/utils/_validators.py: letters, digits, '-', '_', '.'; one slash at most; 96
# letters.
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
# ${NAME}, $NAME, $name at the start of a part of a path, %NAME%.
_VARIABLE = re.compile(r"\$\{\w+\}|\$[A-Z_]{2,}\b|(^|[/\\])\$[A-Za-z_]\w*|%[A-Z_]{3,}%")
REPOSITORY = re.compile(rf"^(?:{_PART}/)?{_PART}$")


@rule("R901", "illegal-hub-id", Severity.ERROR)
def illegal_hub_id(recipe: Recipe) -> Findings:
    """``hub_model_id`` is no name that the Hub allows: ``owner/name``, no blanks, one slash.

    The run dies after the model is loaded: HFValidationError.

    Example:

    ```yaml
    hub_model_id: my org/new model
    hub_strategy: end
    ```

    Use instead:

    ```yaml
    hub_model_id: my-org/new-model
    hub_strategy: end
    ```
    """
    name = recipe.value.get("hub_model_id")
    if isinstance(name, str) and name and not is_repository(name):
        words = re.sub(r"[^A-Za-z0-9._/-]+", "-", name).strip("-/.")
        hint = f"hub_model_id: {words}" if is_repository(words) else "write owner/name"
        yield Finding(recipe.value_span("hub_model_id"), f'"{name}" is no name on the Hub', hint)


def is_repository(name: str) -> bool:
    """Return whether the Hub would allow a repository of this name."""
    return (
        bool(REPOSITORY.match(name)) and len(name) <= 96 and "--" not in name and ".." not in name
    )


@rule("R902", "every-checkpoint-uploaded", Severity.WARNING)
def every_checkpoint_uploaded(recipe: Recipe) -> Findings:
    """With ``hub_model_id`` every checkpoint is uploaded while the GPU waits.

    ``hub_strategy`` is every_save unless it is set; and the repository is made private, whatever
    else is said.

    Example:

    ```yaml
    hub_model_id: my-org/new-model
    ```

    Use instead:

    ```yaml
    hub_model_id: my-org/new-model
    hub_strategy: end
    ```
    """
    if recipe.value.get("hub_model_id") and not recipe.value.get("hub_strategy"):
        fact = "every checkpoint is uploaded while the GPU is held"
        yield Finding(recipe.key_span("hub_model_id"), fact, "add hub_strategy: end")


@rule("R903", "push-without-token", Severity.ERROR)
def push_without_token(recipe: Recipe) -> Findings:
    """``push_dataset_to_hub`` needs ``hf_use_auth_token: true``; axolotl refuses it otherwise.

    The token itself comes from HF_TOKEN, never from the recipe.

    Example:

    ```yaml
    push_dataset_to_hub: my-org/prepared
    ```

    Use instead:

    ```yaml
    push_dataset_to_hub: my-org/prepared
    hf_use_auth_token: true
    ```
    """
    if recipe.value.get("push_dataset_to_hub") and not is_on(recipe.value.get("hf_use_auth_token")):
        fact = "push_dataset_to_hub without hf_use_auth_token"
        yield Finding(recipe.key_span("push_dataset_to_hub"), fact, "add hf_use_auth_token: true")


@rule("R904", "unexpanded-variable", Severity.ERROR)
def unexpanded_variable(recipe: Recipe) -> Findings:
    """axolotl expands neither ``${VARIABLE}`` nor ``~``: a folder of that very name is made.

    It lies in the working directory, on a rented machine often on the small container disk.

    Example:

    ```yaml
    output_dir: ${HOME}/out
    ```

    Use instead:

    ```yaml
    output_dir: /workspace/out
    ```
    """
    for path, value in texts(recipe.settings):
        if path[-1] in ("chat_template_jinja", "format", "prompt_format") or "\n" in value:
            continue
        if _VARIABLE.search(value) or value.startswith("~/"):
            fact = f'"{value}" is taken as it stands, nothing is expanded'
            yield Finding(recipe.value_span(*path), fact, "write the path out")


@rule("R905", "strict-drops-overrides", Severity.WARNING)
def strict_drops_overrides(recipe: Recipe) -> Findings:
    """``strict: true`` does not forbid unknown keys; it drops axolotl's command-line overrides.

    An override of a key that the file does not have is ignored without a word.

    Example:

    ```yaml
    strict: true
    ```

    Use instead:

    ```yaml
    strict: false
    ```
    """
    if is_on(recipe.value.get("strict")):
        fact = "strict: true checks nothing; it drops overrides of keys that are not in the file"
        span = recipe.key_span("strict")
        yield Finding(span, fact, "delete the line", fix=delete(span, safe=False))


def texts(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every text of a recipe with its path."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from texts(child, (*path, str(key)))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from texts(child, (*path, str(index)))
    elif isinstance(value, str) and path:
        yield path, value


RULES = (
    illegal_hub_id,
    every_checkpoint_uploaded,
    push_without_token,
    unexpanded_variable,
    strict_drops_overrides,
)
