"""Evaluating and saving: what axolotl schedules, and what it silently does not."""

from __future__ import annotations

from launcher.diagnostics import Related, Severity
from launcher.recipe import Recipe
from launcher.rules.names import evaluates
from launcher.rules.rule import Finding, Findings, number, rule
from launcher.schema.validator import is_on


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


@rule("R307", "checkpoints-vanish", Severity.NOTE)
def checkpoints_vanish(recipe: Recipe) -> Findings:
    """Only the last four checkpoints are kept unless ``save_total_limit`` says otherwise.

    0 means four as well (core/builders/base.py). The checkpoint before overfitting may be gone.

    Example:

    ```yaml
    saves_per_epoch: 4
    num_epochs: 3
    ```

    Use instead:

    ```yaml
    saves_per_epoch: 4
    num_epochs: 3
    save_total_limit: 12
    ```
    """
    value = recipe.value
    per_epoch, epochs = number(value.get("saves_per_epoch")), number(value.get("num_epochs", 1))
    key, limit = "saves_per_epoch", number(value.get("save_total_limit"))
    if limit == 0:
        fact, hint = "save_total_limit: 0 keeps the last 4", "save_total_limit: 1"
        yield Finding(recipe.value_span("save_total_limit"), fact, hint)
        return
    if per_epoch is None and not value.get("save_steps"):
        per_epoch, key = float(value.get("save_strategy") == "epoch"), "save_strategy"
    if limit or not per_epoch or not epochs or per_epoch * epochs <= 4 or value.get("max_steps"):
        return
    fact = f"{per_epoch * epochs:g} checkpoints are written, the last 4 are kept"
    hint = f"save_total_limit: {per_epoch * epochs:.0f} keeps all, 1 saves disk"
    yield Finding(recipe.key_span(key), fact, hint)


@rule("R308", "smoke-test-left-in", Severity.WARNING)
def smoke_test_left_in(recipe: Recipe) -> Findings:
    """``max_steps`` wins over ``num_epochs``: what was set for a quick try ends the real run.

    The run stops after those steps with rc 0, the schedule of the learning rate included.

    Example:

    ```yaml
    num_epochs: 3
    max_steps: 10
    ```

    Use instead:

    ```yaml
    num_epochs: 3
    ```
    """
    steps = number(recipe.value.get("max_steps"))
    streamed = recipe.value.get("pretraining_dataset") or recipe.value.get("streaming")
    if steps and steps > 0 and recipe.value.get("num_epochs") and not streamed:
        related = (Related("without effect", recipe.key_span("num_epochs")),)
        fact = f"the run ends after {steps:g} steps, whatever num_epochs says"
        yield Finding(
            recipe.key_span("max_steps"), fact, "delete max_steps, or num_epochs", related
        )


@rule("R309", "metric-for-best-missing", Severity.ERROR)
def metric_for_best_missing(recipe: Recipe) -> Findings:
    """``save_strategy: best`` needs to know which metric is best; axolotl refuses it otherwise.

    It also needs an evaluation schedule, to have something to compare.

    Example:

    ```yaml
    save_strategy: best
    ```

    Use instead:

    ```yaml
    save_strategy: best
    metric_for_best_model: eval_loss
    ```
    """
    if recipe.value.get("save_strategy") == "best" and not recipe.value.get(
        "metric_for_best_model"
    ):
        hint = "add metric_for_best_model: eval_loss"
        yield Finding(recipe.value_span("save_strategy"), "no metric says which one is best", hint)


@rule("R310", "steps-not-whole", Severity.ERROR)
def steps_not_whole(recipe: Recipe) -> Findings:
    """A number of steps above 1 is a count, and has to be whole; below 1 it is a share of the run.

    axolotl takes 1.5, and the trainer stops at it after the model is loaded.

    Example:

    ```yaml
    save_steps: 1.5
    ```

    Use instead:

    ```yaml
    save_steps: 0.5
    ```
    """
    for key in ("save_steps", "eval_steps"):
        steps = number(recipe.value.get(key))
        if steps and steps > 1 and not steps.is_integer():
            fact = f"{key} is {steps:g}, neither a count nor a share"
            yield Finding(recipe.value_span(key), fact, f"{key}: {steps:.0f}")


@rule("R311", "best-model-not-loaded", Severity.WARNING)
def best_model_not_loaded(recipe: Recipe) -> Findings:
    """``load_best_model_at_end`` has no effect unless checkpoints and evaluations go together.

    axolotl turns it off without a word where no rows are held out, where ``save_steps`` or
    ``eval_steps`` is missing, and where the first is no multiple of the second (core/builders).

    Example:

    ```yaml
    load_best_model_at_end: true
    val_set_size: 0.05
    eval_strategy: epoch
    ```

    Use instead:

    ```yaml
    load_best_model_at_end: true
    val_set_size: 0.05
    eval_steps: 50
    save_steps: 100
    ```
    """
    value, missing = recipe.value, ""
    if not is_on(value.get("load_best_model_at_end")) or value.get("rl"):
        return
    save, evaluate = (_steps(recipe, *keys) for keys in (_SAVES, _EVALS))
    if not (value.get("test_datasets") or number(value.get("val_set_size"))):
        missing = "no rows are held out"
    elif not save or not evaluate:
        missing = f"there is no {'save_steps' if not save else 'eval_steps'}"
    elif save % evaluate:
        missing = "the steps of saving are no multiple of those of evaluating"
    if missing:
        fact = f"load_best_model_at_end has no effect: {missing}"
        hint = "give eval_steps, and save_steps as a multiple of it"
        yield Finding(recipe.key_span("load_best_model_at_end"), fact, hint)


_SAVES, _EVALS = ("save_steps", "saves_per_epoch"), ("eval_steps", "evals_per_epoch")


def _steps(recipe: Recipe, key: str, per_epoch: str) -> float | None:
    """Return the steps as normalize_config leaves them: of a schedule by epoch a share."""
    times, epochs = number(recipe.value.get(per_epoch)), number(recipe.value.get("num_epochs", 1))
    if times and epochs and times * epochs > 1:
        return 1.0 / (times * epochs)
    return number(recipe.value.get(key))


RULES = (
    evaluation_never_runs,
    held_out_rows_not_evaluated,
    evaluation_without_rows,
    two_schedules,
    early_stopping_without_steps,
    row_count_in_preference_training,
    checkpoints_vanish,
    smoke_test_left_in,
    metric_for_best_missing,
    steps_not_whole,
    best_model_not_loaded,
)
