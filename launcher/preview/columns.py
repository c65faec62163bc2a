"""Which columns of a row a dataset's type reads, and as what: the part that needs no axolotl.

The types are those of axolotl 0.19's prompt_strategies/. One that is not here has no columns that
are known, and its rows are judged by what axolotl makes of them alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.plan.data.columns import PAIRS, PREFERENCES, SUPERVISED
from launcher.recipe import Recipe

Row = Mapping[str, Any]
DEFAULT_ROLES = {  # chat_template.py, ChatTemplatePrompter
    "human": "user",
    "user": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "system": "system",
    "tool": "tool",
}
PAIR_ROLES = {
    name: name for name in ("user", "assistant", "system", "tool")
}  # dpo/chat_template.py


@dataclass(frozen=True)
class Columns:
    """What a type reads. ``needed``: columns, each with those that may stand in its place.

    ``texts``: columns that are written into a text as they are, so that a list becomes the Python
    text of a list. ``ready``: nothing is written around them. ``messages``: columns with a list of
    messages. ``pair``: the two answers. ``roles``: what a role is called in the rows, to what it is
    to the template; ``strict``: no other role is taken.
    """

    needed: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...] = ()
    ready: bool = False
    messages: tuple[str, ...] = ()
    pair: tuple[str, str] | None = None
    roles: Mapping[str, str] | None = None
    strict: bool = False
    role: str = "role"
    content: str = "content"


def columns(recipe: Recipe, entry: Row) -> Columns | None:
    """Return what the type of a dataset entry reads, none where that is not known here."""
    value, kind, method = recipe.value, entry.get("type"), recipe.value.get("rl")
    if value.get("reward_model") or value.get("process_reward_model"):
        return None
    if method in PREFERENCES:
        return _pair(entry, kind)
    if method == "kto":
        return _judged(kind)
    if method == "orpo" and kind == "chat_template.argilla":
        return _whole("chosen", "rejected", strict=False)
    return None if method else _supervised(entry, kind)


def _pair(entry: Row, kind: Any) -> Columns | None:
    if isinstance(kind, dict):
        names = [_named(kind, f"field_{key}", key) for key in ("prompt", "chosen", "rejected")]
        return Columns(_each(names), tuple(names), pair=(names[1], names[2]))
    chosen, rejected = (_named(entry, f"field_{key}", key) for key in ("chosen", "rejected"))
    if kind in (None, "", "passthrough", "passthrough.default"):
        names = ["prompt", "chosen", "rejected"]
        return Columns(_each(names), tuple(names), ready=True, pair=("chosen", "rejected"))
    if kind in ("chat_template", "chat_template.default"):
        first = _named(entry, "field_messages", "messages")
        return Columns(
            _each([first, chosen, rejected]),
            messages=(first, chosen, rejected),
            pair=(chosen, rejected),
            roles=PAIR_ROLES,
            strict=True,
        )
    if kind == "chat_template.argilla_chat":
        return _whole(chosen, rejected, strict=True)
    module, _, function = str(kind).partition(".")
    found = PAIRS.get(function or "default") if module in ("chatml", "llama3") else None
    return _written(*found) if found else None


def _whole(chosen: str, rejected: str, *, strict: bool) -> Columns:
    """Both answers are whole conversations."""
    return Columns(
        _each([chosen, rejected]),
        messages=(chosen, rejected),
        pair=(chosen, rejected),
        roles=PAIR_ROLES if strict else None,
        strict=strict,
    )


def _judged(kind: Any) -> Columns | None:
    """kto/user_defined.py; without a type the rows are ready."""
    if isinstance(kind, dict):
        names = [_named(kind, f"field_{key}", key) for key in ("prompt", "completion", "label")]
        return Columns(_each(names), tuple(names[:2]))
    if kind is None:
        names = ["prompt", "completion", "label"]
        return Columns(_each(names), tuple(names[:2]), ready=True)
    return None


def _supervised(entry: Row, kind: Any) -> Columns | None:
    if isinstance(kind, dict):
        first, last = (_named(kind, f"field_{key}", key) for key in ("instruction", "output"))
        return Columns(_each([first, last]), (first, last))
    if kind == "completion":
        name = _named(entry, "field", "text")
        return Columns(((name,),), (name,))
    if kind == "chat_template":
        return _conversation(entry)
    found = SUPERVISED.get(str(kind).partition(":")[0])
    return _written(found[0], "") if found else None


def _conversation(entry: Row) -> Columns:
    name = _named(entry, "field_messages", "messages")
    mapped = entry.get("message_property_mappings")
    mapped = mapped if isinstance(mapped, Mapping) else {}
    given = entry.get("roles")
    roles = DEFAULT_ROLES
    if isinstance(given, Mapping) and given:
        listed = {target: many for target, many in given.items() if isinstance(many, list)}
        roles = {str(one): str(target) for target, many in listed.items() for one in many}
    return Columns(
        ((name,),),
        messages=(name,),
        roles=roles,
        role=str(mapped.get("role") or entry.get("message_field_role") or "role"),
        content=str(mapped.get("content") or entry.get("message_field_content") or "content"),
    )


def _written(common: str, answers: str) -> Columns:
    """Return the columns of a shipped format: "system? prompt|input", "chosen.1 rejected.1"."""
    names = [name.partition(".") for name in (*common.split(), *answers.split())]
    needed = tuple(tuple(name.split("|")) for name, _, _ in names if not name.endswith("?"))
    texts = [name.removesuffix("?") for name, _, part in names if not part]
    pair = [name.partition(".") for name in answers.split()]
    plain = len(pair) == 2 and not any(part for _, _, part in pair)
    return Columns(
        tuple(dict.fromkeys(needed)),
        tuple(one for name in texts for one in name.split("|")),
        pair=(pair[0][0].split("|")[0], pair[1][0].split("|")[0]) if plain else None,
    )


def _named(entry: Row, key: str, default: str) -> str:
    return str(entry.get(key) or default)


def _each(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple((name,) for name in names)


def answer(value: Any, content: str = "content") -> Any:
    """Return the text of an answer: a text, a message, or the last message; none where it has no
    such form (dpo/chat_template.py).
    """
    last = value[-1] if isinstance(value, list) and value else value
    return last.get(content) if isinstance(last, Mapping) else last


def messages(row: Row, read: Columns) -> list[Mapping[str, Any]]:
    """Return the messages of a row, those of both answers among them."""
    found: list[Mapping[str, Any]] = []
    for name in read.messages:
        value = row.get(name)
        listed = value if isinstance(value, list) else [value]
        found += [one for one in listed if isinstance(one, Mapping)]
    return found


def turns(row: Row, read: Columns) -> int:
    """Return how many messages a row has, of a pair with one of its answers."""
    value = row.get(read.messages[0]) if read.messages else None
    count = len(value) if isinstance(value, list) else 0 if value is None else 1
    answers_apart = read.pair is not None and read.messages[:1] != read.pair[:1]
    return count + 1 if count and answers_apart else count
