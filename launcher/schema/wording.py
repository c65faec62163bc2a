"""How values, places and types are put into words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_WORDS = {
    "string": ["text"],
    "integer": ["a whole number"],
    "number": ["a number"],
    "boolean": ["true", "false"],
    "array": ["a list"],
    "object": ["keys and values"],
    "null": [],
}
_ALL_WORDS = {word for words in _WORDS.values() for word in words}
_EXAMPLES = {"base_model": "Qwen/Qwen2.5-3B-Instruct", "learning_rate": "5.0e-6"}


def shown(value: object) -> str:
    """Return a value as a person would say it, cut to a line."""
    match value:
        case dict():
            return "a block of keys"
        case list():
            return f"a list of {len(value)}"
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case str():
            return f'the text "{cut(value)}"'
    return cut(str(value))


def cut(text: str, width: int = 60) -> str:
    """Return a text, its end left out where it is longer than ``width``."""
    return text if len(text) <= width else text[: width - 3] + "..."


def dotted(path: Iterable[str]) -> str:
    """("datasets", "0", "path") -> datasets[0].path."""
    out = ""
    for part in map(cut, path):
        out += f"[{part}]" if part.isdecimal() else f".{part}" if out else part
    return out or "the recipe"


def expected(nodes: Iterable[Mapping[str, Any]], schema: Mapping[str, Any]) -> list[str]:
    """Return in words what the schema's nodes allow, each once, "nothing" left out. Where any text
    will do, the texts that are listed beside it are left out too.
    """
    words: list[str] = []
    for node in nodes:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        if "enum" in node or "const" in node:
            words += map(str, node.get("enum", [node.get("const")]))
        elif "type" in node:
            kinds = [node["type"]] if isinstance(node["type"], str) else node["type"]
            words += [word for kind in kinds for word in _WORDS[kind]]
    if "text" in words:
        words = [word for word in words if word in _ALL_WORDS]
    return list(dict.fromkeys(words))


def either(words: Sequence[str]) -> str:
    """("a", "b", "c") -> a, b or c."""
    return " or ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} or {words[-1]}"


def example(key: str, node: Mapping[str, Any]) -> str:
    """Return a value that the key could have."""
    return _EXAMPLES.get(key) or str(node.get("enum", ["..."])[0])
