"""Numbers that YAML 1.1 reads otherwise than a person does."""

from __future__ import annotations

import pytest
from least import codes, problems


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("seed: 010", ["Y201"]),
        ("warmup_steps: 0100", ["Y201"]),
        ("datasets: [{path: my-org/rows, type: chat_template, shards: 010}]", ["Y201"]),
        ("seed: 0", []),
        ("seed: 10", []),
        ("seed: 00", []),
        ("weight_decay: 0.010", []),
        ("seed: 007", []),
        ("seed: 0o10", ["S103"]),
        ("num_epochs: 1:30", ["Y202"]),
        ("num_epochs: 1:30.5", ["Y202"]),
        ('wandb_name: "1:30"', []),
        ("wandb_name: run 1:30", []),
        ("lr_scheduler_kwargs: {min_lr: 1e-6}", ["Y203"]),
        ("optim_args: {eps: 1E-8}", ["Y203"]),
        ('lr_scheduler_kwargs: {min_lr: "1e-6"}', []),
        ("lr_scheduler_kwargs: {min_lr: 1.0e-6}", []),
        ("weight_decay: 1e-2", []),
    ],
)
def test_told(fragment: str, expected: list[str]) -> None:
    assert codes(fragment) == expected


def test_the_hint_is_the_number_that_was_seen() -> None:
    (octal,) = problems("seed: 010")
    assert octal.hint == "write 10"
    (text,) = problems("lr_scheduler_kwargs: {min_lr: 1e-6}")
    assert text.hint == "min_lr: 1.0e-6"
