"""How long a run is: rows counted where they are at hand, steps as the trainer counts them."""

from __future__ import annotations

import csv
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher import models
from launcher.plan import reading
from launcher.plan.data.rows import Rows, rows
from launcher.plan.length import FILLED, expected_longest, length
from launcher.recipe import Recipe, from_document
from launcher.source import parse

BASE: dict[str, Any] = {
    "base_model": "Qwen/Qwen2.5-0.5B",
    "learning_rate": 1e-5,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "sequence_len": 512,
    "num_epochs": 3,
}


def recipe(**settings: Any) -> Recipe:
    text = yaml.safe_dump({**BASE, "datasets": [{"path": "a/b", "type": "alpaca"}], **settings})
    return from_document(parse(text, "my.yaml"))


def counted(given: Rows | None, gpus: int = 1, **settings: Any) -> Any:
    made = recipe(**settings)
    job = reading.job(made, models.find("Qwen/Qwen2.5-0.5B", {}), gpus=gpus)
    return length(made, job, given)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = [{"instruction": f"say {i}", "output": "x " * i} for i in range(100)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "\n")
    (tmp_path / "a.json").write_text(json.dumps(lines))
    (tmp_path / "lines.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["instruction", "output"])
        writer.writeheader()
        writer.writerows(lines)
    (tmp_path / "broken.jsonl").write_text("{\n")
    return tmp_path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "lines.json", "a.csv"])
@pytest.mark.parametrize(
    ("split", "count"),
    [
        ("train", 100),
        ("train[:10]", 10),
        ("train[10:]", 90),
        ("train[:85%]", 85),
        ("train[95%:]", 5),
        ("train[-20:-10]", 10),
        ("train[:1000]", 100),
    ],
)
def test_local_rows_are_counted(data: Path, name: str, split: str, count: int) -> None:
    entry = {"path": str(data / name), "type": "alpaca", "split": split}
    found = rows(recipe(datasets=[entry]), {})
    assert found is not None
    assert (found.count, found.source) == (count, "counted")


