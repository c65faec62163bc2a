"""When axolotl evaluates and saves, and when it silently does not."""

from __future__ import annotations

import pytest
from least import codes


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("val_set_size: 0.05\nevals_per_epoch: 1\nnum_epochs: 1", ["R301"]),
        ("val_set_size: 0.05\nevals_per_epoch: 1", ["R301"]),
        ("val_set_size: 0.05\nevals_per_epoch: 1\nnum_epochs: 0.5", ["R301"]),
        ("val_set_size: 0.05\nevals_per_epoch: 2\nnum_epochs: 1", []),
        ("val_set_size: 0.05\nevals_per_epoch: 1\nnum_epochs: 2", []),
        ("val_set_size: 0.05\nevals_per_epoch: 1\neval_strategy: steps", []),
        ("evals_per_epoch: 1", []),
        ("val_set_size: 0.05\n", ["R302"]),
        ('val_set_size: 0.05\neval_strategy: "no"', ["R302"]),
        ("test_datasets: [{path: my-org/test, type: chat_template}]", ["R302"]),
        ("val_set_size: 0.05\neval_steps: 10", []),
        ("val_set_size: 0", []),
        ("val_set_size: 0.0", []),
        ("val_set_size: 0.05\nevaluation_strategy: epoch", ["R008"]),
        ("val_set_size: 0\neval_steps: 10", ["R303"]),
        ("val_set_size: 0.0\neval_strategy: epoch", ["R303"]),
        ('val_set_size: 0\neval_strategy: "no"', []),
        ("val_set_size: 0\nevals_per_epoch: 2", []),
        (
            "val_set_size: 0\n"
            "eval_steps: 10\n"
            "test_datasets: [{path: my-org/test, type: chat_template}]",
            [],
        ),
        ("save_steps: 10\nsaves_per_epoch: 2", ["R304"]),
        ("save_steps: 10\nsave_strategy: steps", []),
        ("save_steps: 10\nsave_strategy: epoch", ["R304"]),
        ("val_set_size: 0.05\neval_steps: 10\nevals_per_epoch: 2", ["R304"]),
        ("val_set_size: 0.05\neval_steps: 10\neval_strategy: epoch", ["R304"]),
        ("val_set_size: 0.05\neval_steps: 10\neval_strategy: steps", []),
        (
            "val_set_size: 0.05\n"
            "eval_steps: 10\n"
            "test_datasets: [{path: my-org/test, type: chat_template}]",
            ["R304"],
        ),
        ("warmup_steps: 10\nwarmup_ratio: 0.1", ["R304"]),
        ("warmup_steps: 0\nwarmup_ratio: 0.1", []),
        ("batch_size: 8\ngradient_accumulation_steps: 2", ["R304"]),
        (
            "val_set_size: 0.05\n"
            "early_stopping_patience: 2\n"
            "evals_per_epoch: 4\n"
            "saves_per_epoch: 4",
            ["R305"],
        ),
        (
            "val_set_size: 0.05\nearly_stopping_patience: 2\neval_steps: 30\nsave_steps: 50",
            ["R305"],
        ),
        ("val_set_size: 0.05\nearly_stopping_patience: 2\neval_steps: 25\nsave_steps: 50", []),
        ("val_set_size: 0.05\nearly_stopping_patience: 0\nevals_per_epoch: 4", []),
        ("rl: dpo\nval_set_size: 200\neval_steps: 10", ["R306"]),
        ("val_set_size: 1\neval_steps: 10", ["R306"]),
        ("val_set_size: 200\neval_steps: 10", []),
        ("rl: dpo\nval_set_size: 0.1\neval_steps: 10", []),
        ("saves_per_epoch: 4\nnum_epochs: 3", ["R307"]),
        ("saves_per_epoch: 4", []),
        ("saves_per_epoch: 4\nnum_epochs: 3\nsave_total_limit: 2", []),
        ("max_steps: 10\nnum_epochs: 3", ["R308"]),
        ("max_steps: 10", []),
        ("max_steps: -1\nnum_epochs: 3", []),
        (
            "pretraining_dataset: [{path: my-org/web, type: pretrain}]\n"
            "max_steps: 10\n"
            "num_epochs: 1",
            [],
        ),
        ("save_strategy: best", ["R309"]),
        ("save_strategy: best\nmetric_for_best_model: eval_loss", []),
        ("save_strategy: epoch", []),
        ("save_steps: 1.5", ["R310"]),
        ("save_steps: 0.5", []),
        ("save_steps: 2.0", []),
        ("val_set_size: 0.05\neval_steps: 10.5", ["R310"]),
    ],
)
def test_told(fragment: str, expected: list[str]) -> None:
    assert codes(fragment) == expected
