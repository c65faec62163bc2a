"""Rows without pairs, through axolotl's own prompt strategies (utils/data/sft.py, wrappers.py).

Imported in the child alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from datasets import IterableDataset

from launcher.preview.rendering import Unknown
from launcher.preview.tokens import drawn, ending, leading

IGNORED = -100  # prompt_tokenizers.py, IGNORE_INDEX
SHORTEST = 2  # utils/data/utils.py, keep_min_len
READY = {"input_ids", "attention_mask", "labels"}  # wrappers.py, _is_dataset_already_tokenized

Answer = dict[str, Any]


class _Taker(IterableDataset):  # type: ignore[misc]
    """Stands where axolotl wants a data set, and takes the function that it would map over it."""

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns
        self.taken: Callable[..., Any] | None = None
        self.batched = False

    @property
    def features(self) -> dict[str, None]:
        """The names of the columns."""
        return dict.fromkeys(self.columns)

    def map(self, function: Callable[..., Any], **options: Any) -> _Taker:
        """Keep the function."""
        self.taken, self.batched = function, bool(options.get("batched"))
        return self


def renderer(
    cfg: Any, tokenizer: Any, entry: Mapping[str, Any]
) -> Callable[[Mapping[str, Any], bool], Answer]:
    """Return what renders a row. Raises what axolotl raises for all rows, and `Unknown`."""
    tokenize = _tokenizing(cfg, tokenizer, entry)

    def one(row: Mapping[str, Any], draw: bool) -> Answer:
        found = tokenize(dict(row))
        if not found or "input_ids" not in found[0]:
            raise ValueError("axolotl makes no tokens of it")
        return _told(cfg, tokenizer, found, entry["key"], draw)

    return one


def _tokenizing(
    cfg: Any, tokenizer: Any, entry: Mapping[str, Any]
) -> Callable[[dict[str, Any]], list[Answer]]:
    """Return what makes of a row the samples that it becomes."""
    from axolotl.utils.data.sft import _parse_dataset_type
    from axolotl.utils.data.wrappers import get_dataset_wrapper

    names = list(dict.fromkeys(name for row in entry["rows"] for name in row))
    if set(names) >= READY:
        return lambda row: [row]
    if cfg.processor_type or cfg.reward_model or cfg.process_reward_model:
        raise Unknown("rows with pictures, and those of reward models, are not rendered")
    given = cfg[entry["key"]][entry["index"]]
    taker = _Taker(names)
    base, style = _parse_dataset_type(given.type)
    get_dataset_wrapper(given, tokenizer, cfg, base, taker, style)
    if taker.taken is None:
        raise Unknown(f"rows of type {given.type} are not rendered")
    function = taker.taken
    if not taker.batched:
        return lambda row: [dict(function(row))]
    return lambda row: _unbatched(function({name: [value] for name, value in row.items()}))


def _unbatched(found: Mapping[str, list[Any]]) -> list[Answer]:
    keys = list(found)
    return [dict(zip(keys, values, strict=True)) for values in zip(*found.values(), strict=True)]


def _told(cfg: Any, tokenizer: Any, found: list[Answer], key: str, draw: bool) -> Answer:
    limit = (cfg.eval_sequence_len if key == "test_datasets" else None) or cfg.sequence_len
    strategy = "keep" if cfg.skip_prepare_dataset else cfg.excess_length_strategy or "drop"
    lengths = [len(one["input_ids"]) for one in found]
    over = max(lengths) > limit and strategy != "keep"
    kept = lengths[0] >= (cfg.min_sample_len or SHORTEST) or strategy == "keep"
    if over and strategy.lower() == "truncate":
        found = [{name: one[name][:limit] for name in ("input_ids", "labels")} for one in found]
    first = found[0]
    ids, trained = first["input_ids"], [label != IGNORED for label in first["labels"]]
    end, end_trained = ending(tokenizer, ids, trained)
    told = {
        "texts": {"text": tokenizer.decode(ids, skip_special_tokens=False)},
        "tokens": {"text": sum(len(one["input_ids"]) for one in found)},
        "lengths": lengths,
        "trained": sum(label != IGNORED for one in found for label in one["labels"]),
        "kept": kept and not (over and strategy.lower() == "drop"),
        "long": over,
        "cut": over and strategy.lower() == "truncate",
        "bos": leading(ids, tokenizer.bos_token_id),
        "end": end,
        "end_trained": end_trained,
    }
    return told | ({"parts": {"text": drawn(tokenizer, ids, trained)}} if draw else {})
