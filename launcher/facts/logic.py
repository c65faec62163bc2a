"""Conditions on a recipe, as data: what a validator of axolotl tests before it refuses.

A term is a list, its first entry the operation: ``["==", ["item", ["raw"], "rl", ["const", None]],
["const", "kto"]]``. It is evaluated as Python would, and ``UNKNOWN`` where something in it cannot
be told from a recipe: the GPU, a function that was not read. What is unknown is never true.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Term = list[Any]
View = Mapping[str, Any]  # "raw": the keys as given; "self": as axolotl's types convert them


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()

_TYPES = {"str": str, "list": list, "dict": dict, "int": int, "float": float, "bool": bool}
_PLAIN: Mapping[str, Callable[..., Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "%": operator.mod,
    "*": operator.mul,
    "+": operator.add,
    "-": operator.sub,
    "/": operator.truediv,
    "is": lambda one, other: one is other,
    "is not": lambda one, other: one is not other,
    "in": lambda one, other: one in other,
    "not in": lambda one, other: one not in other,
    "not": operator.not_,
    "str": str,
    "int": int,
    "len": len,
    "bool": bool,
    "lower": lambda text: text.lower(),
    "startswith": lambda text, start: text.startswith(start),
    "isinstance": lambda value, name: isinstance(value, _TYPES[name]),
    "head": lambda text: text and text.split(":", 1)[0].split("@", 1)[0].strip(),
    "has": lambda holder, key: key in holder,
    "list": lambda *values: list(values),
    "at": operator.getitem,
    "joined": lambda between, values: between.join(map(str, values)),
    "join": lambda *parts: "".join(map(str, parts)),
}


def holds(term: Term, views: View) -> bool:
    """Return whether a condition is true; what is unknown is not."""
    value = evaluate(term, views)
    return value is not UNKNOWN and bool(value)


def evaluate(term: Term, views: View) -> Any:
    """Return the value of a term, or ``UNKNOWN``."""
    name, *parts = term
    match name:
        case "raw" | "self":
            return views[name]
        case "const":
            return parts[0]
        case "unknown":
            return UNKNOWN
        case "and" | "or":
            return _chain(name == "or", parts, views)
        case "if" | "item" | "picked":
            return _SPECIAL[name](parts, views)
    values = [evaluate(part, views) for part in parts]
    return UNKNOWN if any(value is UNKNOWN for value in values) else _apply(name, values)


def paths(term: Any) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key that a term looks at, outermost key first."""
    if not isinstance(term, list) or not term:
        return
    path = _path(term)
    if path:
        yield path
        return
    for part in term:
        yield from paths(part)


def _path(term: Any) -> tuple[str, ...]:
    """Return ("trl", "beta") of an item of an item of the recipe, () of anything else."""
    if term[0] == "has" and isinstance(term[2], list):
        return (*_path(term[1]), str(term[2][1]))
    if term[0] in ("or", "and") and len(term) == 3 and term[2] == ["const", {}]:
        return _path(term[1])  # data.get("trl") or {}
    if term[0] != "item":
        return ()
    above = term[1]
    return (term[2],) if above in (["raw"], ["self"]) else (*_path(above), term[2])


def _apply(name: str, values: list[Any]) -> Any:
    try:
        return _PLAIN[name](*values)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
        return UNKNOWN  # axolotl fails there in another way


def _chain(either: bool, parts: list[Term], views: View) -> Any:
    """Return what ``and`` and ``or`` do; one that decides stands, whatever is unknown beside it."""
    unknown, value = False, None
    for part in parts:
        value = evaluate(part, views)
        if value is UNKNOWN:
            unknown = True
        elif bool(value) is either:
            return value
    return UNKNOWN if unknown else value


def _either(parts: list[Term], views: View) -> Any:
    test = evaluate(parts[0], views)
    return UNKNOWN if test is UNKNOWN else evaluate(parts[1 if test else 2], views)


def _item(parts: list[Any], views: View) -> Any:
    holder = evaluate(parts[0], views)
    if not isinstance(holder, dict):
        return UNKNOWN
    return holder[parts[1]] if parts[1] in holder else evaluate(parts[2], views)


def _picked(parts: list[list[Term]], views: View) -> Any:
    """Return the list of the values whose test holds."""
    found = []
    for test, value in parts:
        holds = evaluate(test, views)
        if holds is UNKNOWN:
            return UNKNOWN
        if holds:
            found.append(evaluate(value, views))
    return found


_SPECIAL: Mapping[str, Callable[[Any, View], Any]] = {
    "if": _either,
    "item": _item,
    "picked": _picked,
}
