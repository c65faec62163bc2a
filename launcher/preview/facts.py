"""Figures of the rows that were rendered: lengths, what is dropped or cut, padding, packing."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from launcher import facts as known_facts
from launcher.dataset.sample import Sample
from launcher.preview.columns import Columns, turns
from launcher.preview.rendering import Entry
from launcher.recipe import Recipe
from launcher.rules.batch import micro_batch, whole

LEGACY = ("flash_attention", "flex_attention", "xformers_attention")  # keys of old recipes
MULTIPLE = 64  # tokens; what axolotl pads to without pairs (core/builders/causal.py)
PACKED = 200  # rows of a packed sample at most; sample_packing_bin_size


@dataclass(frozen=True)
class Lengths:
    """Tokens of the samples of some rows. ``over``: rows longer than ``limit``; ``fate``: what
    becomes of them, "dropped", "cut", "stop the run" or "kept".
    """

    median: float
    p95: int
    longest: int
    limit: int
    over: int
    fate: str


@dataclass(frozen=True)
class Facts:
    """Figures of rows. Shares are of 1. ``padding``: of the tokens in a micro batch; ``packing``:
    of a packed sample, what is text. ``trained``: of the tokens, those that the loss counts.
    ``turns``: messages of a row, on average and at most.
    """

    rows: int
    failed: int
    lengths: Lengths | None = None
    trained: float | None = None
    padding: float | None = None
    packing: float | None = None
    turns: tuple[float, int] | None = None


def facts(
    recipe: Recipe, samples: Sequence[tuple[Sample, Columns | None]], entries: Sequence[Entry]
) -> Facts:
    """Return the figures of the rows of one list (``datasets``), all entries together."""
    rows = [row for entry in entries for row in entry.rows]
    good = [row for row in rows if not row.error]
    counts = [turns(row, read) for one, read in samples if read for row in one.rows]
    spoken = [count for count in counts if count]
    total = sum(len(one.rows) for one, _ in samples)
    found = Facts(
        total,
        len(rows) - len(good),
        turns=(fmean(spoken), max(spoken)) if spoken else None,
    )
    if not good:
        return found
    key = entries[0].key
    fitting = [n for row in good if row.kept for n in row.lengths]
    told = sum(sum(row.tokens.values()) for row in good if row.tokens)
    limit = sequence_len(recipe, key)
    packs = bool(recipe.value.get("sample_packing")) and not recipe.value.get("rl")
    pairs = [list(_sides(row.tokens or {})) for row in good if row.kept]
    return Facts(
        found.rows,
        found.failed,
        _lengths(
            recipe, [n for row in good for n in row.lengths], sum(row.long for row in good), limit
        ),
        sum(row.trained for row in good) / told if told else None,
        None if packs or not fitting else padding(recipe, pairs, limit),
        efficiency(recipe, fitting) if packs and fitting else None,
        found.turns,
    )


def sequence_len(recipe: Recipe, key: str = "datasets") -> int:
    """Return the most tokens of a sample."""
    own = whole(recipe.value.get("eval_sequence_len")) if key == "test_datasets" else 0
    return max(0, own) or max(0, whole(recipe.value.get("sequence_len"))) or 512


def fate(recipe: Recipe) -> str:
    """Return what becomes of a row that is too long (utils/data/utils.py and rl.py)."""
    if recipe.value.get("skip_prepare_dataset"):
        return "kept"
    strategy = str(recipe.value.get("excess_length_strategy") or "drop").lower()
    return {"truncate": "cut", "raise": "stop the run"}.get(strategy, "dropped")


def _lengths(recipe: Recipe, found: Sequence[int], over: int, limit: int) -> Lengths:
    ordered = sorted(found)
    p95 = ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)]
    return Lengths(median(ordered), p95, ordered[-1], limit, over, fate(recipe))


def _sides(tokens: Any) -> list[int]:
    """Return the lengths of what a row puts into a micro batch: of a pair both answers, each behind
    the prompt (TRL, DataCollatorForPreference).
    """
    prompt = tokens.get("prompt", 0)
    return [prompt + count for name, count in tokens.items() if name != "prompt"]


def padding(recipe: Recipe, rows: Sequence[Sequence[int]], limit: int) -> float:
    """Return the share of the micro batches that is padding, the rows in one random order."""
    size = max(1, micro_batch(recipe))
    multiple = _multiple(recipe, limit)
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    used = slots = 0
    for start in range(0, len(shuffled), size):
        batch = [min(n, limit) for row in shuffled[start : start + size] for n in row]
        used += sum(batch)
        slots += len(batch) * math.ceil(max(batch) / multiple) * multiple
    return 1 - used / slots if slots else 0.0


def _multiple(recipe: Recipe, limit: int) -> int:
    """Return what a micro batch is padded to a multiple of (core/builders/causal.py and rl.py)."""
    given = whole(recipe.value.get("pad_to_multiple_of"))
    if recipe.value.get("rl"):
        return max(1, given)
    asked = recipe.value.get("pad_to_sequence_len")
    own = given if given > 0 else MULTIPLE
    return own * math.ceil(limit / own) if asked else own if asked is None else 1


def efficiency(recipe: Recipe, lengths: Sequence[int]) -> float:
    """Return the share of packed samples that is text. The last one, which more rows would fill, is
    left out.
    """
    size = capacity(recipe)
    shuffled = list(lengths)
    random.Random(0).shuffle(shuffled)
    most = whole(recipe.value.get("sample_packing_bin_size")) or PACKED
    bins = packed(shuffled, size, most)
    full = bins[:-1] or bins
    return sum(full) / (len(full) * size)


def capacity(recipe: Recipe) -> int:
    """Return the tokens of a packed sample (core/trainers/base.py, _create_multipack_sampler)."""
    limit = sequence_len(recipe)
    return limit if real_batches(recipe) else limit * max(1, micro_batch(recipe))


def real_batches(recipe: Recipe) -> bool:
    """Return whether a micro batch is several packed samples, not one that is as long as all of
    them: so without an attention that keeps packed rows apart (core/builders/causal.py).
    """
    value, name = recipe.value, recipe.value.get("attn_implementation")
    if value.get("multipack_real_batches") is not None:
        return bool(value["multipack_real_batches"])
    apart = known_facts.load().packing_attention
    return str(name).partition(":")[0] not in apart and not any(map(value.get, LEGACY))


def packed(lengths: Sequence[int], size: int, most: int = PACKED) -> list[int]:
    """Return the tokens in each packed sample: first fit in the order of the rows, as axolotl's
    sampler does (utils/samplers/multipack.py, pack_group).
    """
    bins: list[int] = []
    rows: list[int] = []
    for length in lengths:
        fits = (n for n, used in enumerate(bins) if used + length <= size and rows[n] < most)
        place = next(fits, None)
        if place is None:
            bins.append(length)
            rows.append(1)
        else:
            bins[place] += length
            rows[place] += 1
    return bins
