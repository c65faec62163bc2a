"""What axolotl's own validators refuse, read off their source and evaluated without axolotl."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from launcher import facts
from launcher.diagnostics import Related, Severity
from launcher.facts import logic
from launcher.recipe import Recipe
from launcher.rules.names import integrations
from launcher.rules.rule import Finding, Findings, rule
from launcher.schema.validator import is_number, is_on, schema
from launcher.schema.wording import cut

Path = tuple[str, ...]
JSON = Mapping[str, Any]
MOST = 3  # places that are shown


@rule("R013", "refused-combination", Severity.ERROR)
def refused_combination(recipe: Recipe) -> Findings:
    """axolotl refuses this combination of keys when it starts.

    What its validators raise at is derived from their source, so that it is known before axolotl,
    torch and transformers are imported on a rented machine. The words are axolotl's.

    Example:

    ```yaml
    optimizer: muon
    deepspeed: {zero_optimization: {stage: 2}}
    ```

    Use instead:

    ```yaml
    optimizer: muon
    ```
    """
    views = _views(recipe.settings)
    listed = integrations(recipe) | {""}
    for refusal in facts.load().refusals:
        looked = list(dict.fromkeys(logic.paths(refusal.when)))
        if refusal.integration not in listed or any(p[0] in recipe.malformed for p in looked):
            continue
        if logic.holds(refusal.when, views):
            words = str(logic.evaluate(refusal.words, views))
            yield _finding(recipe, words, list(_given(recipe, looked, words)))


def _finding(recipe: Recipe, words: str, places: list[Path]) -> Finding:
    first, *others = places[:MOST] or [()]
    fact, hint = _split(" ".join(words.replace("`", "").split()))
    names = [".".join(path) for path in places[:MOST]]
    hint = hint or (f"change {' or '.join(names)}" if len(names) > 1 else "")
    related = tuple(Related("together with this", recipe.key_span(*path)) for path in others)
    return Finding(recipe.key_span(*first), f"axolotl refuses this: {fact}", hint, related)


def _split(words: str) -> tuple[str, str]:
    """Return the first sentence, and the rest, which holds the remedy."""
    end = re.search(r"(?<!e\.g)(?<!i\.e)[.;] ", words)
    if not end:
        return cut(words.rstrip("."), 200), ""
    return cut(words[: end.start()], 200), cut(words[end.end() :], 240)


def _given(recipe: Recipe, looked: list[Path], words: str) -> Iterator[Path]:
    """Yield the paths that the recipe has of those that were looked at: first those that axolotl
    names, in its order.
    """
    given = [path for path in looked if _is_given(recipe.settings, path)]
    given = [p for p in given if not any(q != p and q[: len(p)] == p for q in given)]
    places = {path: re.search(rf"(?<!\w){re.escape(path[-1])}(?!\w)", words) for path in given}
    named = [path for _, path in sorted((m.start(), path) for path, m in places.items() if m)]
    yield from named
    yield from (path for path in given if path not in named)


def _is_given(value: Any, path: Path) -> bool:
    for part in path:
        if not isinstance(value, dict) or value.get(part) is None:
            return False
        value = value[part]
    return True


def _views(settings: dict[str, Any]) -> logic.View:
    """Return the recipe as axolotl's validators see it: before its types convert the values, and
    after that, with old keys under their new names.
    """
    known = schema()["properties"]
    typed = {key: _typed(value, known.get(key, {})) for key, value in settings.items()}
    for removed in facts.load().removed:
        old = typed.get(removed.key)
        if removed.replacement and not removed.within and removed.concerns(old):
            key, value = removed.replacement
            if typed.get(key) is None:
                typed[key] = old if value is None else value
    config = typed.get("fsdp_config")
    if isinstance(config, dict):
        typed["fsdp_config"] = {
            str(key) if key == "fsdp_version" else str(key).removeprefix("fsdp_"): value
            for key, value in config.items()
        }
        own = config.get("version") or config.get("fsdp_version")
        typed["fsdp_version"] = typed.get("fsdp_version") or own
    return {"raw": settings, "self": typed}


def _typed(value: Any, node: JSON) -> Any:
    """Return a value as pydantic converts it: "true" is a switch where no text is expected."""
    nodes = list(_nodes(node))
    if isinstance(value, dict):
        named: JSON = next((one["properties"] for one in nodes if "properties" in one), {})
        return {key: _typed(child, named.get(key, {})) for key, child in value.items()}
    if not isinstance(value, str):
        return value
    fitting = [one for one in nodes if value in one.get("enum", [value])]
    kinds = {kind for one in fitting for kind in _kinds(one)}
    if "boolean" in kinds and "string" not in kinds:
        return is_on(value)
    if kinds & {"integer", "number"} and "string" not in kinds and is_number(value):
        return float(value)
    return value


def _nodes(node: JSON) -> Iterator[JSON]:
    """Yield the parts of a schema's node that say what a value may be."""
    if "$ref" in node:
        yield from _nodes(schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]])
    elif "anyOf" in node:
        for part in node["anyOf"]:
            yield from _nodes(part)
    else:
        yield node


def _kinds(node: JSON) -> list[str]:
    kinds = node.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


RULES = (refused_combination,)
