"""A run's own measurement: from its records, in the launcher's words, and in the next plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Axr

from launcher import history, progress, runs
from launcher.runs import RunFolder


def record(step: int, time: float, **more: Any) -> dict[str, Any]:
    return {"step": step, "time": time, "loss": 1.0, "max_steps": 100, **more}


def test_nothing_is_said_before_the_tenth_step() -> None:
    assert progress.measured([]) is None
    assert progress.measured([record(step, step) for step in range(1, 10)]) is None
    assert progress.measured([record(12, 1.0)]) is None


def test_the_first_steps_are_not_counted() -> None:
    slow_start = [
        record(1, 0.0),
        record(2, 100.0),
        *(record(n, 100.0 + 3 * (n - 2)) for n in range(3, 13)),
    ]
    found = progress.measured(slow_start)
    assert found is not None
    assert found.seconds_a_step == pytest.approx(3.0)
    assert (found.step, found.steps) == (12, 100)
    assert found.hours_left == pytest.approx(88 * 3 / 3600)


def test_after_a_resumption_only_what_came_since_counts() -> None:
    before = [record(step, step) for step in range(1, 30)]
    after = [record(step, 1000 + 5 * step) for step in range(20, 40)]
    found = progress.measured([*before, *after])
    assert found is not None
    assert found.seconds_a_step == pytest.approx(5.0)


def test_records_of_other_kinds_are_passed_over() -> None:
    records = [
        *(record(step, 2.0 * step, peak_allocated_gib=10 + step / 10) for step in range(1, 12)),
        {"step": 11, "time": 99.0, "eval_loss": 1.0},
        {"train_runtime": 5.0},
        record(12, 24.0, **{progress.TOKENS: 1234.0}),
    ]
    found = progress.measured(records)
    assert found is not None
    assert found.seconds_a_step == pytest.approx(2.0)
    assert found.peak_gib == pytest.approx(11.1)
    assert progress.sentence(found) == (
        "measured at step 12: 2 s a step, 1,234 tokens/s a GPU, peak allocated 11.1 GiB, 3 min left"
    )


def past(root: Path, name: str, seconds: float, **status: Any) -> None:
    folder = RunFolder(root / name)
    runs.create(folder, recipe="", resolved={}, command="", env={}, machine="8 x NVIDIA A100")
    runs.update_status(folder, **status)
    lines = (json.dumps(record(step, seconds * step)) for step in range(1, 20))
    folder.metrics.write_text("\n".join(lines))


def test_a_plan_shows_the_last_real_runs(axr: Axr, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for day in (1, 2, 3, 4):
        past(root, f"qwen25-dpo-2026010{day}-120000-abcd", day, state="done", minutes=7.0)
    past(root, "qwen25-dpo-long-20260105-120000-abcd", 9, state="done")
    (root / "qwen25-dpo-20260109-120000-abcd").mkdir()  # no run
    found = history.last(root, "qwen25-dpo")
    assert [round(one.progress.seconds_a_step) for one in found] == [4, 3, 2]
    text = axr("plan", "qwen25-dpo").stdout
    assert (
        "runs     qwen25-dpo-20260104-120000-abcd on 8 x NVIDIA A100: 4 s a step, 7 min, done"
        in text
    )
    assert history.last(tmp_path / "nowhere", "qwen25-dpo") == []
