"""The objective: rates and betas that cannot be meant."""

from __future__ import annotations

from math import inf
from typing import Any

from launcher.diagnostics import Related, Severity
from launcher.recipe import Recipe
from launcher.rules.rule import Finding, Findings, number, rule, scientific

PREFERENCE = ("dpo", "ipo", "kto", "orpo", "simpo")
# What published recipes use, widely: (method is preference, has an adapter) -> lowest and highest.
USUAL = {
    (True, False): (5e-8, 5e-5),
    (True, True): (5e-7, 5e-4),
    (False, False): (5e-7, 1e-3),
    (False, True): (1e-6, 5e-3),
}
ONLINE = (1e-8, 1e-3)  # GRPO and its kin
# Optimizers whose rate is on another scale: 1.0 is the usual one for some of them.
OWN_SCALE = ("prodigy", "adafactor", "muon", "sgd", "adagrad")


@rule("R601", "learning-rate-off-by-orders", Severity.ERROR)
def learning_rate_off_by_orders(recipe: Recipe) -> Findings:
    """A learning rate of 0.1 or more, or of 0 or less, trains nothing or ruins the model.

    Nearly always the sign of the exponent is missing: 2e6 for 2e-6. axolotl takes any number; the
    loss goes to hundreds and the run ends with rc 0.

    Example:

    ```yaml
    learning_rate: 2.0e+6
    ```

    Use instead:

    ```yaml
    learning_rate: 2.0e-6
    ```
    """
    rate = number(recipe.value.get("learning_rate"))
    if rate is None or 0 < rate < 0.1:
        return
    name = str(recipe.value.get("optimizer"))
    if rate > 0 and ("schedule_free" in name or name in OWN_SCALE):
        return
    # 2e6 for 2e-6, 5 for 5e-6: the sign or the exponent is missing
    digits, _, power = scientific(rate).partition("e")
    hint = f"learning_rate: {digits}e-{power}" if 10 <= rate < inf else "learning_rate: 5.0e-6"
    yield Finding(recipe.value_span("learning_rate"), f"a learning rate of {rate:g}", hint)


@rule("R602", "unusual-learning-rate", Severity.WARNING)
def unusual_learning_rate(recipe: Recipe) -> Findings:
    """The learning rate is that of another method: of supervised training under DPO, or far too
    low.

    DPO moves a model that can already talk, so it takes a rate one to two orders below supervised
    fine-tuning; a LoRA takes about ten times the rate of a full fine-tune.

    Example:

    ```yaml
    rl: dpo
    learning_rate: 2.0e-4
    ```

    Use instead:

    ```yaml
    rl: dpo
    learning_rate: 5.0e-7
    ```
    """
    rate = number(recipe.value.get("learning_rate"))
    if rate is None or not 0 < rate < 0.1 or recipe.value.get("optimizer") in OWN_SCALE:
        return
    method = recipe.value.get("rl")
    adapter = bool(recipe.value.get("adapter"))
    low, high = USUAL[bool(method), adapter] if method in (*PREFERENCE, None) else ONLINE
    if low <= rate <= high:
        return
    what = str(method).upper() if method else "supervised fine-tuning"
    what += " with an adapter" if adapter else " of the full model"
    fact = f"a learning rate of {rate:g} is {'high' if rate > high else 'low'} for {what}"
    yield Finding(
        recipe.value_span("learning_rate"),
        fact,
        f"usual is {scientific(low)} to {scientific(high)}",
    )


@rule("R603", "beta-out-of-range", Severity.ERROR)
def beta_out_of_range(recipe: Recipe) -> Findings:
    """A beta of 0 or less teaches nothing: the loss stays at 0.6931 for ever.

    The run ends with rc 0 and the model that it began with, paid for in full.

    Example:

    ```yaml
    rl: dpo
    rl_beta: 0
    ```

    Use instead:

    ```yaml
    rl: dpo
    rl_beta: 0.1
    ```
    """
    if recipe.value.get("rl") not in PREFERENCE:
        return
    for path in (("rl_beta",), ("dpo_beta",), ("trl", "beta")):
        beta = number(_at(recipe.value, path))
        if beta is not None and beta <= 0:
            name = ".".join(path)
            yield Finding(recipe.value_span(*path), f"{name} is {beta:g}", f"{name}: 0.1")


