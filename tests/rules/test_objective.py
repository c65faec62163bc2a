"""Rates, betas and sizes that cannot be meant."""

from __future__ import annotations

import pytest
from least import codes, problems


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("learning_rate: 2.0e+6", ["R601"]),
        ("learning_rate: 5", ["R601"]),
        ("learning_rate: 0", ["R601"]),
        ("learning_rate: -1.0e-5", ["R601"]),
        ("learning_rate: 1.0\noptimizer: adafactor", []),
        ("learning_rate: 0.02\noptimizer: muon", []),
        ("learning_rate: 0\noptimizer: muon", ["R601"]),
        ("learning_rate: 2e-5", []),
        ("rl: dpo\nlearning_rate: 2.0e-4", ["R602"]),
        ("rl: dpo\nadapter: lora\nlora_target_linear: true\nlearning_rate: 3.0e-4", []),
        ("rl: dpo\nlearning_rate: 5.0e-5", []),
        ("learning_rate: 1.0e-8", ["R602"]),
        ("adapter: lora\nlora_target_linear: true\nlearning_rate: 2.0e-4", []),
        ("learning_rate: 1.0e-3", []),
        (
            "rl: grpo\nlearning_rate: 2.0e-4\ntrl: {reward_funcs: [rewards.right]}\n"
            "datasets: [{path: my-org/rows, type: chat_template}]",
            [],
        ),
        ("rl: dpo\nrl_beta: 0", ["R603"]),
        ("rl: dpo\nrl_beta: -0.1", ["R603"]),
        ("rl: dpo\nrl_beta: 0.1", []),
        ("rl: dpo", []),
        ("micro_batch_size: 0", ["R604"]),
        ("sequence_len: -1", ["R604"]),
        ("num_epochs: 0", ["R604"]),
        ("num_epochs: 0.1", []),
        ("pretraining_dataset: [{path: my-org/web, type: pretrain}]", ["R605"]),
        ("pretraining_dataset: [{path: my-org/web, type: pretrain}]\nmax_steps: 5", []),
    ],
)
def test_told(fragment: str, expected: list[str]) -> None:
    assert codes(fragment) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [("2.0e+6", "2.0e-6"), ("2e6", "2.0e-6"), ("5", "5.0e-6"), ("-1.0e-5", "5.0e-6")],
)
def test_the_hint_is_the_rate_that_was_meant(text: str, hint: str) -> None:
    (problem,) = problems(f"learning_rate: {text}")
    assert problem.hint == f"learning_rate: {hint}"
