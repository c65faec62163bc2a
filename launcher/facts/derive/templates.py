"""axolotl's chat templates: what each writes around a turn, found by rendering it."""

from __future__ import annotations

import re
from typing import Any

JSON = dict[str, Any]

BOS, EOS = "<bos>", "<eos>"  # stand for the tokenizer's own tokens, which templates are given
# <|im_end|>, <turn|>, <|turn>, <end_of_turn>, </s>, [|user|], [INST]; DeepSeek's bars are wider
SPECIAL = re.compile(
    r"<\|[^<>{}'\"\s|]+\|?>|<[^<>{}'\"\s|/]+\|>|</?[A-Za-z][A-Za-z_0-9]*>"
    r"|\[\|[^\]\[\s|]+\|\]|\[/?[A-Z_]{2,}\]|<\uff5c[^<>{}'\"\s]+\uff5c>"
)
ANSWERS = {"blank": " Answer ", "newline": "\n\n\nAnswer\n\n\n"}


def chat_templates() -> JSON:
    """Return the names that ``chat_template`` takes, and what each template writes.

    ``names``: the members of ``ChatTemplate`` (utils/schemas/enums.py), all that the top-level key
    takes beside ``fallback_prefix`` with a file's name. ``special``: those that stand for no file
    (``get_chat_template``, utils/chat_templates/base.py). ``files``: the templates themselves; a
    dataset entry, where any text is valid, can name one that the top level does not know.
    """
    from axolotl.utils.chat_templates import base
    from axolotl.utils.schemas.enums import ChatTemplate

    return {
        "names": sorted(member.value for member in ChatTemplate),
        "special": sorted([base._DEFAULT_TEMPLATE_CHOICE, base._JINJA_TEMPLATE_CHOICE]),
        "fallback_prefix": base._DEFAULT_FALLBACK_CHATML_TEMPLATE_CHOICE_PREFIX,
        "files": {name: facts(text) for name, text in sorted(base._CHAT_TEMPLATES.items())},
    }


def facts(text: str) -> JSON:
    """Return what a jinja template does with one exchange.

    ``tokens``: the special tokens that it writes; ``turn_end``: those after the answer, in order;
    ``trims``: which white space it takes from an answer's ends, so that the answer is not to be
    found in what it wrote. The tokenizer's own tokens are "bos" and "eos".
    """
    rendered = {kind: _render(text, answer) for kind, answer in ANSWERS.items()}
    after = rendered["blank"].rpartition(ANSWERS["blank"].strip())[2]
    return {
        "tokens": sorted(set(_tokens(rendered["blank"]))),
        "turn_end": _tokens(after),
        "trims": [kind for kind, answer in ANSWERS.items() if answer not in rendered[kind]],
    }


def _tokens(text: str) -> list[str]:
    return [{BOS: "bos", EOS: "eos"}.get(token, token) for token in SPECIAL.findall(text)]


def _render(text: str, answer: str) -> str:
    """Render one exchange as transformers' ``apply_chat_template`` does."""
    from transformers.utils.chat_template_utils import render_jinja_template

    turns = [{"role": "user", "content": "Question"}, {"role": "assistant", "content": answer}]
    rendered, _ = render_jinja_template(
        [turns], chat_template=text, bos_token=BOS, eos_token=EOS, add_generation_prompt=False
    )
    return str(rendered[0])
