"""The line of the recipe that a library's words speak of. Pure.

A library knows nothing of the recipe; its words name a setting, a column, a layer. What is known
by its words has a row in a table; of anything else the first key that the words name is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher import causes
from launcher.diagnostics import Span
from launcher.recipe import Recipe


@dataclass(frozen=True)
class Failure:
    """A stage that broke: the error's class and words, and the functions that it came through."""

    stage: str
    kind: str
    words: str
    frames: tuple[str, ...] = ()


@dataclass(frozen=True)
class Blame:
    """Where the reason stands in the recipe, and what to write there."""

    span: Span
    hint: str = ""


_TARGETS = "name layers that the model has ({layers}), or take every one: lora_target_linear: true"
PATTERNS = (
    "a pattern has to match a weight's name from its beginning: ^model.layers.[0-9]+.self_attn"
)
# words -> keys, the first that the recipe has, and the remedy
_KNOWN: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (r"Target modules .* not found", ("lora_target_modules", "lora_target_parameters"), _TARGETS),
    (r"No `?target_modules`? passed", ("adapter",), "lora_target_linear: true"),
    (
        r"does not require grad|no parameters that require grad|empty parameter list",
        ("unfrozen_parameters", "adapter"),
        PATTERNS,
    ),
    (r"not a valid OptimizerNames|[Uu]nknown optimizer", ("optimizer",), "optimizer: adamw_torch"),
    (r"not a valid SchedulerType", ("lr_scheduler",), "lr_scheduler: cosine"),
    (r"prompt tokenization strategy|transform function", ("datasets.0.type",), ""),
    (r"chat_template|chat template", ("chat_template", "datasets.0.type"), ""),
    (
        r"Memory-efficient LoRA merge|legacy merge",
        ("peft_init_lora_weights", "adapter"),
        "merge_method: legacy",
    ),
    (r"shared tensors", ("peft_layer_replication", "output_dir"), ""),
    (r"too small for sample_packing", ("sample_packing",), "eval_sample_packing: false"),
    (
        r"exceed(s|ing)?( the)? (maximum )?sequence[ _]len",
        ("sequence_len",),
        "raise sequence_len, or excess_length_strategy: truncate",
    ),
)
_STAGE_KEYS = {
    "prepare": ("base_model",),
    "tokenise": ("datasets.0.type", "datasets"),
    "load": ("base_model",),
    "evaluate": ("test_datasets", "val_set_size"),
    "save": ("output_dir",),
    "resume": ("save_strategy", "saves_per_epoch", "save_steps"),
    "merge": ("adapter",),
    "reload": ("base_model",),
    "generate": ("chat_template", "base_model"),
}
_FIELDS = re.compile(r"field|column|path|message")


def blame(
    recipe: Recipe,
    failure: Failure,
    columns: Mapping[str, Sequence[str]],
    layers: Sequence[str] = (),
) -> Blame:
    """Return the place and the remedy. ``columns``: of each list of data, the columns of its first
    entry's rows; ``layers``: the names of the model's linear layers.
    """
    found = _placed(recipe, failure, columns, layers)
    return found if found.hint else Blame(found.span, _remedy(recipe, failure))


def _remedy(recipe: Recipe, failure: Failure) -> str:
    """Return the remedy of a known failure of trainings; nothing for another."""
    cause = causes.told([f"{failure.kind}: {' '.join(failure.words.split())}"])
    return cause.cause.remedy.replace("{recipe}", recipe.file) if cause else ""


def _placed(
    recipe: Recipe, failure: Failure, columns: Mapping[str, Sequence[str]], layers: Sequence[str]
) -> Blame:
    if failure.kind == "KeyError" and failure.stage == "tokenise":
        return _column(recipe, failure.words.strip("'\""), columns)
    for pattern, keys, hint in _KNOWN:
        if re.search(pattern, failure.words):
            named = hint.format(layers=", ".join(layers) or "see its config.json")
            return Blame(_first(recipe, keys), named)
    named_keys = [key for key in re.findall(r"[A-Za-z_]\w+", failure.words) if key in recipe.value]
    for key in named_keys:
        if "_" in key or failure.stage == "config":
            return Blame(recipe.key_span(key))
    return Blame(_first(recipe, _STAGE_KEYS.get(failure.stage, ())))


def _column(recipe: Recipe, name: str, columns: Mapping[str, Sequence[str]]) -> Blame:
    """Return where a column is named that no row has; else the type that wants it."""
    there = next(iter(columns.values()), ())
    hint = f"the rows have the columns {', '.join(there)}" if there else ""
    for key in ("datasets", "test_datasets"):
        for path in _mentions(recipe.value.get(key), (key,), name):
            return Blame(recipe.value_span(*path), hint)
    return Blame(_first(recipe, ("datasets.0.type", "datasets")), hint)


def _mentions(value: Any, path: tuple[str, ...], name: str) -> Iterator[tuple[str, ...]]:
    """Yield the paths at which a key about columns has this value."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _mentions(child, (*path, str(key)), name)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _mentions(child, (*path, str(index)), name)
    elif value == name and any(_FIELDS.search(part) for part in path[2:]):
        yield path


def _first(recipe: Recipe, keys: Sequence[str]) -> Span:
    """Return the place of the first of these keys that the recipe has, or its beginning."""
    for key in keys:
        path = tuple(key.split("."))
        if path in recipe.places:
            return recipe.value_span(*path)
    return Span(recipe.file)