def test_slices_are_those_of_the_datasets_library(data: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for split in ("train[:33%]", "train[33%:67%]", "train[-7:]", "train[5:-5]", "train[:7%]"):
        entry = {"path": str(data / "a.jsonl"), "type": "alpaca", "split": split}
        found = rows(recipe(datasets=[entry]), {})
        real = datasets.Dataset.from_list([{"a": i} for i in range(100)])
        read = datasets.ReadInstruction.from_spec(split)
        (one,) = read.to_absolute({"train": 100})
        assert found is not None
        assert found.count == len(real.select(range(one.from_ or 0, one.to or 100)))


def test_rows_are_unknown_unless_all_entries_are_known(data: Path) -> None:
    known = {"path": str(data / "a.jsonl"), "type": "alpaca"}
    assert rows(recipe(datasets=[known, {"path": "a/b", "type": "alpaca"}]), {}) is None
    assert rows(recipe(datasets=[{**known, "path": str(data / "broken.jsonl")}]), {}) is None
    both = rows(recipe(datasets=[known, {**known, "shards": 3}]), {})
    assert both is not None
    assert both.count == 134  # of 100 rows in three shards, the first has 34


def test_validation_rows_are_taken_out(data: Path) -> None:
    entry = {"path": str(data / "a.jsonl"), "type": "alpaca"}
    share = rows(recipe(datasets=[entry], val_set_size=0.055), {})
    number = rows(recipe(datasets=[entry], val_set_size=7), {})
    tests = rows(recipe(datasets=[entry], test_datasets=[{**entry, "split": "train[:9]"}]), {})
    assert [(one.count, one.evaluated) for one in (share, number, tests) if one] == [
        (94, 6),
        (93, 7),
        (100, 9),
    ]


def test_rows_of_a_dataset_by_its_card(tmp_path: Path) -> None:
    commit = "c0ffee" + 34 * "0"
    snapshot = tmp_path / "datasets--a--b" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (tmp_path / "datasets--a--b" / "refs").mkdir()
    (tmp_path / "datasets--a--b" / "refs" / "main").write_text(commit)
    (snapshot / "README.md").write_text(
        "---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: 1234\n---\n# b\n"
    )
    found = rows(recipe(), {"HF_HUB_CACHE": str(tmp_path)})
    assert found == Rows(1234, "by its card")
    (snapshot / "README.md").write_text("---\ndataset_info: [{splits: nonsense}]\n---\n")
    assert rows(recipe(), {"HF_HUB_CACHE": str(tmp_path)}) is None


@pytest.mark.parametrize(
    ("count", "gpus", "settings", "steps"),
    [
        (100, 1, {}, 39),  # 50 batches, 13 steps an epoch, the last of 2 batches
        (100, 4, {}, 12),  # 13 batches a GPU, 4 steps
        (3, 1, {}, 3),  # a step an epoch at least
        (100, 1, {"num_epochs": 0.5}, 7),
        (100, 1, {"max_steps": 5}, 5),
        (100, 1, {"max_steps": 500}, 39),
    ],
)
def test_steps_are_counted_as_the_trainer_does(
    count: int, gpus: int, settings: dict[str, Any], steps: int
) -> None:
    assert counted(Rows(count, ""), gpus, **settings).steps == steps


def test_what_is_not_known_is_not_guessed() -> None:
    assert counted(None).steps is None
    assert counted(None, max_steps=7).steps == 7
    packed = counted(Rows(100, ""), sample_packing=True)  # a bound: one row goes into one
    assert (packed.steps, packed.measured) == (39, False)
    assert not counted(Rows(100, "")).measured
    assert counted(Rows(100, "")).padded == 2 * 512


def test_measured_lengths_replace_the_bound() -> None:
    given = Rows(4, "", lengths=(100, 200, 300, 600))
    found = counted(given)
    assert found.measured
    assert found.longest == 320  # the row over sequence_len is dropped, the rest padded to 64
    assert found.padded == pytest.approx(2 * expected_longest((128, 256, 320), 2))
    assert counted(given, pad_to_sequence_len=False).longest == 300
    assert counted(given, pad_to_sequence_len=True).padded == 2 * 512
    packed = counted(Rows(1000, "", lengths=(128,) * 10), sample_packing=True, num_epochs=1)
    assert packed.steps == math.ceil(math.ceil(1000 * 128 / (512 * FILLED)) / 8)


def test_expected_longest_is_the_mean_of_many_draws() -> None:
    lengths = tuple(random.Random(1).randint(1, 500) for _ in range(200))
    draw = random.Random(2)
    seen = [max(draw.choices(lengths, k=4)) for _ in range(20_000)]
    assert expected_longest(lengths, 4) == pytest.approx(sum(seen) / len(seen), rel=0.01)
    assert expected_longest(lengths, 1) == pytest.approx(sum(lengths) / len(lengths))


@pytest.mark.parametrize(
    ("strategy", "lengths", "sample"),
    [
        (None, (100, 200), 150),  # as drop
        ("drop", (100, 200), 150),
        ("truncate", (100, 200, 512, 512), 331),
        ("raise", (100, 200, 512, 512), 331),  # such a run stops; its plan is a bound
    ],
)
def test_long_rows_are_what_axolotl_makes_of_them(
    strategy: str | None, lengths: tuple[int, ...], sample: float
) -> None:
    given = Rows(400, "", lengths=(1, 100, 200, 700, 2000))  # one is below min_sample_len
    found = counted(given, excess_length_strategy=strategy)
    assert found.sample == sample
    assert found.longest == math.ceil(max(lengths) / 64) * 64
    assert found.steps == 3 * math.ceil(400 * len(lengths) / 5 / 8)
    assert counted(given, min_sample_len=150, excess_length_strategy=strategy).sample > sample


def test_a_row_that_may_fit_counts_as_one_at_the_limit() -> None:
    assert counted(Rows(2, "", lengths=(100, 520))).longest == 512


def test_of_long_pairs_the_answers_are_cut() -> None:
    given = Rows(3, "", lengths=(100, 900, 900), prompts=(50, 100, 800))
    assert counted(given, rl="dpo").sample == 100
    assert counted(given, rl="dpo", excess_length_strategy="truncate").sample == 306
    assert counted(given, rl="dpo", excess_length_strategy="truncate").longest == 512


def test_a_completion_is_cut_into_rows() -> None:
    found = counted(Rows(10, "", lengths=(1300, 1025), pieces=True), num_epochs=1)
    assert found.sample == (512 + 512 + 276 + 512 + 512) / 5  # the last token alone is dropped
    assert found.steps == math.ceil(25 / 8)


def test_a_sample_leaves_the_longest_a_bound() -> None:
    found = counted(Rows(900, "", lengths=(64, 128), complete=False))
    assert (found.measured, found.complete, found.longest) == (True, False, 512)
    assert found.padded == pytest.approx(2 * expected_longest((64, 128), 2))


@pytest.mark.parametrize(
    ("settings", "evaluations"),
    [
        ({}, 0),
        ({"eval_steps": 10, "val_set_size": 0}, 0),
        ({"eval_steps": 10}, 5),  # of 36 steps: at the start, 10, 20, 30 and 36
        ({"eval_steps": 12}, 4),
        ({"eval_steps": 0.25}, 5),
        ({"evals_per_epoch": 4}, 13),
        ({"evals_per_epoch": 1, "num_epochs": 1}, 0),  # 1.0 is no share: axolotl sets nothing
        ({"eval_strategy": "epoch"}, 4),
        ({"eval_strategy": "epoch", "max_steps": 13}, 3),
        ({"eval_strategy": "steps", "logging_steps": 20}, 3),
        ({"eval_strategy": "no"}, 0),
    ],
)
def test_evaluations(settings: dict[str, Any], evaluations: int) -> None:
    found = counted(Rows(95, "", evaluated=5), **{"val_set_size": 5, **settings})
    assert found.evaluations == evaluations


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        ({}, 3),
        ({"max_steps": 13}, 2),
        ({"save_strategy": "no"}, 0),
        ({"save_strategy": "steps"}, 1),
        ({"save_steps": 10}, 4),  # of 36 steps: at 10, 20, 30 and 36
        ({"save_steps": 0.5}, 2),
        ({"saves_per_epoch": 4}, 12),
        ({"saves_per_epoch": 1, "num_epochs": 1}, 1),
        ({"save_strategy": "best", "val_set_size": 5, "eval_steps": 12}, 3),
        ({"save_strategy": "epoch", "save_first_step": True}, 4),
    ],
)
def test_checkpoints(settings: dict[str, Any], written: int) -> None:
    assert counted(Rows(95, ""), **settings).checkpoints == written


def test_the_batches_of_an_evaluation() -> None:
    found = counted(Rows(95, "", evaluated=50))
    assert [found.evaluation_batches(world) for world in (1, 4)] == [25, 7]
    assert counted(Rows(95, "", evaluated=50), eval_batch_size=8).evaluation_batches(1) == 7
