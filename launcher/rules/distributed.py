"""Several GPUs: DeepSpeed, and what it does not get on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher.diagnostics import Related, Severity
from launcher.files import exists, read_mapping
from launcher.recipe import Recipe, located
from launcher.rules.objective import PREFERENCE
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.validator import is_on
from launcher.source import MAX_BYTES

BITS = ("load_in_4bit", "load_in_8bit")


@rule("R801", "deepspeed-and-fsdp", Severity.ERROR)
def deepspeed_and_fsdp(recipe: Recipe) -> Findings:
    """``deepspeed`` and ``fsdp_config`` exclude each other; axolotl takes FSDP without a word.

    Its check looks only at the old key ``fsdp`` (prepare_optim_env).

    Example:

    ```yaml
    deepspeed: {zero_optimization: {stage: 2}}
    fsdp_config: {reshard_after_forward: true}
    ```

    Use instead:

    ```yaml
    deepspeed: {zero_optimization: {stage: 2}}
    ```
    """
    for key in ("fsdp_config", "fsdp"):
        if recipe.value.get("deepspeed") and recipe.value.get(key):
            related = (Related("this one is used", recipe.key_span(key)),)
            fact = f"deepspeed has no effect beside {key}"
            yield Finding(recipe.key_span("deepspeed"), fact, "delete one of the two", related)


@rule("R802", "zero3-on-quantized", Severity.ERROR)
def zero3_on_quantized(recipe: Recipe) -> Findings:
    """ZeRO-3 cannot shard a base that bitsandbytes quantized.

    The run dies when the model is loaded: "size torch.Size([0])".

    Example:

    ```yaml
    adapter: qlora
    load_in_4bit: true
    lora_target_linear: true
    deepspeed: {zero_optimization: {stage: 3}}
    ```

    Use instead:

    ```yaml
    adapter: qlora
    load_in_4bit: true
    lora_target_linear: true
    deepspeed: {zero_optimization: {stage: 2}}
    ```
    """
    bits = next((key for key in BITS if is_on(recipe.value.get(key))), "")
    if bits and _stage(recipe) == 3:
        related = (Related("quantized here", recipe.key_span(bits)),)
        hint = "use ZeRO-2: deepspeed: recipes/deepspeed/zero2.json"
        yield Finding(recipe.key_span("deepspeed"), "ZeRO-3 with a quantized base", hint, related)


@rule("R803", "deepspeed-config-missing", Severity.ERROR)
def deepspeed_config_missing(recipe: Recipe) -> Findings:
    """The DeepSpeed config is not where the recipe says, or is no JSON.

    axolotl then starts without DeepSpeed's settings and dies of something else: "environment
    variable MASTER_ADDR expected".

    Example:

    ```yaml
    deepspeed: deepspeed_configs/zero9.json
    ```

    Use instead:

    ```yaml
    deepspeed: recipes/deepspeed/zero2.json
    ```
    """
    name = recipe.value.get("deepspeed")
    if isinstance(name, str) and name and _config(recipe) is None:
        hint = "shipped are recipes/deepspeed/zero1.json, zero2.json and zero3.json"
        fact = f'"{name}" cannot be read as JSON' if exists(_file(name)) else f'no file "{name}"'
        yield Finding(recipe.value_span("deepspeed"), fact, hint)


@rule("R804", "deepspeed-precision", Severity.ERROR)
def deepspeed_precision(recipe: Recipe) -> Findings:
    """The precision in the DeepSpeed config contradicts the recipe's.

    DeepSpeed trains in its own precision; with both set, mixed dtypes end the run.

    Example:

    ```yaml
    bf16: true
    deepspeed: {fp16: {enabled: true}, zero_optimization: {stage: 2}}
    ```

    Use instead:

    ```yaml
    bf16: true
    deepspeed: {bf16: {enabled: auto}, zero_optimization: {stage: 2}}
    ```
    """
    config = _config(recipe) or {}
    for key, other in (("fp16", "bf16"), ("bf16", "fp16")):
        block = config.get(key)
        if (
            isinstance(block, dict)
            and block.get("enabled") is True
            and is_on(recipe.value.get(other))
        ):
            related = (Related("set here", recipe.key_span(other)),)
            fact = f"the DeepSpeed config turns {key} on, the recipe {other}"
            yield Finding(
                recipe.value_span("deepspeed"),
                fact,
                f'write "{key}": {{"enabled": "auto"}}',
                related,
            )


@rule("R805", "reentrant-checkpointing", Severity.WARNING)
def reentrant_checkpointing(recipe: Recipe) -> Findings:
    """Reentrant checkpointing breaks preference training with LoRA on several GPUs.

    "Expected to mark a variable ready only once", in the first step. axolotl refuses it only for
    QLoRA.

    Example:

    ```yaml
    rl: dpo
    adapter: lora
    lora_target_linear: true
    gradient_checkpointing: true
    gradient_checkpointing_kwargs: {use_reentrant: true}
    ```

    Use instead:

    ```yaml
    rl: dpo
    adapter: lora
    lora_target_linear: true
    gradient_checkpointing: true
    gradient_checkpointing_kwargs: {use_reentrant: false}
    ```
    """
    value = recipe.value
    given = value.get("gradient_checkpointing_kwargs")
    reentrant = isinstance(given, dict) and is_on(given.get("use_reentrant"))
    if (
        value.get("rl") in PREFERENCE
        and value.get("adapter")
        and value.get("gradient_checkpointing")
        and reentrant
    ):
        span = recipe.value_span("gradient_checkpointing_kwargs", "use_reentrant")
        yield Finding(
            span, "use_reentrant: true breaks this on several GPUs", "use_reentrant: false"
        )


@rule("R806", "zero3-reference-model", Severity.NOTE)
def zero_with_reference_model(recipe: Recipe) -> Findings:
    """Full preference training under ZeRO-3 holds a second, frozen model beside the first.

    DeepSpeed wraps it as well, without an optimizer; precomputing its log-probabilities removes it
    and its memory.

    Example:

    ```yaml
    rl: dpo
    deepspeed: {zero_optimization: {stage: 3}}
    ```

    Use instead:

    ```yaml
    rl: dpo
    precompute_ref_log_probs: true
    deepspeed: {zero_optimization: {stage: 3}}
    ```
    """
    value = recipe.value
    held = value.get("rl") in ("dpo", "ipo", "kto") and not value.get("adapter")
    if held and _stage(recipe) == 3 and not value.get("precompute_ref_log_probs"):
        fact = "the reference model is held beside the trained one"
        yield Finding(recipe.key_span("deepspeed"), fact, "add precompute_ref_log_probs: true")


def _stage(recipe: Recipe) -> int:
    zero = (_config(recipe) or {}).get("zero_optimization")
    stage = zero.get("stage") if isinstance(zero, dict) else None
    return stage if isinstance(stage, int) else 0


def _file(name: str) -> Path:
    return Path(located(name))


def _config(recipe: Recipe) -> dict[str, Any] | None:
    """Return the DeepSpeed config, from the recipe or its file; none where it cannot be read."""
    given = recipe.value.get("deepspeed")
    if isinstance(given, dict):
        return given
    if not isinstance(given, str) or not given:
        return {}
    return read_mapping(_file(given), MAX_BYTES)


RULES = (
    deepspeed_and_fsdp,
    zero3_on_quantized,
    deepspeed_config_missing,
    deepspeed_precision,
    reentrant_checkpointing,
    zero_with_reference_model,
)
