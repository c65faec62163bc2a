"""Adapters: which there are, and what has to go with them."""

from __future__ import annotations

from launcher import facts
from launcher.diagnostics import Related, Severity, delete, write
from launcher.recipe import Recipe
from launcher.rules.names import integrations, misnamed
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.validator import is_on

LORA = ("lora", "qlora")


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


RULES = (
    unknown_adapter,
    lora_on_4bit,
    quantized_without_adapter,
    lora_kernels_in_preference_training,
    lora_keys_without_adapter,
)
