"""Going on from a checkpoint: one that is there, and that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher.diagnostics import Severity
from launcher.files import is_folder, read_mapping
from launcher.recipe import Recipe
from launcher.rules.rule import Finding, Findings, number, rule

MAX_BYTES = 16 * 2**20  # the log in trainer_state.json takes about 150 bytes a logged step


@rule("R151", "checkpoint-missing", Severity.ERROR)
def checkpoint_missing(recipe: Recipe) -> Findings:
    """``resume_from_checkpoint`` is no folder here.

    The run dies after the model is loaded. Relative paths count from the working directory.

    Example:

    ```yaml
    resume_from_checkpoint: runs/no-such-run/checkpoint-100
    ```

    Use instead:

    ```yaml
    auto_resume_from_checkpoints: true
    ```
    """
    name = recipe.value.get("resume_from_checkpoint")
    if isinstance(name, str) and name and "$" not in name and not is_folder(name):
        hint = "relative paths start at the working directory"
        yield Finding(recipe.value_span("resume_from_checkpoint"), f'no folder "{name}" here', hint)


@rule("R152", "checkpoint-of-another-adapter", Severity.ERROR)
def checkpoint_of_another_adapter(recipe: Recipe) -> Findings:
    """The checkpoint holds an adapter of another shape than the recipe's.

    The weights cannot be loaded: "Error(s) in loading state_dict", after the model is loaded.

    Example:

    ```yaml
    resume_from_checkpoint: old/checkpoint-20
    adapter: lora
    lora_r: 16
    lora_target_linear: true
    ```

    Use instead:

    ```yaml
    resume_from_checkpoint: old/checkpoint-20
    adapter: lora
    lora_r: 8
    lora_target_linear: true
    ```
    """
    kept = _read(recipe, "adapter_config.json")
    if kept is None:
        return
    span = recipe.value_span("resume_from_checkpoint")
    if not recipe.value.get("adapter"):
        yield Finding(
            span, "the checkpoint is an adapter, the recipe has none", "add adapter: lora"
        )
        return
    rank, given = kept.get("r"), number(recipe.value.get("lora_r"))
    if rank is not None and given is not None and rank != given:
        fact = f"the checkpoint's adapter has rank {rank}, lora_r is {given:g}"
        yield Finding(recipe.value_span("lora_r"), fact, f"lora_r: {rank}")


@rule("R153", "nothing-left-to-train", Severity.WARNING)
def nothing_left_to_train(recipe: Recipe) -> Findings:
    """The checkpoint is at the end of the run: 0 steps are trained, with rc 0.

    The model is loaded and saved again, and the GPU is paid for.

    Example:

    ```yaml
    resume_from_checkpoint: old/checkpoint-20
    adapter: lora
    lora_target_linear: true
    max_steps: 20
    ```

    Use instead:

    ```yaml
    resume_from_checkpoint: old/checkpoint-20
    adapter: lora
    lora_target_linear: true
    max_steps: 40
    ```
    """
    state = _read(recipe, "trainer_state.json") or {}
    step, epochs = number(state.get("global_step")), number(state.get("epoch"))
    steps, wanted = number(recipe.value.get("max_steps")), number(recipe.value.get("num_epochs", 1))
    span = recipe.value_span("resume_from_checkpoint")
    if steps and steps > 0:
        if step is not None and step >= steps:
            fact = f"the checkpoint is at step {step:g} of {steps:g}"
            yield Finding(span, fact, f"raise max_steps above {step:g}")
    elif epochs is not None and wanted is not None and epochs >= wanted:
        fact = f"the checkpoint is at epoch {epochs:g} of {wanted:g}"
        yield Finding(span, fact, f"raise num_epochs above {epochs:g}")


def _read(recipe: Recipe, file: str) -> dict[str, Any] | None:
    """Return a JSON file of the checkpoint; none where it has none that can be read."""
    name = recipe.value.get("resume_from_checkpoint")
    if not isinstance(name, str) or not name:
        return None
    return read_mapping(Path(name) / file, MAX_BYTES)


RULES = (checkpoint_missing, checkpoint_of_another_adapter, nothing_left_to_train)
