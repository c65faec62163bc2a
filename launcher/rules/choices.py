"""Values of which what reads them knows few, while axolotl takes any text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from launcher import facts
from launcher.diagnostics import Severity, write
from launcher.recipe import Recipe
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.nearest import is_certain, nearest_key
from launcher.schema.validator import is_on
from launcher.schema.wording import cut

_MODELS = {"type_of_model": "model_type"}  # the name under which axolotl keeps the key
_LIKE = 0.85


@rule("R014", "unknown-choice", Severity.ERROR)
def unknown_choice(recipe: Recipe) -> Findings:
    """The value is none of those that transformers, TRL, PEFT or wandb know for this key.

    axolotl hands any text on; the run dies after the data is prepared or the model is loaded.

    Example:

    ```yaml
    hub_model_id: my-org/model
    hub_strategy: every-save
    ```

    Use instead:

    ```yaml
    hub_model_id: my-org/model
    hub_strategy: end
    ```
    """
    for key, known in facts.load().choices.items():
        for path, value in _texts(recipe, tuple(key.split("."))):
            if value in known or any(value.startswith(start) for start in _starts(known)):
                continue
            span, near = recipe.value_span(*path), nearest_key(value, known, cutoff=0.6)
            fact = f'{key} is "{cut(value)}"; known are {", ".join(known)}'
            fix = write(span, near, safe=is_certain(value, near, known)) if near else None
            yield Finding(span, fact, f'did you mean "{near}"?' if near else "", fix=fix)


def _starts(known: tuple[str, ...]) -> Iterator[str]:
    """Yield the starts that stand for any number after them: pissa_niter_[number of iters]."""
    yield from (name.partition("[")[0] for name in known if "[" in name)


def _texts(recipe: Recipe, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the text at a path, or each of the list there, with its path."""
    value: Any = recipe.value.get(path[0])
    for part in path[1:]:
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, list):
        yield from (((*path, str(i)), one) for i, one in enumerate(value) if isinstance(one, str))
    elif isinstance(value, str) and value and value.lower() not in ("true", "false"):
        yield path, value


@rule("R015", "unknown-class", Severity.ERROR)
def unknown_class(recipe: Recipe) -> Findings:
    """transformers has no class of this name for the model, the tokenizer or the processor.

    axolotl asks transformers for it when it loads the model; without the key, the class is taken
    from the model's own config, which is right nearly always.

    Example:

    ```yaml
    model_type: LlamaForCausalLm
    ```

    Use instead:

    ```yaml
    model_type: LlamaForCausalLM
    ```
    """
    for key in ("model_type", "type_of_model", "tokenizer_type", "processor_type"):
        name, kind = recipe.value.get(key), _MODELS.get(key, key)
        known = facts.load().classes[kind]
        if not isinstance(name, str) or not name or name in known:
            continue
        if kind == "model_type" and (
            is_on(recipe.value.get("trust_remote_code")) or is_on(recipe.value.get("gptq"))
        ):
            continue  # the class is not asked for
        near = nearest_key(name, known, cutoff=_LIKE)
        if near or re.search(r"(ForCausalLM|LMHeadModel|Tokenizer|Processor)$", name, re.I):
            span = recipe.value_span(key)
            hint = f'did you mean "{near}"?' if near else f"delete the line: {key} is found out"
            fix = write(span, near, safe=is_certain(name, near, known)) if near else None
            yield Finding(span, f'transformers has no class "{cut(name)}"', hint, fix=fix)


RULES = (unknown_choice, unknown_class)
