"""A small tokenizer for where the model's own is neither here nor to be had.

Byte-level BPE, trained on the rows themselves in a moment, with the special tokens and the chat
template of the model's family: turns, masks and ends are those of the real one, the numbers of
tokens are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from launcher.recipe import Recipe, pack_folder

VOCABULARY = 4096  # tokens at most; a few dozen rows fill half of them


def write(folder: Path, recipe: Recipe, texts: Iterable[str]) -> None:
    """Write the tokenizer for a recipe's model into a folder that transformers reads. Imports
    transformers. Raises ``OSError`` where the folder cannot be written.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    known = family(str(recipe.value.get("tokenizer_config") or recipe.value.get("base_model")))
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(  # type: ignore[no-untyped-call]
        vocab_size=VOCABULARY,
        special_tokens=known["tokens"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    if known["add_bos"]:
        bos = known["bos"]
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos}:0 $A:0",
            pair=f"{bos}:0 $A:0 {bos}:1 $B:1",
            special_tokens=[(bos, core.token_to_id(bos))],
        )
    named = {f"{part}_token": known[part] for part in ("bos", "eos", "pad", "unk") if known[part]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **named)
    tokenizer.chat_template = _template(known["template"])
    tokenizer.save_pretrained(folder)


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a row or rows, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for child in value:
            yield from texts(child)


def family(name: str) -> Mapping[str, Any]:
    """Return the special tokens that a model's own tokenizer is published with; for a name that is
    not known, those of Llama 2.
    """
    return next(
        one
        for one in _families()
        if any(fnmatchcase(name.lower(), pattern.lower()) for pattern in one["names"])
    )


@lru_cache(maxsize=1)
def _families() -> list[dict[str, Any]]:
    text = (pack_folder("schemas") / "tokenizers.json").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = json.loads(text)["families"]
    return found


def _template(name: str | None) -> str | None:
    """Return a chat template that axolotl ships."""
    package = find_spec("axolotl") if name else None
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent / "utils" / "chat_templates" / "templates"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")
