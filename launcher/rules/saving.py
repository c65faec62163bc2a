"""Saving: which checkpoints are written and kept, and when the run ends."""

from __future__ import annotations

from launcher.diagnostics import Related, Severity
from launcher.recipe import Recipe
from launcher.rules.rule import Finding, Findings, number, rule
from launcher.schema.validator import is_on

_SAVES, _EVALS = ("save_steps", "saves_per_epoch"), ("eval_steps", "evals_per_epoch")


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


def _steps(recipe: Recipe, key: str, per_epoch: str) -> float | None:
    """Return the steps as normalize_config leaves them: of a schedule by epoch a share."""
    times, epochs = number(recipe.value.get(per_epoch)), number(recipe.value.get("num_epochs", 1))
    if times and epochs and times * epochs > 1:
        return 1.0 / (times * epochs)
    return number(recipe.value.get(key))


RULES = (
    checkpoints_vanish,
    smoke_test_left_in,
    metric_for_best_missing,
    steps_not_whole,
    best_model_not_loaded,
)
