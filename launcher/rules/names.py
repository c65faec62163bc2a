"""Names that are looked up late: optimizers, schedulers, templates, plugins."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from launcher import facts
from launcher.diagnostics import Severity, Span, write
from launcher.recipe import Recipe
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.nearest import is_certain, nearest_key

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


def has_foreign_plugin(recipe: Recipe) -> bool:
    """Return whether the recipe lists a plugin that is none of axolotl's."""
    return len(integrations(recipe)) < len(recipe.value.get("plugins") or [])


def holders(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the recipe's settings and each entry of its datasets, with their paths."""
    yield (), recipe.settings
    for index, entry in enumerate(recipe.value.get("datasets") or []):
        if isinstance(entry, dict):
            yield ("datasets", str(index)), entry


def misnamed(span: Span, fact: str, name: str, known: Collection[str]) -> Finding:
    """Return a finding that proposes the nearest of the known names, if one is near."""
    near = nearest_key(name, known, cutoff=0.6)
    if not near:
        return Finding(span, fact)
    fix = write(span, near, safe=is_certain(name, near, known))
    return Finding(span, fact, f'did you mean "{near}"?', fix=fix)


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
    if not isinstance(name, str) or has_foreign_plugin(recipe):
        return  # which may bring an optimizer of its own
    span = recipe.value_span("optimizer")
    if name in facts.load().optimizers_without_branch:
        yield Finding(span, f'axolotl knows optimizer "{name}" and cannot build it', _OPTIMIZER)
    elif name not in known:
        yield misnamed(span, f'no optimizer is called "{name}"', name, known)
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
        span = recipe.value_span("lr_scheduler")
        yield misnamed(span, f'no scheduler is called "{name}"', name, known)


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
            span, fact = (
                recipe.value_span(*path, "chat_template"),
                f'no chat template is called "{name}"',
            )
            yield misnamed(span, fact, name, templates.names | templates.special)
        elif path and name == "jinja" and not _text(recipe, holder):
            span = recipe.value_span(*path, "chat_template")
            fact = "jinja means a template of your own, and there is none"
            yield Finding(span, fact, "add chat_template_jinja")


def _text(recipe: Recipe, holder: dict[str, Any]) -> Any:
    return holder.get("chat_template_jinja") or recipe.value.get("chat_template_jinja")


@rule("R004", "unknown-plugin", Severity.ERROR)
def unknown_plugin(recipe: Recipe) -> Findings:
    """A plugin of axolotl's is misspelt: it is not loaded, and the run goes on without it.

    A wrong module prints a traceback among the log lines, and that is all (PluginManager.register);
    a wrong class of a right module, or a name without a module, ends the run.

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
        if not isinstance(name, str):
            continue
        span, (module, _, last) = recipe.value_span("plugins", str(index)), name.rpartition(".")
        ours = name.startswith("axolotl.") or module in {one.rpartition(".")[0] for one in known}
        if not module:
            same = sorted(one for one in known if one.endswith(f".{last}") and "axolotl" in one)
            hint = same[0] if same else "module.Class"
            yield Finding(span, f'"{name}" names no module', f"write {hint}")
        elif ours and name not in known:
            yield misnamed(span, f'axolotl has no plugin "{name}"', name, known)
        elif ours and not any(
            plugin.importable for plugin in plugins.values() if name in plugin.names
        ):
            fact = f'the pinned stack cannot import "{name}"; axolotl would train without it'
            yield Finding(span, fact, "install what it needs, or delete the line")


RULES = (
    unknown_optimizer,
    optimizer_without_its_keys,
    unknown_scheduler,
    scheduler_without_its_arguments,
    scheduler_without_evaluation,
    unknown_chat_template,
    unknown_plugin,
)
