"""Preference rows, through axolotl's own transforms (utils/data/rl.py) and TRL's own tokenizing.

Imported in the child alone. TRL's trainers are made without their constructors, which load models;
of each only the method that tokenizes is run, one row at a time, so that a bad row is told by its
number.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from launcher.preview.rendering import Unknown, words
from launcher.preview.tokens import drawn, leading

Answer = dict[str, Any]
Ids = dict[str, list[int]]
LOADERS = {"orpo": "orpo", "kto": "kto"}  # by method; others: dpo (utils/data/rl.py, _load_split)
ANSWERS = ("chosen", "rejected", "completion")


def renderer(
    cfg: Any, tokenizer: Any, entry: Mapping[str, Any]
) -> Callable[[Mapping[str, Any], bool], Answer]:
    """Return what renders a row. Raises what axolotl raises for all rows, and `Unknown`."""
    method = str(getattr(cfg.rl, "value", cfg.rl))
    if method not in TOKENIZERS:
        raise Unknown(f"rows of rl: {method} are not rendered")
    transform = _transform(cfg, tokenizer, entry, method)
    tokenize = TOKENIZERS[method](cfg, tokenizer)

    def one(row: Mapping[str, Any], draw: bool) -> Answer:
        sample = transform(copy.deepcopy(dict(row)))
        texts = {name: str(sample[name]) for name in ("prompt", *ANSWERS) if name in sample}
        try:
            sample, kept, cut = _fitted(cfg, tokenizer, sample)
            ids = tokenize(sample)
        except Exception as problem:  # what was written may tell why
            return {"error": words(problem), "texts": texts}
        told = _told(tokenizer, ids, draw)
        ends = kept and told["lengths"][0] > cfg.sequence_len  # TRL adds tokens, then it cuts
        fit = {"kept": kept, "long": not kept or cut or ends, "cut": cut or ends}
        return {**told, **fit, "texts": texts}

    return one


def _transform(
    cfg: Any, tokenizer: Any, entry: Mapping[str, Any], method: str
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what axolotl maps over the rows (utils/data/rl.py, _load_split and _map_dataset): what
    it writes replaces columns, and some of the others are dropped.
    """
    from importlib import import_module

    given = cfg[entry["key"]][entry["index"]]
    kind = "user_defined.default" if isinstance(given["type"], dict) else given["type"]
    if not kind:
        return lambda row: row
    load = import_module(f"axolotl.prompt_strategies.{LOADERS.get(method, 'dpo')}").load
    found = load(kind, cfg, dataset_idx=entry["index"])
    if found is None:
        raise ValueError(f"Failed to load dataset transform function for type {kind!r}")
    function, options = found if isinstance(found, tuple) else (found, {})
    dropped = options.get("remove_columns", ())
    own = {"tokenizer": tokenizer} if "tokenizer" in inspect.signature(function).parameters else {}

    def transform(row: dict[str, Any]) -> dict[str, Any]:
        kept = {} if dropped == "__all__" else {k: v for k, v in row.items() if k not in dropped}
        return {**kept, **function(row, **own)}

    return transform


def _fitted(cfg: Any, tokenizer: Any, sample: dict[str, Any]) -> tuple[dict[str, Any], bool, bool]:
    """Return a sample as axolotl fits it to ``sequence_len``, whether it is kept, and whether it
    was cut.
    """
    from axolotl.utils.data import rl

    limits = (cfg.rl, tokenizer, cfg.sequence_len)
    if cfg.skip_prepare_dataset:
        return sample, True, False
    kept = rl._drop_long_sequences(sample, *limits)
    if kept or (cfg.excess_length_strategy or "drop").lower() != "truncate":
        return sample, kept, False
    shorter = rl._truncate_long_sequences_rl(sample, *limits)
    return shorter, rl._drop_long_sequences(shorter, *limits), shorter != sample


class _One:
    """A data set of one row, with the methods that TRL calls."""

    def __init__(self, row: dict[str, Any] | None) -> None:
        self.row = row

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(() if self.row is None else (self.row,))

    def map(self, function: Callable[..., Any], fn_kwargs: Any = None, **_: Any) -> _One:
        """Return the row with what the function makes of it."""
        row = self.row or {}
        return _One({**row, **function(row, **(fn_kwargs or {}))})

    def filter(self, *_: Any, **__: Any) -> _One:
        """Keep the row: axolotl's own filter has been asked already."""
        return self


def _dpo(cfg: Any, tokenizer: Any) -> Callable[[dict[str, Any]], Ids]:
    from axolotl.core.trainers.dpo.trainer import AxolotlDPOTrainer

    trainer = AxolotlDPOTrainer.__new__(AxolotlDPOTrainer)
    trainer._tokenizer = tokenizer
    options = SimpleNamespace(
        dataset_num_proc=None, max_length=cfg.sequence_len, truncation_mode="keep_start"
    )

    def tokenize(sample: dict[str, Any]) -> Ids:
        (row,) = trainer._prepare_dataset(_One(sample), tokenizer, options, "train")
        return {name: row[f"{name}_ids"] for name in ("prompt", "chosen", "rejected")}

    return tokenize


def _odds(cfg: Any, tokenizer: Any) -> Callable[[dict[str, Any]], Ids]:
    from axolotl.core.trainers import AxolotlCPOTrainer, AxolotlORPOTrainer

    method = str(getattr(cfg.rl, "value", cfg.rl))
    kind = AxolotlCPOTrainer if method == "simpo" else AxolotlORPOTrainer
    trainer = kind.__new__(kind)
    trainer.processing_class, trainer.is_encoder_decoder = tokenizer, False
    trainer.max_length, trainer.truncation_mode = cfg.sequence_len, "keep_end"
    trainer.label_pad_token_id = -100
    trainer.max_prompt_length = 10**9

    def tokenize(sample: dict[str, Any]) -> Ids:
        row = trainer.tokenize_row(sample)
        prompt = len(row["prompt_input_ids"])
        found = {name: row[f"{name}_input_ids"][prompt:] for name in ("chosen", "rejected")}
        return {"prompt": row["prompt_input_ids"], **found}

    return tokenize


def _kto(cfg: Any, tokenizer: Any) -> Callable[[dict[str, Any]], Ids]:
    """As trl/trainer/kto_trainer.py, _prepare_dataset, which pairs rows of a batch, too."""
    from trl.data_utils import _tokenize

    def tokenize(sample: dict[str, Any]) -> Ids:
        answer, end = sample["completion"], tokenizer.eos_token
        answer = answer if answer.endswith(end) else answer + end
        prompt = _tokenize(tokenizer, sample["prompt"])["input_ids"]
        whole = _tokenize(tokenizer, sample["prompt"] + answer)["input_ids"]
        return {"prompt": prompt, "completion": whole[len(prompt) :]}

    return tokenize


TOKENIZERS = {"dpo": _dpo, "ipo": _dpo, "orpo": _odds, "simpo": _odds, "kto": _kto}


def _told(tokenizer: Any, ids: Ids, draw: bool) -> Answer:
    answers = [name for name in ids if name != "prompt"]
    prompt = ids["prompt"]
    told = {
        "tokens": {name: len(found) for name, found in ids.items()},
        "lengths": [len(prompt) + max(len(ids[name]) for name in answers)],
        "trained": sum(len(ids[name]) for name in answers),
        "bos": leading(prompt, tokenizer.bos_token_id),
    }
    if not draw:
        return told
    parts = {
        name: drawn(tokenizer, found, [name != "prompt"] * len(found))
        for name, found in ids.items()
    }
    return {**told, "parts": parts}
