"""A run's own measurement: from its records, in the launcher's words, and in the next plan."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Axr

from launcher import history, progress, recipe, runs
from launcher.runs import Start
from launcher.runs.folder import RunFolder


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


def test_a_break_is_not_measured_though_no_step_was_trained_again(tmp_path: Path) -> None:
    """A stop saves its last step: the start after it goes on with the next one."""
    past(tmp_path, "my-20260101-120000-abcd", 2, state="stopped")
    folder = RunFolder(tmp_path / "my-20260101-120000-abcd")
    began = "2056-01-01T12:00:00+00:00"
    runs.update_status(
        folder, starts=[{"started": "2026-01-01T12:00:00+00:00"}, {"started": began}]
    )
    assert history.last(tmp_path, "my") == []  # nothing to measure yet
    began_at = datetime.fromisoformat(began).timestamp()
    with folder.metrics.open("a") as more:
        more.writelines(f"\n{json.dumps(record(n, began_at + 5 * n))}" for n in range(20, 30))
    (found,) = history.last(tmp_path, "my")
    assert found.progress.seconds_a_step == pytest.approx(5.0)


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


def past(root: Path, name: str, seconds: float, resolved: str = "{}", **status: Any) -> None:
    folder = RunFolder(root / name)
    with runs.held(folder):
        runs.create(folder, Start("", {}, "", {}, machine="8 x NVIDIA A100"))
    folder.resolved.write_text(resolved)
    runs.update_status(folder, **status)
    now = time.time()
    lines = (json.dumps(record(step, now + seconds * step)) for step in range(1, 20))
    folder.metrics.write_text("\n".join(lines))


def test_a_plan_shows_the_last_real_runs(axr: Axr, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    text = recipe.find("qwen25-dpo").read_text()
    for day in (1, 2, 3, 4):
        name = f"qwen25-dpo-2026010{day}-120000-abcd"
        past(root, name, day, resolved=text, state="done", minutes=7.0)
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


@pytest.mark.parametrize("name", ["a**b", "x[1]", "a*", "?", "..", "[", "**", "a\nb"])
def test_a_recipes_name_is_no_pattern(tmp_path: Path, name: str) -> None:
    past(tmp_path, f"{name}-20260101-120000-abcd", 2, state="done")
    past(tmp_path, "x1-20260101-120000-abcd", 2, state="done")
    assert [one.name for one in history.last(tmp_path, name)] == [f"{name}-20260101-120000-abcd"]


@pytest.mark.parametrize(
    "status", ["[]", "null", "3", '"x"', "{}", '{"state": "done", "minutes": "ten"}', "\xff"]
)
def test_a_status_that_is_none_is_passed_over(tmp_path: Path, status: str) -> None:
    past(tmp_path, "my-20260101-120000-abcd", 2, state="done")
    folder = RunFolder(tmp_path / "my-20260101-120000-abcd")
    folder.status.write_bytes(status.encode("latin-1"))
    assert history.last(tmp_path, "my") == []


@pytest.mark.parametrize(
    "metrics", ["3", "null", '{"step": "x", "loss": 1, "time": 1}', '{"step": 12, "loss": 1}']
)
def test_records_that_are_none_are_passed_over(tmp_path: Path, metrics: str) -> None:
    past(tmp_path, "my-20260101-120000-abcd", 2, state="done")
    folder = RunFolder(tmp_path / "my-20260101-120000-abcd")
    folder.metrics.write_text("\n".join([metrics] * 20))
    assert history.last(tmp_path, "my") == []


def test_runs_of_another_recipe_with_this_name_are_not_shown(tmp_path: Path) -> None:
    data = "datasets:\n  - path: a/b\n"
    for day, text in enumerate(
        [
            f"base_model: a/b\nlearning_rate: 1\n{data}",
            f"base_model: a/c\n{data}",
            "base_model: a/b\ndatasets:\n  - path: a/c\n",
            "base_model: [",
            "",
        ],
        start=1,
    ):
        past(tmp_path, f"my-2026010{day}-120000-abcd", 2, state="done", resolved=text)
    now = {"base_model": "a/b", "learning_rate": 2, "datasets": [{"path": "a/b"}]}
    found = history.last(tmp_path, "my", settings=now)
    assert [one.name for one in found] == ["my-20260101-120000-abcd"]
    assert len(history.last(tmp_path, "my", count=9)) == 5
