"""Training on rewards: GRPO and its kin, and the block ``trl`` that only they read in full."""

from __future__ import annotations

from launcher.diagnostics import Related, Severity, delete
from launcher.recipe import Recipe
from launcher.rules.objective import PREFERENCE
from launcher.rules.rule import Finding, Findings, rule

ONLINE = ("grpo", "gdpo")


@rule("R651", "no-reward", Severity.ERROR)
def no_reward(recipe: Recipe) -> Findings:
    """GRPO has nothing to learn from without a reward: ``trl.reward_funcs`` names the functions.

    TRL stops when the trainer is built, after the model is loaded: "No reward source provided".

    Example:

    ```yaml
    rl: grpo
    trl: {num_generations: 4, max_completion_length: 256}
    gradient_accumulation_steps: 4
    ```

    Use instead:

    ```yaml
    rl: grpo
    trl: {num_generations: 4, max_completion_length: 256, reward_funcs: [rewards.correct]}
    gradient_accumulation_steps: 4
    ```
    """
    value = recipe.value
    if value.get("rl") not in ONLINE or value.get("plugins"):
        return  # a plugin may bring rewards of its own
    block = value.get("trl")
    given = block if isinstance(block, dict) else {}
    if not given.get("reward_funcs"):
        hint = "add to trl: reward_funcs: [module.function]"
        span = recipe.key_span("trl") if block else recipe.value_span("rl")
        yield Finding(span, f"rl: {value['rl']} without a reward function", hint)


@rule("R652", "reward-weights-mismatch", Severity.ERROR)
def reward_weights_mismatch(recipe: Recipe) -> Findings:
    """``trl.reward_weights`` has another number of entries than ``trl.reward_funcs``.

    TRL stops when the trainer is built, after the model is loaded.

    Example:

    ```yaml
    rl: grpo
    trl: {reward_funcs: [rewards.correct, rewards.short], reward_weights: [1.0]}
    ```

    Use instead:

    ```yaml
    rl: grpo
    trl: {reward_funcs: [rewards.correct, rewards.short], reward_weights: [1.0, 0.2]}
    ```
    """
    block = recipe.value.get("trl")
    if recipe.value.get("rl") not in ONLINE or not isinstance(block, dict):
        return
    functions, weights = block.get("reward_funcs"), block.get("reward_weights")
    if not isinstance(functions, list) or not isinstance(weights, list) or not weights:
        return
    if len(functions) != len(weights):
        related = (Related("weighed here", recipe.key_span("trl", "reward_funcs")),)
        fact = f"{len(weights)} reward_weights for {len(functions)} reward_funcs"
        span = recipe.key_span("trl", "reward_weights")
        yield Finding(span, fact, "give one weight a function", related)


@rule("R653", "trl-key-without-reader", Severity.WARNING)
def trl_key_without_reader(recipe: Recipe) -> Findings:
    """Of the block ``trl``, preference training reads ``beta`` alone; the rest has no effect.

    The block is TRL's configuration of GRPO. What DPO and its kin take stands at the top level.

    Example:

    ```yaml
    rl: dpo
    trl: {max_completion_length: 512}
    ```

    Use instead:

    ```yaml
    rl: dpo
    sequence_len: 4096
    ```
    """
    block = recipe.value.get("trl")
    if recipe.value.get("rl") not in PREFERENCE or not isinstance(block, dict):
        return
    for key, value in block.items():
        if key != "beta" and value not in (None, False, [], {}):
            span, fact = recipe.key_span("trl", str(key)), f"nothing reads trl.{key} under rl: "
            fix = delete(span, safe=False)
            yield Finding(span, f"{fact}{recipe.value['rl']}", "delete the line", fix=fix)


RULES = (no_reward, reward_weights_mismatch, trl_key_without_reader)
