"""YAML 1.1, which PyYAML and so axolotl reads: numbers that are not the numbers one sees."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from launcher.diagnostics import Severity, write
from launcher.recipe import Recipe
from launcher.rules.rule import Finding, Findings, rule, scientific

# Free mappings: axolotl hands their values on as they are, with no type to convert them to.
FREE = (
    "lr_scheduler_kwargs",
    "optim_args",
    "model_kwargs",
    "gradient_checkpointing_kwargs",
    "trainer_kwargs",
)


@rule("Y201", "octal-number", Severity.WARNING)
def octal_number(recipe: Recipe) -> Findings:
    """A number with a leading zero is octal in YAML 1.1: 010 is 8.

    axolotl gets the 8 and trains with it, without a word.

    Example:

    ```yaml
    seed: 010
    ```

    Use instead:

    ```yaml
    seed: 10
    ```
    """
    for path, value in numbers(recipe.value):
        raw = recipe.written(recipe.value_span(*path))
        if (
            isinstance(value, int)
            and re.fullmatch(r"[-+]?0[0-7_]+", raw)
            and int(raw.replace("_", "")) != value
        ):
            span, decimal = recipe.value_span(*path), raw.lstrip("+-0") or "0"
            fact, fix = f"{raw} is read as {value}: a leading zero means octal", None
            if not raw.startswith("-"):
                fix = write(span, decimal, safe=False)
            yield Finding(span, fact, f"write {decimal}", fix=fix)


@rule("Y202", "number-in-base-60", Severity.ERROR)
def number_in_base_60(recipe: Recipe) -> Findings:
    """Digits with colons are a number in base 60 in YAML 1.1: 1:30 is 90.

    axolotl gets the 90: as epochs, sixty times what was meant.

    Example:

    ```yaml
    num_epochs: 1:30
    ```

    Use instead:

    ```yaml
    num_epochs: 1.5
    ```
    """
    for path, value in numbers(recipe.value):
        raw = recipe.written(recipe.value_span(*path))
        if re.fullmatch(r"[-+]?\d[\d_]*(:[0-5]?\d)+(\.\d*)?", raw):
            span = recipe.value_span(*path)
            fact = f"{raw} is read as {value:g}: digits with colons are a number in base 60"
            fix = write(span, f'"{raw}"', safe=False)
            yield Finding(span, fact, f'quote it if it is text: "{raw}"', fix=fix)


@rule("Y203", "number-as-text", Severity.ERROR)
def number_as_text(recipe: Recipe) -> Findings:
    """1e-5 without a point is text in YAML 1.1, and here nothing turns it into a number.

    axolotl converts its own keys; what stands in a free mapping reaches the optimizer or the
    scheduler as text, and the run dies after the model is loaded.

    Example:

    ```yaml
    lr_scheduler_kwargs: {min_lr: 1e-6}
    ```

    Use instead:

    ```yaml
    lr_scheduler_kwargs: {min_lr: 1.0e-6}
    ```
    """
    for key in FREE:
        given = recipe.value.get(key)
        for name, value in given.items() if isinstance(given, dict) else ():
            if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?e[-+]?\d+", value, re.I):
                span = recipe.value_span(key, str(name))
                if recipe.written(span) == value:  # not quoted: meant as a number
                    number = scientific(float(value))
                    fact = f"{value} is text here: a number needs a point and a sign"
                    fix = write(span, number, safe=float(number) == float(value))
                    yield Finding(span, fact, f"{name}: {number}", fix=fix)


def numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield every number of a recipe with its path."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from numbers(child, (*path, str(key)))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from numbers(child, (*path, str(index)))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value


RULES = (octal_number, number_in_base_60, number_as_text)
