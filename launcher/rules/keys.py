"""Keys that do nothing: without their plugin, without a reader, removed or renamed."""

from __future__ import annotations

from typing import Any

from launcher import facts
from launcher.diagnostics import Edit, Fix, Related, Severity, delete
from launcher.recipe import Recipe
from launcher.rules.names import holders, integrations, method
from launcher.rules.rule import Finding, Findings, rule


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
        fact = f"{key} has no effect without its plugin"
        hint = f"add to plugins: {plugins[owners[0]].full_name}"
        yield Finding(recipe.key_span(key), fact, hint)


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
        span, fact = recipe.key_span(key), f"nothing reads {key} under {what}"
        yield Finding(span, fact, "delete the line", fix=delete(span, safe=False))


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
                fix = _rewrite(recipe, removed, (*path, removed.key))
                yield Finding(span, f"{what} is {word}", _instead(removed, holder), fix=fix)


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
                fix = delete(span, safe=holder[new] == _new_value(removed, holder))
                yield Finding(span, fact, f"delete {removed.key}", related, fix)


def _instead(removed: facts.Removed, holder: dict[str, Any]) -> str:
    if removed.replacement is None:
        return "delete the line" if removed.outcome == "error" else removed.words
    return f"{removed.replacement[0]}: {_plain(_new_value(removed, holder))}"


def _new_value(removed: facts.Removed, holder: dict[str, Any]) -> object:
    """Return what the key that replaced a removed one has to say."""
    _, value = removed.replacement or (None, None)
    return holder[removed.key] if value is None else value


def _rewrite(recipe: Recipe, removed: facts.Removed, path: tuple[str, ...]) -> Fix | None:
    """Write the new key over the old one, and its value where that changes, too."""
    key = recipe.key_span(*path)
    if removed.replacement is None:
        return delete(key, safe=False) if removed.outcome == "error" else None
    name, value = removed.replacement
    edits = [Edit(key, name)]
    if value is not None:
        edits.append(Edit(recipe.value_span(*path), _plain(value)))
    return Fix(tuple(edits), safe=True)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


RULES = (
    key_without_its_plugin,
    key_without_reader,
    removed_key,
    deprecated_key,
    old_key_beside_new,
)