def _at(value: Any, path: tuple[str, ...]) -> Any:
    """Return what stands at a path, none where nothing does."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


@rule("R606", "unusual-beta", Severity.WARNING)
def unusual_beta(recipe: Recipe) -> Findings:
    """A beta of several units holds the model where it is: the usual one is 0.1.

    It weighs how far the trained model may go from its reference; SimPO alone takes 2 to 10.

    Example:

    ```yaml
    rl: dpo
    rl_beta: 10
    ```

    Use instead:

    ```yaml
    rl: dpo
    rl_beta: 0.1
    ```
    """
    beta = number(recipe.value.get("rl_beta"))
    if beta is not None and beta > 2 and recipe.value.get("rl") in ("dpo", "ipo", "kto", "orpo"):
        fact = f"an rl_beta of {beta:g} is high for {str(recipe.value['rl']).upper()}"
        yield Finding(recipe.value_span("rl_beta"), fact, "usual is 0.01 to 0.5")


# dotted key -> least and greatest value, and whether the greatest itself is allowed: what torch,
# PEFT, accelerate and vLLM refuse beyond, or what cannot be a share.
RANGES = {
    "lora_dropout": (0, 1, False),
    "warmup_ratio": (0, 1, False),
    "weight_decay": (0, inf, False),
    "adam_beta1": (0, 1, False),
    "adam_beta2": (0, 1, False),
    "cosine_min_lr_ratio": (0, 1, True),
    "cosine_constant_lr_ratio": (0, 1, True),
    "dpo_label_smoothing": (0, 0.5, False),
    "fsdp_version": (1, 2, True),
    "fsdp_config.fsdp_version": (1, 2, True),
    "vllm.gpu_memory_utilization": (0, 1, True),
    "embedding_lr": (0, 0.1, False),
    "loraplus_lr_embedding": (0, 0.1, False),
}


@rule("R607", "out-of-range", Severity.ERROR)
def out_of_range(recipe: Recipe) -> Findings:
    """A share is not between 0 and 1, or a number is one that its reader refuses.

    axolotl has no bounds; torch, PEFT and accelerate stop at such a value after the model is
    loaded, and a warmup longer than the run never reaches the learning rate.

    Example:

    ```yaml
    warmup_ratio: 10
    ```

    Use instead:

    ```yaml
    warmup_ratio: 0.1
    ```
    """
    for key, (least, most, allowed) in RANGES.items():
        path = tuple(key.split("."))
        given = number(_at(recipe.value, path))
        if given is None or least <= given < most or (allowed and given == most):
            continue
        bound = f"at least {least}" if most == inf else f"{least} to {most:g}"
        fact = f"{key} is {given:g}"
        yield Finding(recipe.value_span(*path), fact, f"{bound} is possible")


@rule("R604", "not-positive", Severity.ERROR)
def not_positive(recipe: Recipe) -> Findings:
    """Sizes and counts have to be above 0; axolotl has no bounds and divides by them.

    ZeroDivisionError, after the data was prepared; or a run of no step at all, with rc 0.

    Example:

    ```yaml
    micro_batch_size: 0
    ```

    Use instead:

    ```yaml
    micro_batch_size: 1
    ```
    """
    for key in (
        "micro_batch_size",
        "gradient_accumulation_steps",
        "sequence_len",
        "num_epochs",
        "eval_batch_size",
    ):
        size = number(recipe.value.get(key))
        if size is not None and size <= 0:
            yield Finding(
                recipe.value_span(key),
                f"{key} is {size:g}",
                f"{key}: {2048 if key == 'sequence_len' else 1}",
            )


@rule("R605", "pretraining-with-held-out-rows", Severity.ERROR)
def pretraining_with_held_out_rows(recipe: Recipe) -> Findings:
    """A streamed ``pretraining_dataset`` has no length: nothing can be held out, and it needs
    steps.

    axolotl refuses ``val_set_size`` with it, and cannot know where the run ends without
    ``max_steps``.

    Example:

    ```yaml
    pretraining_dataset: [{path: HuggingFaceFW/fineweb-edu, type: pretrain}]
    max_steps: 1000
    val_set_size: 0.05
    eval_steps: 100
    ```

    Use instead:

    ```yaml
    pretraining_dataset: [{path: HuggingFaceFW/fineweb-edu, type: pretrain}]
    max_steps: 1000
    ```
    """
    if not recipe.value.get("pretraining_dataset"):
        return
    related = (Related("streamed here", recipe.key_span("pretraining_dataset")),)
    if recipe.value.get("val_set_size"):
        fact = "val_set_size does not work with a streamed data set"
        yield Finding(recipe.key_span("val_set_size"), fact, "val_set_size: 0", related)
    if not recipe.value.get("max_steps"):
        span = recipe.key_span("pretraining_dataset")
        yield Finding(span, "a streamed data set without max_steps", "add max_steps: 1000")


RULES = (
    learning_rate_off_by_orders,
    unusual_learning_rate,
    beta_out_of_range,
    not_positive,
    pretraining_with_held_out_rows,
    unusual_beta,
    out_of_range,
)
