"""The child that has no network: ``python -m launcher.fetch.prove``, with HF_HUB_OFFLINE=1.

It loads all that a run loads before its first step, by the functions that the run uses, weights
left out: of those the files are looked up. It reads a question, and writes a line for each part:
``{"part": "tokenizer", "why": ""}``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from launcher.dataset.stream import words
from launcher.fetch import kernel, rows
from launcher.preview.render import validated
from launcher.preview.rendering import Refused

_MODEL, _ADAPTER = ("model.safetensors", "pytorch_model.bin"), ("adapter_model.safetensors",)
_LONGEST = 300  # characters of a library's words


def prove(question: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each part and why it does not load; nothing where it does. Raises `Refused`."""
    cfg = validated(question)
    yield "config", _why(lambda: _config(cfg))
    yield "tokenizer", _why(lambda: _tokenizer(cfg))
    revision = cfg.revision_of_model or "main"
    yield "weights", _why(lambda: _weights(cfg.base_model, revision, _MODEL))
    if cfg.lora_model_dir:
        yield "adapter", _why(lambda: _adapter(cfg.lora_model_dir))
    for key, index in question["entries"]:
        for entry in rows.entries(cfg, [[key, index]]):
            yield (
                f"{key}.{index}",
                _why(partial(rows.load, entry, cfg.hf_use_auth_token)),
            )
    if question["kernel"] and not kernel.not_needed(question["kernel"]):
        yield "kernel", kernel.found(*kernel.repository(question["kernel"]))


def _why(load: Callable[[], object]) -> str:
    try:
        load()
    except Exception as problem:  # whatever the library raises is its answer
        return words(problem)[:_LONGEST]
    return ""


def _config(cfg: Any) -> None:
    from axolotl.utils.config import normalize_cfg_datasets, normalize_config

    normalize_config(cfg)
    normalize_cfg_datasets(cfg)


def _tokenizer(cfg: Any) -> None:
    from axolotl.loaders import load_tokenizer

    load_tokenizer(cfg)


def _weights(name: str, revision: str, kinds: tuple[str, ...]) -> None:
    """Find the weights as transformers does. Raises ``OSError`` where one of them is not here."""
    from transformers.utils.hub import cached_file, get_checkpoint_shard_files

    quiet = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    for kind in kinds:
        if cached_file(name, kind, _raise_exceptions_for_connection_errors=False, **quiet):
            return
        index = cached_file(
            name, f"{kind}.index.json", _raise_exceptions_for_connection_errors=False, **quiet
        )
        if index:
            get_checkpoint_shard_files(name, index, revision=revision)
            return
    raise OSError(f"no weights of {name} are here")


def _adapter(name: str) -> None:
    from peft import PeftConfig

    PeftConfig.from_pretrained(name)
    _weights(name, "main", (*_ADAPTER, "adapter_model.bin"))


def main() -> None:
    """Answer the question on stdin."""
    lines, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr  # axolotl prints
    os.dup2(2, 1)
    question = json.loads(sys.stdin.readline())

    def write(line: dict[str, Any]) -> None:
        lines.write(json.dumps(line) + "\n")
        lines.flush()

    try:
        for part, why in prove(question):
            write({"part": part, "why": why})
    except Refused as problem:
        write({"refused": problem.args})


if __name__ == "__main__":
    main()
