"""LoRA: its layers, its rank, and the tokens that it trains."""

from __future__ import annotations

import re

from launcher.diagnostics import Related, Severity, write
from launcher.recipe import Recipe
from launcher.rules.adapter import LORA
from launcher.rules.rule import Finding, Findings, number, rule
from launcher.schema.validator import is_on
from launcher.schema.wording import cut

TARGETS = (
    "lora_target_linear",
    "lora_target_modules",
    "lora_target_parameters",
    "peft_target_parameters",
)


@rule("R503", "lora-without-targets", Severity.ERROR)
def lora_without_targets(recipe: Recipe) -> Findings:
    """LoRA needs to know which layers it adapts; nothing is assumed.

    The run dies after the model is loaded: "No `target_modules` passed".

    Example:

    ```yaml
    adapter: lora
    lora_r: 16
    ```

    Use instead:

    ```yaml
    adapter: lora
    lora_r: 16
    lora_target_linear: true
    ```
    """
    value = recipe.value
    named = is_on(value.get(TARGETS[0])) or any(value.get(key) for key in TARGETS[1:])
    if value.get("adapter") in LORA and not named:
        if value.get("lora_model_dir"):
            return  # the adapter that is loaded knows its own
        fact = f"adapter: {value['adapter']} names no layers"
        yield Finding(recipe.value_span("adapter"), fact, "add lora_target_linear: true")


@rule("R506", "lora-rank", Severity.ERROR)
def lora_rank(recipe: Recipe) -> Findings:
    """The rank of an adapter is a whole number above 0, and its alpha a number above 0.

    PEFT stops at a rank of 0 after the model is loaded; an alpha of 0 trains nothing.

    Example:

    ```yaml
    adapter: lora
    lora_r: 0
    lora_alpha: 16
    lora_target_linear: true
    ```

    Use instead:

    ```yaml
    adapter: lora
    lora_r: 16
    lora_alpha: 16
    lora_target_linear: true
    ```
    """
    if recipe.value.get("adapter") not in LORA:
        return
    for key in ("lora_r", "lora_alpha"):
        size = number(recipe.value.get(key))
        if size is not None and size <= 0:
            yield Finding(recipe.value_span(key), f"{key} is {size:g}", f"{key}: 16")


@rule("R507", "new-tokens-not-trained", Severity.ERROR)
def new_tokens_not_trained(recipe: Recipe) -> Findings:
    """``tokens`` adds rows to the embeddings, and the adapter does not train them.

    axolotl stops when the model is loaded: "`lora_modules_to_save` not properly set". Both modules
    are trained and saved in full, which takes memory; a token that the vocabulary has costs none.

    Example:

    ```yaml
    adapter: lora
    lora_target_linear: true
    tokens: ["<think>"]
    ```

    Use instead:

    ```yaml
    adapter: lora
    lora_target_linear: true
    tokens: ["<think>"]
    lora_modules_to_save: [embed_tokens, lm_head]
    ```
    """
    value = recipe.value
    if value.get("adapter") and value.get("tokens") and not value.get("lora_modules_to_save"):
        related = (Related("added here", recipe.key_span("tokens")),)
        fact = f"adapter: {value['adapter']} does not train the embeddings of new tokens"
        hint = "add lora_modules_to_save: [embed_tokens, lm_head]"
        yield Finding(recipe.value_span("adapter"), fact, hint, related)


@rule("R509", "lora-targets-as-text", Severity.ERROR)
def lora_targets_as_text(recipe: Recipe) -> Findings:
    """Several target modules in one text are one regular expression to PEFT: no layer matches.

    The run dies after the model is loaded: "Target modules ... not found in the base model".

    Example:

    ```yaml
    adapter: lora
    lora_target_modules: q_proj,v_proj
    ```

    Use instead:

    ```yaml
    adapter: lora
    lora_target_modules: [q_proj, v_proj]
    ```
    """
    for key in ("lora_target_modules", "lora_target_parameters"):
        given = recipe.value.get(key)
        if isinstance(given, str) and re.fullmatch(r"[\w.]+([ ,]+[\w.]+)+,?", given.strip()):
            span, names = recipe.value_span(key), ", ".join(re.split(r"[ ,]+", given.strip(", ")))
            fact = f'{key} is one text, "{cut(given)}", and no layer is called so'
            yield Finding(
                span, fact, f"{key}: [{names}]", fix=write(span, f"[{names}]", safe=False)
            )


RULES = (
    lora_without_targets,
    lora_rank,
    new_tokens_not_trained,
    lora_targets_as_text,
)
