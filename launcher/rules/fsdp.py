"""FSDP: what it does not get on with, and how it saves."""

from __future__ import annotations

from launcher.diagnostics import Related, Severity
from launcher.recipe import Recipe
from launcher.rules.distributed import BITS
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.validator import is_on


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


RULES = (
    sharded_final_model,
    fsdp_with_8bit,
    fsdp2_on_quantized,
)
