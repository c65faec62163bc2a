"""Names that are looked up late: optimizers, schedulers, templates, plugins; and keys with no
reader.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import Any

from launcher import facts
from launcher.diagnostics import Related, Severity
from launcher.recipe import Recipe
from launcher.rules.rule import Finding, Findings, rule

_OPTIMIZER = "optimizer: adamw_torch_fused"
_SCHEDULE = ("eval_steps", "evals_per_epoch", "eval_strategy", "evaluation_strategy")


def method(recipe: Recipe) -> str:
    """Return the method: the value of ``rl``, or sft without one."""
    return str(recipe.value.get("rl") or facts.SUPERVISED)


def evaluates(recipe: Recipe) -> bool:
    """Return whether a key of the recipe schedules an evaluation."""
    return any(recipe.value.get(key) not in (None, False, 0, "", "no") for key in _SCHEDULE)


def integrations(recipe: Recipe) -> set[str]:
    """Return the axolotl integrations whose plugin the recipe lists."""
    listed = {str(name) for name in recipe.value.get("plugins") or []}
    return {name for name, plugin in facts.load().plugins.items() if plugin.names & listed}


def holders(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the recipe's settings and each entry of its datasets, with their paths."""
    yield (), recipe.settings
    for index, entry in enumerate(recipe.value.get("datasets") or []):
        if isinstance(entry, dict):
            yield ("datasets", str(index)), entry


