"""The batch that a recipe states against the batch that it gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import recipe, source
from launcher.diagnostics import Diagnostic, Span
from launcher.recipe import Recipe
from launcher.rules.batch import (
    accumulation,
    global_batch_size,
    nearest_batches,
    replicas,
    whole,
)

SIZES = st.integers(1, 64)
TEXT = """\
x-recipe:
  title: A
  method: sft
  needs: {gpu: a100-80gb, gpus: 4, disk: 1}
  global_batch_size: 64
micro_batch_size: 2
gradient_accumulation_steps: 4
"""


def told(value: dict[str, Any], stated: object = 16, gpus: object = 2) -> list[Diagnostic]:
    block = {"global_batch_size": stated, "needs": {"gpus": gpus}}
    return list(global_batch_size(Recipe("f", "f.yaml", {"x-recipe": block, **value}, {}, {})))


@given(st.integers(1, 4096), SIZES, SIZES)
def test_accumulation_gives_the_batch_or_does_not_divide(batch: int, micro: int, gpus: int) -> None:
    steps = accumulation(batch, micro, gpus)
    if steps is None:
        assert batch % (micro * gpus)
    else:
        assert steps >= 1
        assert micro * gpus * steps == batch


@given(st.integers(1, 4096), SIZES, SIZES)
def test_nearest_batches_divide_and_enclose(batch: int, micro: int, gpus: int) -> None:
    near = nearest_batches(batch, micro, gpus)
    assert all(accumulation(size, micro, gpus) for size in near)
    assert max(near) > batch
    assert max(near) - batch <= micro * gpus
    assert all(0 < size <= batch for size in near[:-1])


@given(SIZES, SIZES, SIZES)
def test_the_right_product_is_silent(micro: int, steps: int, gpus: int) -> None:
    value = {"micro_batch_size": micro, "gradient_accumulation_steps": steps}
    assert told(value, micro * steps * gpus, gpus) == []
    (problem,) = told(value, micro * steps * gpus + 1, gpus)
    assert f"= {micro * steps * gpus} samples" in problem.message


def test_the_hint_is_what_makes_it_right() -> None:
    (problem,) = told({"micro_batch_size": 2, "gradient_accumulation_steps": 8}, 16, 2)
    assert problem.hint == "gradient_accumulation_steps: 4"
    assert told({"micro_batch_size": 2, "gradient_accumulation_steps": 4}, 16, 2) == []
    (problem,) = told({"micro_batch_size": 16}, 24, 2)
    assert problem.hint == "global_batch_size: 32"
    (problem,) = told({"micro_batch_size": 16}, 40, 2)
    assert problem.hint == "global_batch_size: 32 or 64"


def test_places() -> None:
    (problem,) = global_batch_size(recipe.from_document(source.parse(TEXT, "f.yaml")))
    assert problem.span == Span("f.yaml", 7, 1, 28)
    assert [related.span for related in problem.related] == [Span("f.yaml", 5, 22, 24)]


@pytest.mark.parametrize("two", [2, "2", 2.0, "2.0"])
def test_numbers_in_every_spelling(two: object) -> None:
    value = {"micro_batch_size": two, "gradient_accumulation_steps": two}
    assert told(value, "8", two) == []
    (problem,) = told(value, "16", two)
    assert "= 8 samples" in problem.message


def test_a_cpu_counts_as_one_device() -> None:
    assert told({"micro_batch_size": 4}, 4, 0) == []


def test_parallel_groups_see_the_same_samples() -> None:
    groups = {"tensor_parallel_size": 2, "context_parallel_size": "2"}
    assert replicas(Recipe("f", "f", groups, {}, {}), 8) == 2
    assert replicas(Recipe("f", "f", groups, {}, {}), 2) == 1
    assert replicas(Recipe("f", "f", {"tensor_parallel_size": None}, {}, {}), 8) == 8
    assert told({"micro_batch_size": 8, **groups}, 16, 8) == []


@pytest.mark.parametrize(
    "value",
    [{"micro_batch_size": None}, {"micro_batch_size": 0}, {"gradient_accumulation_steps": -1}],
)
def test_what_other_checks_refuse_is_left_to_them(value: dict[str, Any]) -> None:
    assert told(value) == []


def test_nothing_is_stated() -> None:
    for block in ({}, {"global_batch_size": None}, {"needs": {}}):
        read = Recipe("f", "f", {"x-recipe": block, "micro_batch_size": 3}, {}, {})
        assert list(global_batch_size(read)) == []


def test_overrides_are_the_users_business() -> None:
    read = recipe.from_document(source.parse(TEXT, "f.yaml"))
    assert list(global_batch_size(recipe.override(read, ["micro_batch_size=1"]))) == []


@pytest.mark.parametrize(
    ("value", "number"),
    [(None, 0), (0, 0), (3, 3), ("3", 3), (" 3 ", 3), ("3.0", 3), (3.0, 3), ("1_000", 1000)],
)
def test_whole(value: object, number: int) -> None:
    assert whole(value) == number
