"""What is known of a machine as JSON and back, so that a machine can be kept in a file."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def to_data(value: Any) -> Any:
    """Return a dataclass as JSON takes it."""
    return _plain(asdict(value))


def from_data(kind: type[T], data: Mapping[str, Any]) -> T:
    """Return the dataclass that ``data`` holds; what is not in it has its default. Raises
    ``ValueError`` for a field that there is not, or a value of another kind.
    """
    hints = typing.get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := data.keys() - known:
        raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    return kind(**{name: _value(hints[name], value, name) for name, value in data.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(child) for child in value]
    return str(value) if isinstance(value, Path) else value


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (hint,) = (one for one in arguments if one is not type(None))
        return _value(hint, value, name)
    if origin is tuple:
        kinds = arguments if arguments[-1] is not ... else (arguments[0],) * len(value)
        return tuple(_value(kind, child, name) for kind, child in zip(kinds, value, strict=True))
    if is_dataclass(hint) and isinstance(hint, type):
        return from_data(hint, value)
    if hint is Path:
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint):
        raise ValueError(f"{name} is {value!r}, not {hint.__name__}")
    return value