def nearest(name: str, known: Collection[str]) -> str:
    """Return a hint with the nearest of the known names, or an empty one."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else ""


@rule("R001", "unknown-optimizer", Severity.ERROR)
def unknown_optimizer(recipe: Recipe) -> Findings:
    """The optimizer is none of those that the pinned stack can build.

    axolotl takes any text here; the run dies after the model is loaded: "is not a valid
    OptimizerNames".

    Example:

    ```yaml
    optimizer: adamw_8bits
    ```

    Use instead:

    ```yaml
    optimizer: adamw_8bit
    ```
    """
    name, known = recipe.value.get("optimizer"), facts.load().optimizers
    if not isinstance(name, str) or recipe.value.get("plugins"):
        return  # a plugin may bring an optimizer of its own
    span = recipe.value_span("optimizer")
    if name in facts.load().optimizers_without_branch:
        yield Finding(span, f'axolotl knows optimizer "{name}" and cannot build it', _OPTIMIZER)
    elif name not in known:
        yield Finding(span, f'no optimizer is called "{name}"', nearest(name, known))
    elif not known[name].installed:
        package = known[name].package
        fact = f'optimizer "{name}" needs the package {package}, which the pinned stack has not'
        yield Finding(span, fact, _OPTIMIZER)


@rule("R010", "optimizer-without-its-keys", Severity.ERROR)
def optimizer_without_its_keys(recipe: Recipe) -> Findings:
    """The optimizer cannot be built without keys that the recipe does not have.

    The run dies after the model is loaded, of a TypeError that does not name the key.

    Example:

    ```yaml
    optimizer: dion
    ```

    Use instead:

    ```yaml
    optimizer: dion
    dion_lr: 0.01
    dion_momentum: 0.95
    ```
    """
    name = recipe.value.get("optimizer")
    known = facts.load().optimizers.get(name) if isinstance(name, str) else None
    missing = [key for key in sorted(known.wants) if recipe.value.get(key) is None] if known else []
    if missing:
        fact = f'optimizer "{name}" without {" and ".join(missing)}'
        yield Finding(recipe.value_span("optimizer"), fact, f"add {', '.join(missing)}")


@rule("R002", "unknown-scheduler", Severity.ERROR)
def unknown_scheduler(recipe: Recipe) -> Findings:
    """The scheduler is none of those that the pinned stack can build.

    axolotl takes any text here; the run dies after the model is loaded: "is not a valid
    SchedulerType".

    Example:

    ```yaml
    lr_scheduler: cosin
    ```

    Use instead:

    ```yaml
    lr_scheduler: cosine
    ```
    """
    name, known = recipe.value.get("lr_scheduler"), facts.load().schedulers
    if isinstance(name, str) and name not in known:
        hint = nearest(name, known)
        yield Finding(recipe.value_span("lr_scheduler"), f'no scheduler is called "{name}"', hint)


@rule("R011", "scheduler-without-its-arguments", Severity.ERROR)
def scheduler_without_its_arguments(recipe: Recipe) -> Findings:
    """The scheduler cannot be built without an entry of ``lr_scheduler_kwargs`` that is missing.

    transformers wants the lowest rate of a cosine that ends above 0, and the steps of a decay. The
    run dies after the model is loaded.

    Example:

    ```yaml
    lr_scheduler: cosine_with_min_lr
    ```

    Use instead:

    ```yaml
    lr_scheduler: cosine_with_min_lr
    lr_scheduler_kwargs: {min_lr_rate: 0.1}
    ```
    """
    name = recipe.value.get("lr_scheduler")
    known = facts.load().schedulers.get(name) if isinstance(name, str) else None
    given = recipe.value.get("lr_scheduler_kwargs") or {}
    if known and known.one_of and not any(given.get(key) is not None for key in known.one_of):
        wanted = " or ".join(known.one_of)
        fact = f'lr_scheduler "{name}" without {wanted}'
        hint = f"lr_scheduler_kwargs: {{{known.one_of[-1]}: ...}}"
        yield Finding(recipe.value_span("lr_scheduler"), fact, hint)


@rule("R012", "scheduler-without-evaluation", Severity.ERROR)
def scheduler_without_evaluation(recipe: Recipe) -> Findings:
    """The scheduler follows the evaluation loss, and the recipe schedules no evaluation.

    transformers stops when the trainer is built: reduce_lr_on_plateau needs an eval_strategy.

    Example:

    ```yaml
    lr_scheduler: reduce_lr_on_plateau
    ```

    Use instead:

    ```yaml
    lr_scheduler: reduce_lr_on_plateau
    val_set_size: 0.05
    eval_strategy: epoch
    ```
    """
    value = recipe.value
    name = value.get("lr_scheduler")
    known = facts.load().schedulers.get(name) if isinstance(name, str) else None
    rows = value.get("val_set_size") or value.get("test_datasets")
    if known and known.evaluation and not (evaluates(recipe) and rows):
        fact = f'lr_scheduler "{name}" follows the evaluation loss, and nothing is evaluated'
        hint = "add val_set_size: 0.05 and eval_strategy: epoch"
        yield Finding(recipe.value_span("lr_scheduler"), fact, hint)


@rule("R003", "unknown-chat-template", Severity.ERROR)
def unknown_chat_template(recipe: Recipe) -> Findings:
    """The chat template is none of axolotl's, nor one of the special values.

    Special are ``tokenizer_default``, ``tokenizer_default_fallback_<name>`` and ``jinja``. The run
    dies when the data is prepared; the same mistake at the top level is a wrong value (S104).

    Example:

    ```yaml
    datasets:
      - path: my-org/chats
        type: chat_template
        chat_template: llama-3
    ```

    Use instead:

    ```yaml
    datasets:
      - path: my-org/chats
        type: chat_template
        chat_template: llama3
    ```
    """
    templates = facts.load().templates
    for path, holder in holders(recipe):
        name = holder.get("chat_template")
        if isinstance(name, str) and name and not templates.accepts(name, entry=bool(path)):
            fact = f'no chat template is called "{name}"'
            hint = nearest(name, templates.names | templates.special)
            yield Finding(recipe.value_span(*path, "chat_template"), fact, hint)


@rule("R004", "unknown-plugin", Severity.ERROR)
def unknown_plugin(recipe: Recipe) -> Findings:
    """A plugin of axolotl's is misspelt: it is not loaded, and the run goes on without it.

    A wrong module prints a traceback among the log lines, and that is all (PluginManager.register).

    Example:

    ```yaml
    plugins: [axolotl.integrations.ligre.LigerPlugin]
    ```

    Use instead:

    ```yaml
    plugins: [axolotl.integrations.liger.LigerPlugin]
    ```
    """
    plugins = facts.load().plugins
    known = {name for plugin in plugins.values() for name in plugin.names}
    for index, name in enumerate(recipe.value.get("plugins") or []):
        if not isinstance(name, str) or not name.startswith("axolotl."):
            continue
        span = recipe.value_span("plugins", str(index))
        if name not in known:
            yield Finding(span, f'axolotl has no plugin "{name}"', nearest(name, known))
        elif not any(plugin.importable for plugin in plugins.values() if name in plugin.names):
            fact = f'the pinned stack cannot import "{name}"; axolotl would train without it'
            yield Finding(span, fact, "install what it needs, or delete the line")


@rule("R005", "key-without-its-plugin", Severity.ERROR)
def key_without_its_plugin(recipe: Recipe) -> Findings:
    """A key of an integration does nothing unless its plugin is listed under ``plugins``.

    Liger's and cut-cross-entropy's keys are the common case: the run goes out of memory where it
    should fit.

    Example:

    ```yaml
    liger_rope: true
    ```

    Use instead:

    ```yaml
    plugins: [axolotl.integrations.liger.LigerPlugin]
    liger_rope: true
    ```
    """
    plugins, listed = facts.load().plugins, integrations(recipe)
    for key, value in recipe.settings.items():
        owners = [name for name, plugin in plugins.items() if key in plugin.keys]
        if value in (None, False) or not owners or listed.intersection(owners):
            continue
        names = sorted(plugins[owners[0]].names, key=len)
        name = next((name for name in names if name.startswith("axolotl.")), names[0])
        fact = f"{key} has no effect without its plugin"
        yield Finding(recipe.key_span(key), fact, f"add to plugins: {name}")


@rule("R006", "key-without-reader", Severity.WARNING)
def key_without_reader(recipe: Recipe) -> Findings:
    """Nothing reads this key under the recipe's method: it is accepted and has no effect.

    axolotl builds supervised and preference trainers in different places, and each reads keys that
    the other ignores. The sets are derived from the code of the pinned axolotl.

    Example:

    ```yaml
    rl: dpo
    pad_to_sequence_len: true
    ```

    Use instead:

    ```yaml
    rl: dpo
    ```
    """
    known, own, listed = facts.load(), method(recipe), integrations(recipe)
    if own not in known.methods or (
        recipe.value.get("plugins") and len(listed) < len(recipe.value["plugins"])
    ):
        return  # a plugin from outside may read anything
    for key, value in recipe.settings.items():
        if value in (None, False, [], {}) or not known.ignores(own, key, listed):
            continue
        what = "supervised fine-tuning" if own == facts.SUPERVISED else f"rl: {own}"
        yield Finding(recipe.key_span(key), f"nothing reads {key} under {what}", "delete the line")


@rule("R007", "removed-key", Severity.ERROR)
def removed_key(recipe: Recipe) -> Findings:
    """axolotl has removed this key, and stops at it.

    It does so with a raw traceback, after the imports: half a minute of a rented machine.

    Example:

    ```yaml
    max_packed_sequence_len: 2048
    ```

    Use instead:

    ```yaml
    sample_packing: true
    sequence_len: 2048
    attn_implementation: sdpa
    ```
    """
    yield from _removed(recipe, "error")


@rule("R008", "deprecated-key", Severity.WARNING)
def deprecated_key(recipe: Recipe) -> Findings:
    """axolotl still takes this key, and will not for long: there is a new spelling.

    The next version of axolotl refuses or ignores it, and the recipe trains something else then.

    Example:

    ```yaml
    flash_attention: true
    ```

    Use instead:

    ```yaml
    attn_implementation: flash_attention_2
    ```
    """
    yield from _removed(recipe, "warning")


def _removed(recipe: Recipe, outcome: str) -> Findings:
    word = "removed" if outcome == "error" else "deprecated"
    for removed in facts.load().removed:
        for path, holder in holders(recipe) if removed.outcome == outcome else ():
            if _stands(removed, path, holder) and not _beside_new(removed, holder):
                span = recipe.key_span(*path, removed.key)
                what = f"{removed.key}: {removed.value}" if removed.value else removed.key
                yield Finding(span, f"{what} is {word}", _instead(removed, holder))


def _stands(removed: facts.Removed, path: tuple[str, ...], holder: dict[str, Any]) -> bool:
    """Whether the removed key stands in the settings, or in the entry at a path."""
    fits = removed.within == ("datasets" if path else "") and removed.key in holder
    return fits and removed.concerns(holder[removed.key])


def _beside_new(removed: facts.Removed, holder: dict[str, Any]) -> bool:
    return removed.replacement is not None and holder.get(removed.replacement[0]) is not None


@rule("R009", "old-key-beside-new", Severity.ERROR)
def old_key_beside_new(recipe: Recipe) -> Findings:
    """A deprecated key stands beside the one that replaced it.

    axolotl refuses some of these pairs; of the others it uses one, and which is not said.

    Example:

    ```yaml
    attn_implementation: sdpa
    flash_attention: true
    ```

    Use instead:

    ```yaml
    attn_implementation: sdpa
    ```
    """
    for removed in facts.load().removed:
        for path, holder in holders(recipe):
            if _stands(removed, path, holder) and _beside_new(removed, holder):
                assert removed.replacement is not None
                new = removed.replacement[0]
                related = (Related("the new one", recipe.key_span(*path, new)),)
                span = recipe.key_span(*path, removed.key)
                fact = f"{removed.key} stands beside {new}, which replaced it"
                yield Finding(span, fact, f"delete {removed.key}", related)


def _instead(removed: facts.Removed, holder: dict[str, Any]) -> str:
    if removed.replacement is None:
        return "delete the line" if removed.outcome == "error" else removed.words
    key, value = removed.replacement
    new = holder[removed.key] if value is None else value
    return f"{key}: {str(new).lower() if isinstance(new, bool) else new}"


RULES = (
    unknown_optimizer,
    optimizer_without_its_keys,
    unknown_scheduler,
    scheduler_without_its_arguments,
    scheduler_without_evaluation,
    unknown_chat_template,
    unknown_plugin,
    key_without_its_plugin,
    key_without_reader,
    removed_key,
    deprecated_key,
    old_key_beside_new,
)
