"""Evaluating: what axolotl schedules, and what it silently does not."""

from __future__ import annotations

from launcher.diagnostics import Related, Severity
from launcher.recipe import Recipe
from launcher.rules.names import evaluates
from launcher.rules.rule import Finding, Findings, number, rule


@rule("R301", "evaluation-never-runs", Severity.ERROR)
def evaluation_never_runs(recipe: Recipe) -> Findings:
    """``evals_per_epoch`` x ``num_epochs`` is 1 or less, so no evaluation ever runs.

    axolotl turns the two into a share of the run, 1 / (evals_per_epoch x num_epochs), and sets it
    only if it is below 1 (normalize_config). At 1 it says nothing at all, and no eval_loss is ever
    logged.

    Example:

    ```yaml
    val_set_size: 0.05
    evals_per_epoch: 1
    num_epochs: 1
    ```

    Use instead:

    ```yaml
    val_set_size: 0.05
    eval_strategy: epoch
    num_epochs: 1
    ```
    """
    value = recipe.value
    per_epoch, epochs = number(value.get("evals_per_epoch")), number(value.get("num_epochs", 1))
    if not per_epoch or not epochs or per_epoch * epochs > 1 or value.get("eval_strategy"):
        return
    if value.get("val_set_size") or value.get("test_datasets"):
        fact = f"{per_epoch:g} evaluation an epoch x {epochs:g} epoch: axolotl never evaluates"
        hint = "replace the line: eval_strategy: epoch"
        yield Finding(recipe.key_span("evals_per_epoch"), fact, hint)


@rule("R302", "held-out-rows-not-evaluated", Severity.WARNING)
def held_out_rows_not_evaluated(recipe: Recipe) -> Findings:
    """Rows are held out, but no schedule evaluates them: they are lost to training for nothing.

    Without ``eval_steps``, ``evals_per_epoch`` or ``eval_strategy`` the trainer's strategy stays
    "no".

    Example:

    ```yaml
    val_set_size: 0.05
    ```

    Use instead:

    ```yaml
    val_set_size: 0.05
    eval_strategy: epoch
    ```
    """
    if evaluates(recipe):
        return
    for key in ("val_set_size", "test_datasets"):
        if recipe.value.get(key):
            fact = f"{key} holds rows out, and nothing evaluates them"
            hint = f"add eval_strategy: epoch, or delete {key} to train on all rows"
            yield Finding(recipe.key_span(key), fact, hint)


@rule("R303", "evaluation-without-rows", Severity.ERROR)
def evaluation_without_rows(recipe: Recipe) -> Findings:
    """An evaluation is scheduled, but no row is held out for it.

    axolotl refuses ``eval_steps`` and ``eval_strategy`` with ``val_set_size: 0``.

    Example:

    ```yaml
    val_set_size: 0
    eval_steps: 50
    ```

    Use instead:

    ```yaml
    val_set_size: 0.05
    eval_steps: 50
    ```
    """
    value = recipe.value
    if value.get("test_datasets") or number(value.get("val_set_size")) != 0:
        return
    for key in ("eval_steps", "eval_strategy"):
        if value.get(key) and value.get("eval_strategy") != "no":
            fact = f"{key} is set, but val_set_size is 0 and there are no test_datasets"
            related = (Related("held out here", recipe.value_span("val_set_size")),)
            yield Finding(recipe.key_span(key), fact, "set val_set_size: 0.05", related)


@rule("R304", "two-schedules", Severity.ERROR)
def two_schedules(recipe: Recipe) -> Findings:
    """Two keys that exclude each other schedule the same thing.

    axolotl refuses the recipe, with the first pair that it finds.

    Example:

    ```yaml
    save_steps: 50
    saves_per_epoch: 2
    ```

    Use instead:

    ```yaml
    saves_per_epoch: 2
    ```
    """
    value = recipe.value
    pairs = [
        ("saves_per_epoch", "save_steps", True),
        ("save_strategy", "save_steps", value.get("save_strategy") != "steps"),
        ("evals_per_epoch", "eval_steps", True),
        ("eval_strategy", "eval_steps", value.get("eval_strategy") != "steps"),
        ("eval_strategy", "evals_per_epoch", value.get("eval_strategy") != "steps"),
        ("test_datasets", "val_set_size", True),
        ("warmup_ratio", "warmup_steps", True),
        ("batch_size", "gradient_accumulation_steps", True),
    ]
    for first, second, exclusive in pairs:
        if value.get(first) and value.get(second) and exclusive:
            related = (Related(f"{second} is set here", recipe.key_span(second)),)
            fact = f"{first} and {second} exclude each other"
            yield Finding(recipe.key_span(first), fact, f"delete {first} or {second}", related)


@rule("R305", "early-stopping-without-steps", Severity.ERROR)
def early_stopping_without_steps(recipe: Recipe) -> Findings:
    """Early stopping needs ``save_steps`` and ``eval_steps``, the first a multiple of the second.

    axolotl refuses ``early_stopping_patience`` with schedules by epoch.

    Example:

    ```yaml
    val_set_size: 0.05
    evals_per_epoch: 4
    saves_per_epoch: 4
    early_stopping_patience: 3
    ```

    Use instead:

    ```yaml
    val_set_size: 0.05
    eval_steps: 50
    save_steps: 100
    early_stopping_patience: 3
    ```
    """
    value = recipe.value
    if not value.get("early_stopping_patience"):
        return
    span, hint = recipe.key_span("early_stopping_patience"), "save_steps a multiple of eval_steps"
    missing = [key for key in ("save_steps", "eval_steps") if not value.get(key)]
    save, evaluate = number(value.get("save_steps")), number(value.get("eval_steps"))
    if missing:
        fact = f"early_stopping_patience without {' and '.join(missing)}"
        yield Finding(span, fact, f"give both in steps, {hint}")
    elif save and evaluate and save % evaluate:
        fact = f"save_steps {save:g} is no multiple of eval_steps {evaluate:g}"
        yield Finding(recipe.value_span("save_steps"), fact, f"make {hint}")


@rule("R306", "row-count-in-preference-training", Severity.ERROR)
def row_count_in_preference_training(recipe: Recipe) -> Findings:
    """``val_set_size`` as a number of rows works in supervised fine-tuning only.

    Under ``rl`` it reaches train_test_split as it is, a float, and the run dies after the data
    was prepared: "should be a float in the (0, 1) range". 1 fails everywhere.

    Example:

    ```yaml
    rl: dpo
    val_set_size: 200
    eval_strategy: epoch
    ```

    Use instead:

    ```yaml
    rl: dpo
    val_set_size: 0.05
    eval_strategy: epoch
    ```
    """
    size = number(recipe.value.get("val_set_size"))
    if size is None or 0 <= size < 1 or (size > 1 and not recipe.value.get("rl")):
        return
    fact = f"val_set_size is {size:g}; here it has to be a share below 1"
    yield Finding(recipe.value_span("val_set_size"), fact, "val_set_size: 0.05 holds out 5 %")


RULES = (
    evaluation_never_runs,
    held_out_rows_not_evaluated,
    evaluation_without_rows,
    two_schedules,
    early_stopping_without_steps,
    row_count_in_preference_training,
)
