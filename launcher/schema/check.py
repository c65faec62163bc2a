"""Check a recipe against the closed schema: unknown and missing keys, wrong types and values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, TypeChecker
from jsonschema.validators import extend

from launcher.diagnostics import Code, Diagnostic, Severity
from launcher.recipe import Recipe, pack_folder
from launcher.schema.nearest import nearest_key

MISSING = Code("S101", "missing-key", Severity.ERROR, "axolotl cannot start without this key.")
UNKNOWN = Code(
    "S102",
    "unknown-key",
    Severity.ERROR,
    "axolotl ignores unknown keys without a word and uses its default.",
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

Error = Any  # jsonschema.ValidationError, whose fields are typed as possibly unset

_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "keys and values",
    "null": "nothing",
}


@lru_cache(maxsize=1)
def schema() -> Mapping[str, Any]:
    """Return the committed schema."""
    text = (pack_folder("schemas") / "recipe.schema.json").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = json.loads(text)
    return loaded


def check(recipe: Recipe) -> Iterator[Diagnostic]:
    """Yield every way in which the recipe departs from the schema."""
    for error in _validator().iter_errors(recipe.value):
        yield from _explain(recipe, error)


@lru_cache(maxsize=1)
def _validator() -> Any:
    """jsonschema's validator, with the types as lenient as pydantic's, which axolotl applies."""
    types: TypeChecker = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: _is_integer(value),
            "number": lambda _, value: _is_number(value),
            "boolean": lambda _, value: _is_boolean(value),
        }
    )
    limits = {name: _of_number(Draft202012Validator.VALIDATORS[name]) for name in _LIMITS}
    extended: Any = extend(Draft202012Validator, limits, type_checker=types)  # type: ignore[no-untyped-call]
    return extended(schema())


def _of_number(keyword: Any) -> Any:
    """Return a limit's check that takes a number written as text for the number, and leaves other
    text alone.
    """

    def limit(validator: Any, bound: Any, value: Any, node: Any) -> Iterator[Error]:
        return keyword(
            validator, bound, float(value) if _is_number(value) else value, node
        ) or iter(())

    return limit


def _is_number(value: object) -> bool:
    if isinstance(value, str):  # 2e-5 is text to YAML 1.1, a number to pydantic
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and math.isfinite(float(value)) and float(value).is_integer()


def _is_boolean(value: object) -> bool:
    if isinstance(value, str):
        return value.lower() in {
            "true",
            "false",
            "yes",
            "no",
            "on",
            "off",
            "y",
            "n",
            "t",
            "f",
            "0",
            "1",
        }
    return isinstance(value, bool) or value in (0, 1)


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


def _unknown_keys(recipe: Recipe, error: Error, path: tuple[str, ...]) -> Iterator[Diagnostic]:
    known = error.schema["properties"]
    for key in error.instance:
        if key in known:
            continue
        span = recipe.key_span(*path, str(key))
        if not isinstance(key, str):
            fact = f"the key is read as {_shown(key)}, not as text"
            yield UNKNOWN.at(
                span, fact, "write a name that axolotl knows; quote it if it is meant as text"
            )
            continue
        where = f" in {_dotted(path)}" if path else ""
        near = nearest_key(key, known)
        hint = f'did you mean "{near}"?' if near else _elsewhere(key, path)
        yield UNKNOWN.at(span, f'unknown key "{key}"{where}', hint)


def _elsewhere(key: str, path: tuple[str, ...]) -> str:
    if path and key in schema()["properties"]:
        return f'"{key}" belongs at the top level'
    return "delete it: axolotl ignores it without a word"


def _missing_keys(recipe: Recipe, error: Error, path: tuple[str, ...]) -> Iterator[Diagnostic]:
    for key in error.validator_value:
        if key not in error.instance:
            where = f"{_dotted(path)} has" if path else "the recipe has"
            example = error.schema["properties"].get(key, {})
            yield MISSING.at(
                recipe.key_span(*path),
                f'{where} no "{key}"',
                f"add {key}: {_example(key, example)}",
            )


def _explain_union(recipe: Recipe, error: Error, path: tuple[str, ...]) -> Iterator[Diagnostic]:
    """Report against the branch that was meant: the one whose type fits, and of several the one
    that fits best.
    """
    branches: dict[int, list[Error]] = {}
    for inner in error.context or ():
        branches.setdefault(int(inner.relative_schema_path[0]), []).append(inner)
    fitting = [inner for inner in branches.values() if not any(_is_mismatch(one) for one in inner)]
    if not fitting:
        yield _wrong_type(recipe, error.instance, list(error.validator_value), path)
    elif all(one.validator in ("enum", "const") for inner in fitting for one in inner):
        yield _not_among(
            recipe,
            error.instance,
            [value for inner in fitting for value in _choices(inner[0])],
            path,
        )
    else:
        for inner_error in min(fitting, key=len):
            yield from _explain(recipe, inner_error)


def _is_mismatch(error: Error) -> bool:
    """Whether a branch fails at its very root, for its type alone."""
    if error.relative_path:
        return False
    return error.validator == "type" or (
        error.validator in ("enum", "const") and not isinstance(error.instance, str)
    )


def _choices(error: Error) -> list[Any]:
    return list(error.validator_value) if error.validator == "enum" else [error.validator_value]


def _wrong_type(
    recipe: Recipe, value: object, schemas: list[Any], path: tuple[str, ...]
) -> Diagnostic:
    expected = _expected(schemas)
    hint = ""
    if "text" in expected:  # any text will do: the choices beside it are only its known values
        expected = [word for word in expected if word in _WORDS.values()]
    if isinstance(value, bool) and {"a number", "a whole number"} & set(expected):
        fact = f"{_dotted(path)} is {_shown(value)}, which axolotl reads as {int(value)}"
        return SWITCH.at(
            recipe.value_span(*path), fact, f"write the number that is meant, or {int(value)}"
        )
    if isinstance(value, bool) and "text" in expected:
        hint = f"quote it: YAML reads a bare yes, no, on, off as {_shown(value)}"
    elif value is None:
        hint = "give a value, or delete the line to use axolotl's default"
    elif not isinstance(value, (str, list, dict)) and "text" in expected:
        hint = f'quote it if it is meant as text: "{value}"'
    elif "a list" in expected and not isinstance(value, (list, dict)):
        hint = f"make it a list: [{_shown(value)}]"
    fact = f"{_dotted(path)} is {_shown(value)}; expected {_either(expected)}"
    return TYPE.at(recipe.value_span(*path), fact, hint)


def _wrong_value(recipe: Recipe, error: Error, path: tuple[str, ...]) -> Diagnostic:
    value, limit = error.instance, error.validator_value
    match error.validator:
        case "enum" | "const":
            return _not_among(recipe, value, _choices(error), path)
        case "minimum":
            fact = f"{_dotted(path)} is {_shown(value)}; expected at least {limit}"
        case "maximum":
            fact = f"{_dotted(path)} is {_shown(value)}; expected at most {limit}"
        case "exclusiveMinimum":
            fact = f"{_dotted(path)} is {_shown(value)}; expected more than {limit}"
        case "exclusiveMaximum":
            fact = f"{_dotted(path)} is {_shown(value)}; expected less than {limit}"
        case "minItems" | "minLength":
            fact = f"{_dotted(path)} has {len(value)} entries; expected at least {limit}"
        case "maxItems":
            fact = f"{_dotted(path)} has {len(value)} entries; expected at most {limit}"
        case _:
            fact = f"{_dotted(path)}: {error.message}"
    return VALUE.at(recipe.value_span(*path), fact)


def _not_among(
    recipe: Recipe, value: object, choices: list[Any], path: tuple[str, ...]
) -> Diagnostic:
    near = nearest_key(str(value), [choice for choice in choices if isinstance(choice, str)])
    listed = ", ".join(str(choice) for choice in choices)
    fact = f"{_dotted(path)} is {_shown(value)}; expected one of {listed}"
    return VALUE.at(recipe.value_span(*path), fact, f'did you mean "{near}"?' if near else "")


def _expected(schemas: list[Any]) -> list[str]:
    """Return in words what the schemas allow, each once, "nothing" left out."""
    words: list[str] = []
    for node in schemas:
        if "$ref" in node:
            node = schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        kinds = node.get("type", [])
        found = [
            _WORDS[kind]
            for kind in ([kinds] if isinstance(kinds, str) else kinds)
            if kind != "null"
        ]
        if "enum" in node or "const" in node:
            found = [str(choice) for choice in node.get("enum", [node.get("const")])]
        words += [word for word in found if word not in words]
    return words


def _either(words: list[str]) -> str:
    return " or ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} or {words[-1]}"


def _example(key: str, node: Mapping[str, Any]) -> str:
    known = {"base_model": "Qwen/Qwen2.5-3B-Instruct", "learning_rate": "5.0e-6"}
    return known.get(key) or str(node.get("enum", ["..."])[0])


def _shown(value: object) -> str:
    """Return a value as a person would say it, cut to a line."""
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f'the text "{text}"' if isinstance(value, str) else text


def _dotted(path: tuple[str, ...]) -> str:
    """("datasets", "0", "path") -> datasets[0].path."""
    out = ""
    for part in path:
        out += f"[{part}]" if part.isdecimal() else f".{part}" if out else part
    return out or "the recipe"
