"""Several GPUs: DeepSpeed, FSDP, and what they do not get on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher.diagnostics import Related, Severity
from launcher.recipe import Recipe, located
from launcher.rules.files import exists, read_mapping
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


@rule("R807", "sharded-final-model", Severity.NOTE)
def sharded_final_model(recipe: Recipe) -> Findings:
    """The final model is saved in shards, and made whole by a merge of the last checkpoint.

    Without a checkpoint there is no model.safetensors at the end, and with one every GPU waits for
    the merge.

    Example:

    ```yaml
    fsdp_version: 2
    fsdp_config: {state_dict_type: SHARDED_STATE_DICT}
    ```

    Use instead:

    ```yaml
    fsdp_version: 2
    fsdp_config: {state_dict_type: SHARDED_STATE_DICT, final_state_dict_type: FULL_STATE_DICT}
    ```
    """
    config = recipe.value.get("fsdp_config")
    alone = recipe.value.get("adapter") and str(recipe.value.get("fsdp_version")) == "2"
    if not isinstance(config, dict) or alone:  # FSDP2 writes an adapter whole
        return
    plain = {str(key).removeprefix("fsdp_"): (key, value) for key, value in config.items()}
    key, final = plain.get("final_state_dict_type") or plain.get("state_dict_type") or ("", "")
    if final == "SHARDED_STATE_DICT":
        span = recipe.value_span("fsdp_config", str(key))
        hint = "add final_state_dict_type: FULL_STATE_DICT"
        yield Finding(span, "the final model is saved in shards", hint)


@rule("R808", "fsdp-with-8bit", Severity.ERROR)
def fsdp_with_8bit(recipe: Recipe) -> Findings:
    """FSDP2, and FSDP with offload, do not work with bitsandbytes' 8-bit optimizers.

    axolotl refuses the pair; torchao's ``adamw_torch_8bit`` works under FSDP2.

    Example:

    ```yaml
    optimizer: adamw_8bit
    fsdp_version: 2
    fsdp_config: {reshard_after_forward: true}
    ```

    Use instead:

    ```yaml
    optimizer: adamw_torch_fused
    fsdp_version: 2
    fsdp_config: {reshard_after_forward: true}
    ```
    """
    value = recipe.value
    config, optimizer = value.get("fsdp_config"), str(value.get("optimizer", ""))
    if not isinstance(config, dict) or not config:
        return
    version = value.get("fsdp_version") or config.get("fsdp_version") or config.get("version")
    offload = config.get("offload_params") or config.get("fsdp_offload_params")
    why = ""
    if str(version) == "2" and optimizer in ("adamw_8bit", "adamw_bnb_8bit"):
        why = "FSDP2"
    elif str(version) != "2" and offload and "8bit" in optimizer:
        why = "FSDP with offload"
    if why:
        fact = f"{optimizer} does not work with {why}"
        yield Finding(recipe.value_span("optimizer"), fact, "optimizer: adamw_torch_fused")


@rule("R809", "fsdp2-on-quantized", Severity.ERROR)
def fsdp2_on_quantized(recipe: Recipe) -> Findings:
    """Preference training of a quantized base does not work under FSDP2.

    axolotl refuses it. ZeRO-2 keeps the base whole on each GPU, and works.

    Example:

    ```yaml
    rl: dpo
    adapter: qlora
    load_in_4bit: true
    lora_target_linear: true
    fsdp_version: 2
    fsdp_config: {reshard_after_forward: true}
    ```

    Use instead:

    ```yaml
    rl: dpo
    adapter: qlora
    load_in_4bit: true
    lora_target_linear: true
    deepspeed: recipes/deepspeed/zero2.json
    ```
    """
    value = recipe.value
    bits = next((key for key in BITS if is_on(value.get(key))), "")
    if bits and value.get("fsdp_version") == 2 and value.get("rl") in ("dpo", "ipo", "kto", "orpo"):
        related = (Related("quantized here", recipe.key_span(bits)),)
        fact = f"FSDP2 with a quantized base under rl: {value['rl']}"
        hint = "use ZeRO-2: deepspeed: recipes/deepspeed/zero2.json"
        yield Finding(recipe.key_span("fsdp_version"), fact, hint, related)


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
    sharded_final_model,
    fsdp_with_8bit,
    fsdp2_on_quantized,
)
