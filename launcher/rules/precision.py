"""Precision, attention and packing: what fits the card and the stack."""

from __future__ import annotations

import re

from launcher import facts
from launcher.diagnostics import Related, Severity
from launcher.recipe import BLOCK, Recipe
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.validator import is_on

# axolotl's old switches, each now a value of attn_implementation (normalize_attn_implementation).
SWITCHES = (
    "flash_attention",
    "sdp_attention",
    "xformers_attention",
    "flex_attention",
    "eager_attention",
    "sage_attention",
)
# How the kinds of GPU in `needs` begin, by what they cannot do.
BEFORE_AMPERE = ("v100", "t4")
BEFORE_ADA = (*BEFORE_AMPERE, "a100", "a40", "a6000", "a10g", "rtx3090")
HOPPER = ("h100", "h200", "b200")


@rule("R701", "packing-without-attention", Severity.WARNING)
def packing_without_attention(recipe: Recipe) -> Findings:
    """Packed samples see each other unless the attention keeps them apart.

    ``sample_packing`` puts several rows into one sequence. Without an ``attn_implementation`` that
    knows where each ends, a row attends to the row before it: no crash, a worse model.

    Example:

    ```yaml
    sample_packing: true
    ```

    Use instead:

    ```yaml
    sample_packing: true
    attn_implementation: flash_attention_2
    ```
    """
    value, name = recipe.value, recipe.value.get("attn_implementation")
    switched = any(is_on(value.get(key)) for key in SWITCHES)
    if not is_on(value.get("sample_packing")) or (switched and not name):
        return
    if not name:
        fact, hint = "packed samples attend to each other", "add attn_implementation"
        yield Finding(recipe.key_span("sample_packing"), fact, f"{hint}: flash_attention_2")
    elif isinstance(name, str) and re.split("[:@]", name)[0] not in facts.load().packing_attention:
        related = (Related("packed here", recipe.key_span("sample_packing")),)
        fact = f'attn_implementation "{name}" lets packed samples attend to each other'
        span = recipe.value_span("attn_implementation")
        yield Finding(span, fact, "attn_implementation: flash_attention_2", related)


@rule("R702", "packing-in-preference-training", Severity.ERROR)
def packing_in_preference_training(recipe: Recipe) -> Findings:
    """``sample_packing`` is for supervised fine-tuning; axolotl refuses it under ``rl``.

    Nothing is trained; ``eval_sample_packing`` it refuses under ``rl: kto`` alone.

    Example:

    ```yaml
    rl: dpo
    sample_packing: true
    attn_implementation: sdpa
    ```

    Use instead:

    ```yaml
    rl: dpo
    attn_implementation: sdpa
    ```
    """
    for key in ("sample_packing", "eval_sample_packing"):
        if (
            recipe.value.get("rl")
            and is_on(recipe.value.get(key))
            and (key == "sample_packing" or recipe.value["rl"] == "kto")
        ):
            yield Finding(recipe.key_span(key), f"{key} does not work under rl", f"{key}: false")


@rule("R703", "two-precisions", Severity.ERROR)
def two_precisions(recipe: Recipe) -> Findings:
    """``bf16`` and ``fp16`` are both on.

    The trainer refuses the pair after the model is loaded.

    Example:

    ```yaml
    bf16: true
    fp16: true
    ```

    Use instead:

    ```yaml
    bf16: true
    ```
    """
    if is_on(recipe.value.get("bf16")) and is_on(recipe.value.get("fp16")):
        related = (Related("bf16 is set here", recipe.key_span("bf16")),)
        yield Finding(recipe.key_span("fp16"), "bf16 and fp16 are both on", "delete fp16", related)


@rule("R704", "feature-of-a-newer-gpu", Severity.ERROR)
def feature_of_a_newer_gpu(recipe: Recipe) -> Findings:
    """The recipe asks for what the card that it needs cannot do.

    fp8 needs compute capability 8.9; FlashAttention 3 runs on Hopper only; bf16 and FlashAttention
    2 need Ampere. axolotl looks whether the package is there, not whether the GPU can run it.

    Example:

    ```yaml
    fp8: true
    x-recipe:
      title: fp8 on an A100
      method: sft
      needs: {gpu: a100-80gb, gpus: 1, disk: 50}
    ```

    Use instead:

    ```yaml
    bf16: true
    x-recipe:
      title: bf16 on an A100
      method: sft
      needs: {gpu: a100-80gb, gpus: 1, disk: 50}
    ```
    """
    gpu, value = str(recipe.block.get("needs", {}).get("gpu") or HOPPER[0]), recipe.value
    name = value.get("attn_implementation")
    related = (Related("needed here", recipe.value_span(BLOCK, "needs", "gpu")),)
    if gpu.startswith(BEFORE_AMPERE) and is_on(value.get("bf16")):
        yield Finding(recipe.key_span("bf16"), f"there is no bf16 on {gpu}", "fp16: true", related)
    if gpu.startswith(BEFORE_AMPERE) and name == "flash_attention_2":
        span = recipe.value_span("attn_implementation")
        fact = f"flash_attention_2 does not run on {gpu}"
        yield Finding(span, fact, "attn_implementation: sdpa", related)
    if gpu.startswith(BEFORE_ADA) and is_on(value.get("fp8")):
        yield Finding(recipe.key_span("fp8"), f"there is no fp8 on {gpu}", "bf16: true", related)
    newer = name in ("flash_attention_3", "flash_attention_4")
    if newer and not gpu.startswith((*HOPPER, "none")):
        fact = f"{name} does not run on {gpu}"
        span = recipe.value_span("attn_implementation")
        yield Finding(span, fact, "attn_implementation: flash_attention_2", related)


RULES = (
    packing_without_attention,
    packing_in_preference_training,
    two_precisions,
    feature_of_a_newer_gpu,
)
