"""Which text of a row a dataset's type trains on: the columns that its prompt strategy reads.

The columns are those of axolotl 0.19: prompt_tokenizers.py and prompt_strategies/, whose files are
named below. A type that is not here, or a row without a column that it must have, has no text: a
length that is not known is better than a wrong one.
"""

from __future__ import annotations

import re
from typing import Any

from launcher.plan.data.files import Row
from launcher.plan.data.texts import (
    Missing,
    Reading,
    Texts,
    column_named,
    columns,
    keys,
    last,
    messages,
    named,
)
from launcher.recipe import Recipe

# What prompters.py writes around the columns (AlpacaPrompter; the longer of with and without input,
# and the longest system prompt of those that the types below use).
_SYSTEM = (
    "Below is an instruction from a USER that describes a task, paired with an input that provides"
    " further context. The ASSISTANT writes a response that concisely and appropriately completes"
    " the request.\n\n"
)
STYLES = {
    "instruct": f"{_SYSTEM}### Instruction:\n\n\n### Input:\n\n\n### Response:\n",
    "chat": f"SYSTEM: {_SYSTEM}\nUSER: \n\nASSISTANT:",
    "chatml": f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n<|im_start|>user\n\n<|im_end|>\n"
    "<|im_start|>assistant\n",
    "phi": f"<|system|>\n{_SYSTEM}<|end|>\n<|user|>\n<|end|>\n<|assistant|>\n",
}
_TLDR = "USER: Summarize the following article as a TL;DR.\n\n\nASSISTANT:"
_HUMAN = "### System:\n\n### Human:\n\n### Additional Context:\n\n### Assistant:\n"

# A type without `rl`: its columns ("?": may be missing) and its style. `base:style` sets another.
_ALPACA = "instruction input? output"
SUPERVISED = {
    "alpaca": (_ALPACA, STYLES["instruct"]),
    "gpteacher": ("instruction input? response", STYLES["instruct"]),
    "jeopardy": ("question category answer", STYLES["instruct"] + "what is "),
    "oasst": ("INSTRUCTION RESPONSE", STYLES["instruct"]),
    "summarizetldr": ("article summary", _TLDR),
    # alpaca_chat.py, alpaca_instruct.py
    "alpaca_chat": (_ALPACA, STYLES["chatml"]),  # `conversation` may choose any: the longest
    "alpaca_chat.load_concise": (_ALPACA, STYLES["chat"]),
    "alpaca_chat.load_no_prompt": (_ALPACA, STYLES["chat"]),
    "alpaca_chat.load_qa": ("question answer", STYLES["chat"]),
    "alpaca_chat.load_camel_ai": ("message_1 message_2", STYLES["chat"]),
    "alpaca_instruct": (_ALPACA, STYLES["instruct"]),
    "alpaca_instruct.load_no_prompt": (_ALPACA, STYLES["instruct"]),
    # alpaca_w_system.py: the system prompt is a column
    "alpaca_w_system": (f"system {_ALPACA}", STYLES["chat"]),
    "alpaca_w_system.load_chat": (f"system {_ALPACA}", STYLES["chat"]),
    "alpaca_w_system.load_instruct": (f"system {_ALPACA}", STYLES["instruct"]),
    "alpaca_w_system.load_open_orca": ("system_prompt question response", _HUMAN),
    "alpaca_w_system.load_open_orca_chatml": (
        "system_prompt question response",
        STYLES["chatml"],
    ),
}

# dpo/chatml.py and dpo/llama3.py: what comes before the answers, and the answers ("|": the first
# that is there). `.1` is the second message of a column.
_MARKUP = {
    "chatml": "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<|im_end|>\n"
    "<|im_start|>assistant\n<|im_end|>",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\n<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n<|eot_id|>",
}
PAIRS = {
    "default": (
        "system? prompt|input|question|instruction",
        "chosen|chosen_response rejected|rejected_response",
    ),
    "icr": ("system? input", "chosen rejected"),
    "intel": ("system? question", "chosen rejected"),
    "prompt_pairs": ("system? prompt", "chosen rejected"),
    "ultra": ("system? prompt", "chosen.1 rejected.1"),
    "argilla_chat": ("chosen.0", "chosen.1 rejected.1"),
}
PREFERENCES = ("dpo", "ipo", "simpo")  # the types of prompt_strategies/dpo/ for pairs
_FIELD = re.compile(r"\{(\w+)\}")


def reading(recipe: Recipe, entry: Row) -> Reading | None:
    """Return how the rows of a dataset entry are read, none where that is not known here."""
    value, kind = recipe.value, entry.get("type")
    if value.get("reward_model") or value.get("process_reward_model"):
        return None
    if value.get("rl"):
        return _preference(recipe, entry, kind) if value["rl"] in PREFERENCES else None
    if isinstance(kind, dict):
        return _formatted(kind)
    if kind == "completion":
        return _completion(named(entry, "field", "text"))
    if kind == "chat_template":
        return _conversation(entry) if _plain(recipe, entry) else None
    base, _, style = str(kind).partition(":")
    found = SUPERVISED.get(base)
    if found is None or (style and style not in STYLES):
        return None
    return Reading(columns(found[0]), STYLES[style] if style else found[1])


