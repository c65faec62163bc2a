"""The text of one row: columns, messages, and what makes a row unreadable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.plan.data.files import Row

CONTENT = ("content", "reasoning_content")  # of a message, as chat_template.py maps them


class Missing(ValueError):
    """A row has not what its type reads, or more than is counted here: pictures, tools."""


@dataclass(frozen=True)
class Texts:
    """The text of a row: what is ``common``, and of a pair each of the ``answers``. ``turns``: the
    messages that a chat template writes, 0 without one.
    """

    common: tuple[str, ...]
    answers: tuple[str, ...] = ()
    turns: int = 0


@dataclass(frozen=True)
class Reading:
    """How a type reads rows (``of`` raises `Missing`), and what it writes around each itself.
    ``pieces``: a long text becomes several rows of ``sequence_len``.
    """

    of: Callable[[Row], Texts]
    markup: str = ""
    pieces: bool = False


def columns(common: str, answers: str = "") -> Callable[[Row], Texts]:
    """Return what reads these columns, with a space between their names (see `column`)."""
    first, second = common.split(" "), answers.split()
    return lambda row: Texts(
        tuple(column(row, name) for name in first), tuple(column(row, name) for name in second)
    )


def column(row: Row, name: str) -> str:
    """Return the text of a column as an f-string writes it. ``a|b``: the first that is there;
    ``a?``: may be missing; ``a.1``: the second message of a conversation. Raises `Missing`.
    """
    optional = name.endswith("?")
    names = name.removesuffix("?").split("|")
    key, _, index = next((one for one in names if one in row), names[0]).partition(".")
    value = row.get(key)
    if index:
        return message(_item(value, int(index)), ("content",))
    if value is None and not optional:
        raise Missing(key)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _item(value: Any, index: int) -> Any:
    if not isinstance(value, list) or len(value) <= index:
        raise Missing("message")
    return value[index]


def named(entry: Row, key: str, default: str) -> str:
    """Return the column, or the text, that an entry gives under a key."""
    return str(entry.get(key) or default)


def column_named(row: Row, name: str) -> str:
    """Return the text of a column that may be missing."""
    value = row.get(name)
    return value if isinstance(value, str) else "" if value is None else str(value)


def keys(entry: Row) -> tuple[str, ...]:
    """Return the properties of a message that are text, as the entry maps them."""
    mapped = entry.get("message_property_mappings")
    if isinstance(mapped, Mapping) and mapped:
        return tuple(str(name) for key, name in mapped.items() if key != "role")
    return (named(entry, "message_field_content", CONTENT[0]), *CONTENT[1:])


def message(value: Any, parts: tuple[str, ...]) -> str:
    """Return the text of a message."""
    if not isinstance(value, Mapping) or value.get("tool_calls"):
        raise Missing("message")
    found = [value[key] for key in parts if value.get(key) is not None]
    if not found or not all(isinstance(text, str) for text in found):
        raise Missing("content")
    return "\n".join(found)


def messages(value: Any, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts of a conversation. Raises `Missing`."""
    if not isinstance(value, list) or not value:
        raise Missing("messages")
    return tuple(message(one, parts) for one in value)


def last(value: Any, parts: tuple[str, ...]) -> str:
    """Return an answer: the text, the message, or the last message. Raises `Missing`."""
    if isinstance(value, str):
        return value
    return message(_item(value, len(value) - 1) if isinstance(value, list) else value, parts)
