"""Check a recipe against the closed schema: unknown and missing keys, wrong types and values."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

from launcher.diagnostics import Code, Diagnostic, Severity, delete, write
from launcher.recipe import Recipe
from launcher.redact import HIDDEN, is_secret_name
from launcher.schema.nearest import is_certain, nearest_key
from launcher.schema.validator import Error, errors, is_number, schema
from launcher.schema.wording import cut, dotted, either, example, expected, shown

MISSING = Code("S101", "missing-key", Severity.ERROR, "axolotl cannot start without this key.")
UNKNOWN = Code(
    "S102",
    "unknown-key",
    Severity.ERROR,
    "axolotl ignores unknown keys without a word and uses its default.",
)
EMPTY = Code(
    "S106",
    "unknown-key-without-value",
    Severity.NOTE,
    "axolotl ignores unknown keys; an empty one asks for nothing, so nothing is lost.",
)
TYPE = Code(
    "S103",
    "wrong-type",
    Severity.ERROR,
    "axolotl refuses the value, or trains with something else.",
)
SWITCH = Code(
    "S105", "switch-as-number", Severity.WARNING, "axolotl reads true as 1 and false as 0."
)
VALUE = Code(
    "S104",
    "wrong-value",
    Severity.ERROR,
    "axolotl refuses the value, or fails when it comes to use it.",
)

_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}
_COUNTS = {
    "minItems": ("entry", "entries", "at least"),
    "maxItems": ("entry", "entries", "at most"),
    "minProperties": ("entry", "entries", "at least"),
    "minLength": ("character", "characters", "at least"),
    "maxLength": ("character", "characters", "at most"),
}

# A mapping with more unknown keys than this is no recipe with misspelt keys.
MAX_SUGGESTIONS = 50

Path = tuple[str, ...]


def check(recipe: Recipe) -> Iterator[Diagnostic]:
    """Yield every way in which the recipe departs from the schema."""
    found = (problem for error in errors(recipe.value) for problem in _explain(recipe, error))
    yield from dict.fromkeys(found)  # jsonschema has an error for each missing key, of all of them


def _explain(recipe: Recipe, error: Error) -> Iterator[Diagnostic]:
    path = tuple(str(part) for part in error.absolute_path)
    match error.validator:
        case "additionalProperties":
            yield from _unknown_keys(recipe, error, path)
        case "required":
            yield from _missing_keys(recipe, error, path)
        case "anyOf" | "oneOf":
            yield from _explain_union(recipe, error, path)
        case "type":
            yield _wrong_type(recipe, error.instance, [error.schema], path)
        case _:
            yield _wrong_value(recipe, error, path)


def _unknown_keys(recipe: Recipe, error: Error, path: Path) -> Iterator[Diagnostic]:
    known, given = error.schema["properties"], error.instance
    where = f" in {dotted(path)}" if path else ""
    if path and path[0] in ("datasets", "test_datasets") and not _has_method(recipe):
        known = _entry_keys()  # which class the entry has is not known
    for number, key in enumerate(key for key in given if key not in known):
        span = recipe.key_span(*path, str(key))
        if isinstance(key, str):
            near = nearest_key(key, known) if number < MAX_SUGGESTIONS else ""
            hint = f'did you mean "{near}"?' if near else _elsewhere(key, path)
            fix = delete(span, safe=False)
            if given[key] is None and not near:
                yield EMPTY.at(
                    span, f'unknown key "{cut(key)}"{where}, empty', "delete it", fix=fix
                )
                continue
            if near and near not in given:
                fix = write(span, near, safe=is_certain(key, near, known))
            yield UNKNOWN.at(span, f'unknown key "{cut(key)}"{where}', hint, fix=fix)
        else:
            fact = f"a key{where} is read as {shown(key)}, not as text"
            hint = "write a name that axolotl knows; quote it if it is meant as text"
            yield UNKNOWN.at(span, fact, hint)


def _has_method(recipe: Recipe) -> bool:
    """Whether ``rl`` is one that axolotl knows, or is not given."""
    named = expected(schema()["properties"]["rl"]["anyOf"], schema())
    return recipe.value.get("rl") in (None, *named)


@lru_cache(maxsize=1)
def _entry_keys() -> Collection[str]:
    """Return the keys that some dataset entry may have."""
    shapes = (value for name, value in schema()["$defs"].items() if name.endswith("Dataset"))
    return frozenset(key for shape in shapes for key in shape["properties"])


def _elsewhere(key: str, path: Path) -> str:
    if path and key in schema()["properties"]:
        return f'"{key}" belongs at the top level'
    return "delete it: axolotl ignores it without a word"


def _missing_keys(recipe: Recipe, error: Error, path: Path) -> Iterator[Diagnostic]:
    where, known = dotted(path), error.schema["properties"]
    for key in error.validator_value:
        if key not in error.instance and not _is_misspelt(key, error.instance, known):
            hint = f"add {key}: {example(key, known.get(key, {}))}"
            yield MISSING.at(recipe.key_span(*path), f'{where} has no "{key}"', hint)


def _is_misspelt(key: str, given: Iterable[object], known: Collection[str]) -> bool:
    """Whether a missing key stands there under a name that can only be this one misspelt."""
    unknown = islice((name for name in given if name not in known), MAX_SUGGESTIONS)
    return any(isinstance(name, str) and is_certain(name, key, known) for name in unknown)


def _explain_union(recipe: Recipe, error: Error, path: Path) -> Iterator[Diagnostic]:
    """Report against the branch that was meant: the one whose type fits, and of several the one
    that fits best.
    """
    branches: dict[int, list[Error]] = {}
    for one in error.context or ():
        branches.setdefault(int(one.relative_schema_path[0]), []).append(one)
    fitting = [found for found in branches.values() if not any(map(_is_mismatch, found))]
    nodes = list(error.validator_value)
    if not fitting:
        yield _wrong_type(recipe, error.instance, nodes, path)
    elif all(one.validator in ("enum", "const") for found in fitting for one in found):
        yield _not_among(recipe, error.instance, expected(nodes, schema()), path)
    else:
        explained = ([p for one in found for p in _explain(recipe, one)] for found in fitting)
        yield from min(explained, key=len)


def _is_mismatch(error: Error) -> bool:
    """Whether a branch fails at its very root, for its type alone."""
    if error.relative_path:
        return False
    return error.validator == "type" or (
        error.validator in ("enum", "const") and not isinstance(error.instance, str)
    )


def _wrong_type(recipe: Recipe, value: object, nodes: list[Any], path: Path) -> Diagnostic:
    words, where = expected(nodes, schema()), dotted(path)
    if path and is_secret_name(path[-1]):
        fact = f"{where} is {HIDDEN}; expected {either(words)}"
        return TYPE.at(recipe.key_span(*path), fact)
    if isinstance(value, bool) and {"a number", "a whole number"} & set(words):
        fact = f"{where} is {shown(value)}, which axolotl reads as {int(value)}"
        hint = f"write the number that is meant, or {int(value)}"
        return SWITCH.at(recipe.value_span(*path), fact, hint)
    fact = f"{where} is {shown(value)}; expected {either(words)}"
    if value is None and path[-1] not in schema()["required"]:
        span = recipe.key_span(*path)
        return TYPE.at(span, fact, "give a value, or delete the line", fix=delete(span, safe=False))
    span = recipe.value_span(*path)
    if isinstance(value, (dict, list)) and path and span.line != recipe.key_span(*path).line:
        span = recipe.key_span(*path)  # the block begins on the line below
    hint, text = _right_type(value, words, recipe.written(span))
    certain = not text.startswith("[")
    return TYPE.at(span, fact, hint, fix=write(span, text, safe=certain) if text else None)


def _right_type(value: object, words: list[str], typed: str) -> tuple[str, str]:
    """Return how a value, that was ``typed`` so, is written in a type that is expected: the hint,
    and the text to write; empty where nothing is likely.
    """
    quoted = f'"{typed}"' if typed.replace(".", "").replace("-", "").isalnum() else ""
    match value:
        case None:
            return "give a value", ""
        case list() | dict():
            return "", ""
        case bool() if "text" in words:
            return f"quote it: YAML reads a bare yes, no, on, off as {shown(value)}", quoted
        case str() if "a whole number" in words and is_number(value):
            number = float(value)
            whole = str(int(number)) if number.is_integer() else ""
            return f"write it out: {whole}" if whole else "", whole
    if "text" in words:
        return f'quote it if it is meant as text: "{cut(str(value))}"', quoted
    if "a list" in words:
        entry = json.dumps(cut(value)) if isinstance(value, str) else shown(value)
        return f"make it a list: [{entry}]", f"[{typed}]"
    return "", ""


def _wrong_value(recipe: Recipe, error: Error, path: Path) -> Diagnostic:
    value, limit, where = error.instance, error.validator_value, dotted(path)
    if error.validator in ("enum", "const"):
        return _not_among(recipe, value, expected([error.schema], schema()), path)
    if error.validator in _BOUNDS:
        fact = f"{where} is {shown(value)}; expected {_BOUNDS[error.validator]} {limit}"
    elif error.validator in _COUNTS:
        thing, things, bound = _COUNTS[error.validator]
        count = f"{len(value)} {thing if len(value) == 1 else things}"
        fact = f"{where} has {count}; expected {bound} {limit}"
    else:
        fact = f"{where} is {shown(value)}; expected the form {limit}"
    return VALUE.at(recipe.value_span(*path), fact)


def _not_among(recipe: Recipe, value: object, choices: list[str], path: Path) -> Diagnostic:
    near = nearest_key(str(value), choices)
    span, fix = recipe.value_span(*path), None
    if near and isinstance(value, str):
        fix = write(span, near, safe=is_certain(value, near, choices))
    fact = f"{dotted(path)} is {shown(value)}; expected one of {', '.join(choices)}"
    return VALUE.at(span, fact, f'did you mean "{near}"?' if near else "", fix=fix)
