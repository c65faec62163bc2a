"""Which files of a model's repository a run will load: what transformers and peft ask for, and none
of the other formats that lie beside it (original/, ONNX, GGUF, TensorFlow, a second copy as .bin).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

WEIGHTS, FILES, ADAPTER = "weights", "files", "adapter"  # what is wanted of a repository

# In the order in which transformers looks (modeling_utils._get_resolved_checkpoint_files), and peft
# (utils/save_and_load.py): the first that is there is loaded. One of several parts has an index.
_CHECKPOINTS = ("model.safetensors", "pytorch_model.bin")
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
_SMALL = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_PART = re.compile(r"(.+)-\d{5}-of-\d{5}(\.\w+)")
_TEMPLATES = re.compile(r"additional_chat_templates/[^/]+\.jinja")
_INDEX = ".index.json"
# Of other frameworks, and what a training leaves behind.
_OTHERS = {"trainer_state.json", "all_results.json", "train_results.json", "eval_results.json"}


def files(names: Iterable[str], wanted: str, *, code: bool = False) -> tuple[str, ...]:
    """Return the files to download of those in a repository. ``wanted``: all of a model, its config
    and tokenizer alone, or an adapter; ``code``: with the modules that it brings along.
    """
    known = set(names)
    chosen = {name for name in known if _small(name, code=code)}
    if wanted != FILES:
        chosen |= _weights(known, _CHECKPOINTS if wanted == WEIGHTS else _ADAPTERS)
    return tuple(sorted(chosen))


def has_weights(names: Iterable[str]) -> bool:
    """Return whether there are weights among the files."""
    return any(name.endswith((".safetensors", ".bin")) for name in names)


def _small(name: str, *, code: bool) -> bool:
    """Whether it is a config, a part of a tokenizer, a template, or code that may be run."""
    if name.endswith(_INDEX) or name in _OTHERS:
        return False
    if name.endswith(".py"):
        return code
    return bool(_TEMPLATES.fullmatch(name)) or ("/" not in name and name.endswith(_SMALL))


def _weights(known: set[str], kinds: Iterable[str]) -> set[str]:
    for kind in kinds:
        if kind in known:
            return {kind}
        if kind + _INDEX in known:
            stem, _, ending = kind.rpartition(".")
            parts = {
                name
                for name in known
                if (found := _PART.fullmatch(name)) and found.groups() == (stem, f".{ending}")
            }
            return {kind + _INDEX, *parts}
    return set()
