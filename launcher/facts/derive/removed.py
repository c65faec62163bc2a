"""Keys that axolotl calls deprecated or removed, with its own words, from its validators."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from launcher.facts.derive.transfers import ANYTHING, schema_functions

JSON = dict[str, Any]

SAYS_SO = re.compile(
    r"deprecated|no longer supported|been removed|not supported in Transformers V5"
)


@dataclass(frozen=True)
class Trigger:
    """What sets a message off: a key with ``value`` (None: any), or, if ``truthy``, with any that
    is not false, 0 or empty.
    """

    key: str
    value: object = None
    truthy: bool = True


def removed(
    keys: frozenset[str], entry_keys: frozenset[str], edges: Mapping[str, frozenset[str]]
) -> list[JSON]:
    """Return what axolotl calls deprecated or removed, by key.

    ``outcome``: "error", "warning" (a line in the log), or "silent", where only the source says so;
    ``words``: axolotl's; ``value`` and ``truthy``: what sets it off, see `Trigger`; ``in``: "" for
    a top-level key, "datasets" for one of an entry; ``replacement``: what to write instead, where
    axolotl itself makes just that of it. ``edges`` are its transfers from key to key.
    """
    told = [*_attention(), *_told(keys | entry_keys, edges)]
    known = {entry["key"] for entry in told}
    told += [entry for entry in _marked(keys) if entry["key"] not in known]
    for entry in told:
        if entry["key"] in entry_keys - keys:
            entry["in"] = "datasets"
        elif entry["value"] is None and entry["replacement"] is None:
            entry["replacement"] = _replacement(entry, edges)
    return sorted(told, key=lambda entry: (entry["in"], entry["key"], str(entry["value"])))


def _marked(keys: frozenset[str]) -> Iterator[JSON]:
    """Yield the fields that ``AxolotlInputConfig`` itself marks ``deprecated=...``."""
    from axolotl.utils.schemas.config import AxolotlInputConfig

    for name, field in AxolotlInputConfig.model_fields.items():
        if field.deprecated and name in keys:
            yield _entry("silent", str(field.deprecated), Trigger(name, truthy=False))


def _attention() -> Iterator[JSON]:
    """Yield the flags that ``normalize_attn_implementation`` (utils/schemas/config.py) turns into
    ``attn_implementation``.
    """
    from axolotl.utils.schemas.enums import LEGACY_ATTN_FLAG_TO_IMPL

    functions = [f for f in schema_functions() if f.name == "normalize_attn_implementation"]
    (words,) = [text for kind, text, _ in _messages(functions[0]) if kind == "warning"]
    for flag, name in LEGACY_ATTN_FLAG_TO_IMPL.items():
        said = words.replace("%s", flag, 1).replace("%s", name)
        instead = {"key": "attn_implementation", "value": name}
        yield _entry("warning", said, Trigger(flag)) | {"replacement": instead}


def _told(keys: frozenset[str], edges: Mapping[str, frozenset[str]]) -> Iterator[JSON]:
    """Yield every message of a validator that calls the key that sets it off deprecated."""
    for function in schema_functions():
        for outcome, words, guards in _messages(function):
            if not (outcome and SAYS_SO.search(words)):
                continue
            for trigger in _triggers(function, guards, keys, edges):
                if re.search(rf"\b{trigger.key}\b|\.\.\.", words):
                    unheard = _validated(function) and trigger.key in _deleted()
                    yield _entry("silent" if unheard else outcome, words, trigger)


def _entry(outcome: str, words: str, trigger: Trigger) -> JSON:
    return {
        "in": "",
        "key": trigger.key,
        "value": trigger.value,
        "truthy": trigger.truthy,
        "outcome": outcome,
        "words": re.sub(r"%[ds]", "...", " ".join(words.split())),
        "replacement": None,
    }


def _replacement(entry: JSON, edges: Mapping[str, frozenset[str]]) -> JSON | None:
    """Return the key that takes the value over: the only one that axolotl itself fills from it, and
    that its words name.
    """
    filled = edges.get(entry["key"], frozenset()) - {ANYTHING}
    named = [name for name in filled if name in entry["words"]]
    return {"key": named[0], "value": None} if len(named) == 1 else None


def _messages(function: ast.FunctionDef) -> Iterator[tuple[str, str, list[ast.expr]]]:
    """Yield (outcome, words, the tests around it) of everything a function raises or warns of."""

    def below(body: list[ast.stmt], guards: list[ast.expr]) -> Iterator[Any]:
        for statement in body:
            if isinstance(statement, ast.If):
                yield from below(statement.body, [*guards, statement.test])
                yield from below(statement.orelse, guards)
            elif isinstance(statement, (ast.For, ast.With, ast.Try)):
                yield from below(statement.body, guards)
            elif isinstance(statement, ast.Raise) and isinstance(statement.exc, ast.Call):
                yield "error", _text(statement.exc), guards
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                says = ast.unparse(statement.value.func).startswith("LOG.warning")
                yield "warning" if says else "", _text(statement.value), guards

    yield from below(function.body, [])


def _text(call: ast.Call) -> str:
    """Return the text that a call is given, with ... for what is filled in."""
    given = call.args[0] if call.args else ast.Constant("")
    parts = given.values if isinstance(given, ast.JoinedStr) else [given]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in parts)


def _triggers(
    function: ast.FunctionDef,
    guards: list[ast.expr],
    keys: frozenset[str],
    edges: Mapping[str, frozenset[str]],
) -> list[Trigger]:
    """Return what sets a message off; nothing where it takes two keys at once, or lacks one that is
    no substitute for the first.
    """
    listed = _listed(function)
    if listed:
        return [Trigger(key) for key in listed]
    parts: list[ast.expr] = []
    for guard in guards:
        either = isinstance(guard, ast.BoolOp) and isinstance(guard.op, ast.Or)
        if isinstance(guard, ast.BoolOp) and either:
            return [t for t in map(_trigger, guard.values) if t and t.key in keys]
        parts += guard.values if isinstance(guard, ast.BoolOp) else [guard]
    own = {_own_parameter(function): _validated(function)}
    found = [trigger for trigger in map(_trigger, parts) if trigger]
    found = [Trigger(own.get(t.key, t.key), t.value, t.truthy) for t in found]
    found = [trigger for trigger in found if trigger.key in keys]
    if len(found) != 1:
        return []
    others = {name for part in parts for name in _named(part)} & keys - {found[0].key}
    return found if others <= edges.get(found[0].key, frozenset()) else []


def _trigger(part: ast.expr) -> Trigger | None:
    """Return what one test wants of a key; None where it wants the key absent, or something
    else.
    """
    if not isinstance(part, ast.Compare):
        name = _key(part)
        return Trigger(name) if name else None
    operator, other = part.ops[0], part.comparators[0]
    if isinstance(operator, ast.In) and isinstance(part.left, ast.Constant):
        return Trigger(str(part.left.value), truthy=False)
    if not isinstance(other, ast.Constant):
        return None
    if isinstance(operator, ast.IsNot) and other.value is None:
        return Trigger(_key(part.left), truthy=False)
    if isinstance(operator, (ast.Is, ast.Eq)) and other.value is not None:
        return Trigger(_key(part.left), other.value, truthy=False)
    return None


def _key(node: ast.expr) -> str:
    """Return the key that ``data.get("key")``, ``self.key`` or a bare name stands for."""
    if isinstance(node, ast.Call):
        return next(_named(node), "")
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _named(node: ast.expr) -> Iterator[str]:
    """Yield all keys that a test may look at."""
    for child in ast.walk(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        elif isinstance(child, ast.Attribute) and child.attr != "get":
            yield child.attr


def _validated(function: ast.FunctionDef) -> str:
    """Return the key of ``@field_validator("key")``, "" of any other function."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "field_validator":
            return str(ast.literal_eval(decorator.args[0]))
    return ""


@lru_cache(maxsize=1)
def _deleted() -> frozenset[str]:
    """Return the keys that some function takes out of the raw config, before any validator of the
    key itself could speak.
    """
    targets = [
        target
        for function in schema_functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Delete)
        for target in node.targets
    ]
    slices = [target.slice for target in targets if isinstance(target, ast.Subscript)]
    return frozenset(str(part.value) for part in slices if isinstance(part, ast.Constant))


def _own_parameter(function: ast.FunctionDef) -> str:
    return function.args.args[-1].arg if function.args.args else ""


def _listed(function: ast.FunctionDef) -> list[str]:
    """Return the keys in the list of ``check_deprecated_unsloth_fields``."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "deprecated_fields":
            return [str(key) for key in ast.literal_eval(node.value)]
    return []