def _preference(recipe: Recipe, entry: Row, kind: Any) -> Reading | None:
    if isinstance(kind, dict):
        return _formatted_pair(kind)
    name = str(kind or "passthrough")
    if name in _CHATS:
        return _CHATS[name](entry) if _plain(recipe, entry) else None
    if name in ("passthrough", "passthrough.default"):
        return Reading(columns("prompt", "chosen rejected"))
    module, _, function = name.partition(".")
    found = PAIRS.get(function or "default")
    if found is None or module not in _MARKUP:
        return None
    return Reading(columns(*found), _MARKUP[module])


def _plain(recipe: Recipe, entry: Row) -> bool:
    """Whether the chat template is one that the allowance for messages was made for: no own one,
    and no pictures.
    """
    own = [place.get("chat_template") for place in (entry, recipe.value)]
    jinja = [place.get("chat_template_jinja") for place in (entry, recipe.value)]
    return "jinja" not in own and not any(jinja) and not recipe.value.get("processor_type")


def _completion(name: str) -> Reading:
    """completion.py: one column, cut into pieces of ``sequence_len``."""

    def of(row: Row) -> Texts:
        if row.get(name) is None:
            raise Missing(name)
        return Texts((column_named(row, name),))

    return Reading(of, pieces=True)


def _formatted(kind: Row) -> Reading:
    """user_defined.py: the columns and formats of a ``type:`` mapping."""
    fields = {
        key: named(kind, f"field_{key}", key)
        for key in ("system", "instruction", "input", "output")
    }
    needed = (fields["instruction"], fields["output"])
    text = max(
        named(kind, "format", "{instruction} {input} "),
        named(kind, "no_input_format", "{instruction} "),
        key=len,
    )
    text = named(kind, "system_format", "{system}") + text + "{output}"

    def of(row: Row) -> Texts:
        if any(row.get(name) is None for name in needed):
            raise Missing(*needed)
        return Texts(_filled(row, text, fields))

    return Reading(of, str(kind.get("system_prompt") or "") + _around(text))


def _formatted_pair(kind: Row) -> Reading:
    """dpo/user_defined.py: likewise for pairs."""
    fields = {
        key: named(kind, f"field_{key}", key) for key in ("system", "prompt", "chosen", "rejected")
    }
    needed = [name for key, name in fields.items() if key != "system"]
    text = named(kind, "prompt_format", "{prompt}")
    answers = [named(kind, f"{key}_format", f"{{{key}}}") for key in ("chosen", "rejected")]

    def of(row: Row) -> Texts:
        if any(row.get(name) is None for name in needed):
            raise Missing(*needed)
        found = tuple("".join(_filled(row, answer, fields)) for answer in answers)
        return Texts(_filled(row, text, fields), found)

    return Reading(of, _around(text) + max(map(_around, answers), key=len))


def _filled(row: Row, text: str, fields: Row) -> tuple[str, ...]:
    """Return the columns that a format names, as often as it names them."""
    return tuple(column_named(row, fields[key]) for key in _FIELD.findall(text) if key in fields)


def _around(text: str) -> str:
    """Return what a format writes around its fields."""
    return _FIELD.sub("", text)


def _conversation(entry: Row) -> Reading:
    """chat_template.py: the messages, and a system prompt of their own column."""
    where, parts = named(entry, "field_messages", "messages"), keys(entry)
    system, tools = named(entry, "field_system", "system"), named(entry, "field_tools", "tools")

    def of(row: Row) -> Texts:
        if row.get(tools) or row.get("images"):
            raise Missing("text alone")
        texts = (column_named(row, system), *messages(row.get(where), parts))
        return Texts(texts, turns=len(texts))

    return Reading(of)


def _chat_pair(entry: Row) -> Reading:
    """dpo/chat_template.py, default: the messages, and of each answer the last one."""
    where, parts = named(entry, "field_messages", "messages"), keys(entry)
    answers = [named(entry, f"field_{key}", key) for key in ("chosen", "rejected")]

    def of(row: Row) -> Texts:
        value = row.get(where)
        common = (value,) if isinstance(value, str) else messages(value, parts)
        return Texts(common, tuple(last(row.get(key), parts) for key in answers), len(common) + 1)

    return Reading(of)


def _chat_whole(entry: Row) -> Reading:
    """dpo/chat_template.py, argilla_chat: whole conversations, whose last message is the answer."""
    parts = keys(entry)
    chosen, rejected = (named(entry, f"field_{key}", key) for key in ("chosen", "rejected"))

    def of(row: Row) -> Texts:
        *common, answer = messages(row.get(chosen), parts)
        return Texts(tuple(common), (answer, last(row.get(rejected), parts)), len(common) + 1)

    return Reading(of)


_CHATS = {
    "chat_template": _chat_pair,
    "chat_template.default": _chat_pair,
    "chat_template.argilla_chat": _chat_whole,
}
