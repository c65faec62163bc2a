"""Adapters: LoRA, QLoRA, and what has to go with them."""

from __future__ import annotations

import re

from launcher import facts
from launcher.diagnostics import Related, Severity, delete, write
from launcher.recipe import Recipe
from launcher.rules.names import integrations, misnamed
from launcher.rules.rule import Finding, Findings, number, rule
from launcher.schema.validator import is_on
from launcher.schema.wording import cut

LORA = ("lora", "qlora")
TARGETS = (
    "lora_target_linear",
    "lora_target_modules",
    "lora_target_parameters",
    "peft_target_parameters",
)


@rule("R508", "unknown-adapter", Severity.ERROR)
def unknown_adapter(recipe: Recipe) -> Findings:
    """The adapter is none of axolotl's, nor one that a listed plugin brings.

    axolotl takes any text here; the run dies after the model is loaded: "is not built in and was
    not registered by a plugin".

    Example:

    ```yaml
    adapter: lorra
    lora_target_linear: true
    ```

    Use instead:

    ```yaml
    adapter: lora
    lora_target_linear: true
    ```
    """
    name, known = recipe.value.get("adapter"), facts.load()
    listed = integrations(recipe)
    if not isinstance(name, str) or not name:
        return
    if name not in known.adapters:
        if len(listed) == len(recipe.value.get("plugins") or []):  # one of the user's may bring it
            fact = f'no adapter is called "{name}"'
            yield misnamed(recipe.value_span("adapter"), fact, name, known.adapters)
    elif (owner := known.adapters[name]) and owner not in listed:
        fact, plugin = f"adapter: {name} without its plugin", known.plugins[owner].full_name
        yield Finding(recipe.value_span("adapter"), fact, f"add to plugins: {plugin}")


@rule("R501", "lora-on-4bit", Severity.WARNING)
def lora_on_4bit(recipe: Recipe) -> Findings:
    """``adapter: lora`` ignores ``load_in_4bit``: the base is loaded in 16 bits, four times as big.

    axolotl builds the 4-bit config only for ``adapter: qlora`` (loaders/model.py), so the run goes
    out of memory, or costs more than it should.

    Example:

    ```yaml
    adapter: lora
    load_in_4bit: true
    lora_target_linear: true
    ```

    Use instead:

    ```yaml
    adapter: qlora
    load_in_4bit: true
    lora_target_linear: true
    ```
    """
    if recipe.value.get("adapter") == "lora" and is_on(recipe.value.get("load_in_4bit")):
        related = (Related("asked for here", recipe.key_span("load_in_4bit")),)
        fact = "adapter: lora loads the base in 16 bits, load_in_4bit has no effect"
        span = recipe.value_span("adapter")
        fix = write(span, "qlora", safe=False)
        yield Finding(span, fact, "adapter: qlora", related, fix)


@rule("R502", "quantized-without-adapter", Severity.ERROR)
def quantized_without_adapter(recipe: Recipe) -> Findings:
    """``qlora`` goes with ``load_in_4bit: true``, and a quantized base goes with an adapter.

    axolotl refuses the rest: quantized weights cannot be trained themselves.

    Example:

    ```yaml
    adapter: qlora
    lora_target_linear: true
    ```

    Use instead:

    ```yaml
    adapter: qlora
    load_in_4bit: true
    lora_target_linear: true
    ```
    """
    value = recipe.value
    if value.get("adapter") == "qlora":
        if is_on(value.get("load_in_8bit")):
            fact = "adapter: qlora with load_in_8bit"
            yield Finding(recipe.key_span("load_in_8bit"), fact, "load_in_4bit: true")
        elif not is_on(value.get("load_in_4bit")) and not value.get("gptq"):
            fact = "adapter: qlora without load_in_4bit"
            yield Finding(recipe.value_span("adapter"), fact, "add load_in_4bit: true")
    for key in ("load_in_4bit", "load_in_8bit"):
        if is_on(value.get(key)) and not value.get("adapter") and not value.get("inference"):
            fact = f"{key} without an adapter: quantized weights cannot be trained"
            yield Finding(recipe.key_span(key), fact, f"add adapter: qlora, or delete {key}")


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


@rule("R504", "lora-kernels-in-preference-training", Severity.ERROR)
def lora_kernels_in_preference_training(recipe: Recipe) -> Findings:
    """The LoRA kernels do not work under ``rl``: the run dies after the model is loaded.

    "Model must be a PeftModelForCausalLM". axolotl turns them on by itself only where they work.

    Example:

    ```yaml
    rl: dpo
    adapter: lora
    lora_target_linear: true
    lora_mlp_kernel: true
    ```

    Use instead:

    ```yaml
    rl: dpo
    adapter: lora
    lora_target_linear: true
    ```
    """
    if not recipe.value.get("rl"):
        return
    for key in ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel"):
        if is_on(recipe.value.get(key)):
            span, fact = recipe.key_span(key), f"{key} does not work under rl"
            yield Finding(span, fact, "delete the line", fix=delete(span, safe=False))


@rule("R505", "lora-keys-without-adapter", Severity.WARNING)
def lora_keys_without_adapter(recipe: Recipe) -> Findings:
    """LoRA settings without ``adapter`` do nothing: every weight is trained.

    The run takes several times the memory, or changes the whole model.

    Example:

    ```yaml
    lora_r: 16
    lora_target_linear: true
    ```

    Use instead:

    ```yaml
    adapter: lora
    lora_r: 16
    lora_target_linear: true
    ```
    """
    if recipe.value.get("adapter") or recipe.value.get("lora_model_dir"):
        return
    for key in ("lora_r", "lora_target_linear", "lora_target_modules"):
        if recipe.value.get(key):
            fact = f"{key} without adapter: the whole model is trained"
            yield Finding(recipe.key_span(key), fact, "add adapter: lora")
            return


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
    unknown_adapter,
    lora_on_4bit,
    quantized_without_adapter,
    lora_without_targets,
    lora_kernels_in_preference_training,
    lora_keys_without_adapter,
    lora_rank,
    new_tokens_not_trained,
    lora_targets_as_text,
)
