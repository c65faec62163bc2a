"""The committed schema, and a validator with the types as lenient as pydantic's, which axolotl
applies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, TypeChecker
from jsonschema.validators import extend

from launcher.recipe import pack_folder

Error = Any  # jsonschema.ValidationError, whose fields are typed as possibly unset

_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_WHOLE = re.compile(r"\s*[+-]?[0-9]+(_[0-9]+)*(\.0+)?\s*")
_ON = frozenset({"true", "yes", "on", "y", "t", "1"})
_OFF = frozenset({"false", "no", "off", "n", "f", "0"})


@lru_cache(maxsize=1)
def schema() -> Mapping[str, Any]:
    """Return the committed schema."""
    text = (pack_folder("schemas") / "recipe.schema.json").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = json.loads(text)
    return loaded


def errors(value: Any) -> Iterator[Error]:
    """Yield what jsonschema finds wrong with a recipe's value."""
    yield from _validator().iter_errors(value)


def is_number(value: object) -> bool:
    """Return whether pydantic reads a number: 2e-5 is text to YAML 1.1, a number to pydantic."""
    if not isinstance(value, str):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        float(value)
    except ValueError:
        return False
    return value.isascii()


def is_integer(value: object) -> bool:
    """Return whether pydantic reads a whole number: "3", "3.0" and 3.0, but not "1e3"."""
    if isinstance(value, str):
        return bool(_WHOLE.fullmatch(value))
    return is_number(value) and (not isinstance(value, float) or value.is_integer())


def is_on(value: object) -> bool:
    """Return whether pydantic reads true: yes, "on", 1 and the like."""
    return value.lower() in _ON if isinstance(value, str) else value == 1


def is_boolean(value: object) -> bool:
    """Return whether pydantic reads true or false at all."""
    if isinstance(value, str):
        return value.lower() in _ON | _OFF
    return isinstance(value, bool) or value in (0, 1)


@lru_cache(maxsize=1)
def _validator() -> Any:
    types: TypeChecker = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: is_integer(value),
            "number": lambda _, value: is_number(value),
            "boolean": lambda _, value: is_boolean(value),
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
        plain = float(value) if isinstance(value, str) and is_number(value) else value
        return keyword(validator, bound, plain, node) or iter(())

    return limit
