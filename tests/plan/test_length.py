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
from launcher.plan.length import FILLED, expected_longest, length
from launcher.plan.rows import Rows, rows
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
    assert both.count == 133


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
    assert found.longest == 300  # the row over sequence_len is dropped
    assert found.padded == pytest.approx(2 * expected_longest([100, 200, 300], 2))
    packed = counted(Rows(1000, "", lengths=(128,) * 10), sample_packing=True, num_epochs=1)
    assert packed.steps == math.ceil(math.ceil(1000 * 128 / (512 * FILLED)) / 8)


def test_expected_longest_is_the_mean_of_many_draws() -> None:
    lengths = [random.Random(1).randint(1, 500) for _ in range(200)]
    draw = random.Random(2)
    seen = [max(draw.choices(lengths, k=4)) for _ in range(20_000)]
    assert expected_longest(lengths, 4) == pytest.approx(sum(seen) / len(seen), rel=0.01)
    assert expected_longest(lengths, 1) == pytest.approx(sum(lengths) / len(lengths))


def test_lengths_come_from_the_models_own_tokenizer(data: Path, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordLevel({"[UNK]": 0, "x": 1, "say": 2}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    (tmp_path / "base").mkdir()
    tokenizer.save(str(tmp_path / "base" / "tokenizer.json"))
    entry = {"path": str(data / "a.jsonl"), "type": "alpaca"}
    found = rows(recipe(base_model=str(tmp_path / "base"), datasets=[entry]), {})
    assert found is not None
    assert found.lengths == tuple(2 + i for i in range(100))
    pair = {"prompt": "say x", "chosen": "x x", "rejected": [{"role": "a", "content": "x x x"}]}
    (data / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    both = recipe(
        base_model=str(tmp_path / "base"),
        rl="dpo",
        datasets=[{"path": str(data / "pairs.jsonl"), "type": "chatml.intel"}],
    )
    found = rows(both, {})
    assert found is not None
    assert found.lengths == (5,)
