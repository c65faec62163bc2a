"""The forecast of speed against what others measured: the bounds that the plan promises."""

from __future__ import annotations

import pytest
from throughput_accuracy import Run, errors, runs, table

from launcher.plan import speed


@pytest.fixture(scope="module")
def found() -> list[Run]:
    return runs()


def test_all_runs(found: list[Run]) -> None:
    n, median, p90, bias = errors(found)
    assert n >= 180  # none is left out
    assert median <= 0.10
    assert p90 <= 0.35
    assert abs(bias) <= 0.05


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_each_method(found: list[Run], method: str) -> None:
    n, median, p90, _ = errors(run for run in found if run.method == method)
    assert n >= 50
    assert median <= 0.08
    assert p90 <= 0.30


def test_each_source_of_several_runs(found: list[Run]) -> None:
    """No constant serves one source at the cost of another."""
    for source in {run.source for run in found}:
        n, median, _, bias = errors(run for run in found if run.source == source)
        if n >= 4:
            assert median <= 0.12, source
            assert abs(bias) <= 0.20, source


@pytest.mark.parametrize("band", [speed.LARGE, speed.SHORT, speed.HOPPER], ids=lambda b: b.kind)
def test_bands_hold_nine_of_ten_runs(found: list[Run], band: speed.Band) -> None:
    inside = [band.low <= run.slower <= band.high for run in found if run.band is band]
    assert len(inside) == band.runs
    assert sum(inside) >= 0.9 * len(inside)


def test_what_the_evaluation_does_not_cover_says_so(found: list[Run]) -> None:
    assert speed.OTHER.runs == speed.PREFERENCE.runs == 0
    assert not [run for run in found if run.band is speed.PREFERENCE]


def test_the_table_names_every_source(found: list[Run]) -> None:
    text = table(found)
    assert all(f"{run.source} {run.method}" in text for run in found)
