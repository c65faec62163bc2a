"""The formulas against what others measured: the bounds that the plan promises."""

from __future__ import annotations

import pytest
from plan_accuracy import Row, errors, rows, table, verdicts

from launcher.plan.memory import Verdict


@pytest.fixture(scope="module")
def found() -> list[Row]:
    return rows()


def test_runs_with_exact_settings(found: list[Row]) -> None:
    n, median, p90, _ = errors(row for row in found if row.quality == "A")
    assert n >= 130
    assert median <= 0.02
    assert p90 <= 0.08


def test_all_runs(found: list[Row]) -> None:
    n, median, p90, bias = errors(found)
    assert n >= 210
    assert median <= 0.03
    assert p90 <= 0.12
    assert abs(bias) <= 0.03


def test_what_ran_out_of_memory_is_not_called_enough(found: list[Row]) -> None:
    counts = verdicts(found)
    assert counts[Verdict.OK, False] <= 2
    assert counts[Verdict.NO, False] + counts[Verdict.TIGHT, False] >= 50


def test_what_ran_is_seldom_called_too_large(found: list[Row]) -> None:
    counts = verdicts(found)
    assert counts[Verdict.NO, True] <= 5
    assert counts[Verdict.OK, True] >= 170


def test_the_table_names_every_source(found: list[Row]) -> None:
    text = table(found)
    assert all(row.source in text for row in found if row.measured is not None)
