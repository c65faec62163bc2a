"""The tokenizer as axolotl sets it up, and tokens as text. Imported in the child alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.preview.rendering import DRAWN, Refused, words
from launcher.recipe import Recipe
from launcher.standin import tokenizer as stand_in

# What looks like a special token: <|im_start|>, <start_of_turn>.
SPECIAL = re.compile(r"<\|[A-Za-z0-9_.-]{1,40}\|>|<(?:start|end)_of_turn>")
DEFAULT = "tokenizer_default"  # the template of the tokenizer itself
PART = 6  # tokens; a letter has at most four bytes, and some tokenizers start with a blank
NEAR = 3  # tokens; how far from a turn axolotl looks for its end (chat_template.py)
NO_TEMPLATE = "chat_template is null"  # utils/chat_templates/base.py
NEW_TOKENS = "Please set lora_modules_to_save"  # loaders/tokenizer.py


def load(cfg: Any, question: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the tokenizer, or a stand-in where the model's own cannot be had, and what is known
    of it. Raises `Refused`.
    """
    from axolotl.utils.config import normalize_cfg_datasets, normalize_config

    why = ""
    try:
        normalize_config(cfg)
        normalize_cfg_datasets(cfg)
        tokenizer, refused = _loaded(cfg)
    except Exception as problem:
        if question["local"] or not isinstance(problem, OSError):
            fact = f"the model's config or tokenizer does not load: {words(problem)}"
            raise Refused(fact, "look at its folder") from problem
        why = question["why"] or words(problem)
        _stand_in(cfg, question)
        normalize_config(cfg)
        normalize_cfg_datasets(cfg)
        tokenizer, refused = _loaded(cfg)
    return tokenizer, _vocabulary(cfg, tokenizer, why, refused)


def _loaded(cfg: Any) -> tuple[Any, str]:
    """Return the tokenizer, and why axolotl refuses it: then it is the one without an adapter, or
    without a template, so that more can be told.
    """
    from axolotl.loaders import load_tokenizer

    try:
        return load_tokenizer(cfg), ""
    except ValueError as problem:
        refused = str(problem)
        if NEW_TOKENS in refused:
            adapter, cfg.adapter = cfg.adapter, None
            tokenizer = load_tokenizer(cfg)
            cfg.adapter = adapter
        elif NO_TEMPLATE in refused:
            cfg.chat_template = None
            tokenizer = load_tokenizer(cfg)
        else:
            raise
        return tokenizer, refused


def _stand_in(cfg: Any, question: Mapping[str, Any]) -> None:
    """Let the config name a small tokenizer that is made of the rows' texts."""
    folder = Path(question["folder"]) / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe("preview", "preview", question["config"], {}, {})
    rows = [entry["rows"] for entry in question["entries"]]
    stand_in.write(folder, recipe, stand_in.texts(rows))
    if not (folder / "config.json").exists():
        (folder / "config.json").write_text(json.dumps(question["shape"]), encoding="utf-8")
    cfg.base_model_config = cfg.tokenizer_config = str(folder)
    cfg.revision_of_model = cfg.tokenizer_type = cfg.added_tokens_overrides = None


def _vocabulary(cfg: Any, tokenizer: Any, why: str, refused: str) -> dict[str, Any]:
    from axolotl.loaders.utils import load_model_config

    shape = load_model_config(cfg)
    text = shape.get_text_config() if hasattr(shape, "get_text_config") else shape
    rows = int(getattr(text, "vocab_size", 0) or 0)
    grown = [str(one) for number, one in tokenizer.added_tokens_decoder.items() if number >= rows]
    return {
        "real": not why,
        "why": why,
        "size": len(tokenizer),
        "embeddings": rows,
        "grown": grown if rows and len(tokenizer) > rows else [],
        "eos": tokenizer.eos_token or "",
        "has_template": bool(tokenizer.chat_template),
        "refused": refused,
    }


def split(
    cfg: Any,
    tokenizer: Any,
    asked: Iterable[Mapping[str, Any]],
    entries: Iterable[Mapping[str, Any]],
) -> list[str]:
    """Return what looks like a special token, stands in the rendered texts but not in the rows, and
    is several tokens here. What the tokenizer's own template writes is meant so: Zephyr's
    ``<|user|>`` always was several.
    """
    by_default = str(cfg.chat_template or DEFAULT).startswith(DEFAULT)
    own = set(SPECIAL.findall(str(tokenizer.chat_template))) if by_default else set()
    written = {
        token
        for entry in entries
        for row in entry["rows"]
        for text in (row.get("texts") or {}).values()
        for token in SPECIAL.findall(text)
    }
    given = {
        token
        for entry in asked
        for text in stand_in.texts(entry["rows"])
        for token in SPECIAL.findall(text)
    }
    return sorted(
        token
        for token in written - given - own
        if len(tokenizer.encode(token, add_special_tokens=False)) > 1
    )


def leading(ids: Sequence[int], token: int | None) -> int:
    """Return how many tokens of this kind the ids start with."""
    if token is None:
        return 0
    return next((place for place, one in enumerate(ids) if one != token), len(ids))


def ending(tokenizer: Any, ids: Sequence[int], trained: Sequence[bool]) -> tuple[str, bool]:
    """Return the special token that ends the last trained text, and whether it is trained; nothing
    where none is near.
    """
    last = max((place for place, one in enumerate(trained) if one), default=None)
    special = tokenizer.added_tokens_decoder
    if last is None:
        return "", False
    before = next((p for p in range(last, max(last - NEAR, -1), -1) if ids[p] in special), None)
    if before is not None and trained[before]:
        return str(special[ids[before]]), True
    after = next((p for p in range(last + 1, len(ids))[:NEAR] if ids[p] in special), None)
    return ("", False) if after is None else (str(special[ids[after]]), False)


def drawn(
    tokenizer: Any, ids: Sequence[int], trained: Sequence[bool]
) -> list[tuple[str, bool, bool]]:
    """Return the ids as tokens to be drawn: text, trained, special. Together the texts are the text
    that was tokenized; of a long one its two ends.
    """
    if len(ids) > DRAWN:
        tail = DRAWN // 3
        head = DRAWN - tail
        first = drawn(tokenizer, ids[:head], trained[:head])
        return first + drawn(tokenizer, ids[-tail:], trained[-tail:])
    special = tokenizer.added_tokens_decoder
    own = [number in special for number in ids]
    return list(zip(_texts(tokenizer, ids), map(bool, trained), own, strict=True))


def _texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return the text of each token. Of a letter that takes several, the last has it."""

    def text(start: int, stop: int) -> str:
        return str(tokenizer.decode(ids[start:stop], skip_special_tokens=False))

    found, context, start = [], 0, 0
    for place in range(len(ids)):
        before, after = text(context, start), text(context, place + 1)
        if after.endswith("\ufffd") and place - start < PART and place + 1 < len(ids):
            found.append("")
            continue
        found.append(after[len(before) :])
        context, start = start, place + 1
    return found
