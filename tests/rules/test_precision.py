"""Precision, attention and packing."""

from __future__ import annotations

import pytest
from least import codes


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("sample_packing: true", ["R701"]),
        ('sample_packing: "true"', ["R701"]),
        ("sample_packing: false", []),
        ("sample_packing: true\nattn_implementation: sdpa", []),
        ("sample_packing: true\nsdp_attention: true", ["R008"]),
        ("sample_packing: true\nflash_attention: false", ["R701"]),
        ("rl: dpo\nsample_packing: true\nattn_implementation: sdpa", ["R702"]),
        ("rl: dpo\nsample_packing: false", []),
        (
            "rl: kto\n"
            "remove_unused_columns: false\n"
            "eval_sample_packing: true\n"
            "datasets: [{path: my-org/pairs, type: chatml.intel}]",
            ["R702"],
        ),
        ("bf16: true\nfp16: true", ["R703"]),
        ("bf16: auto\nfp16: true", []),
        ("bf16: true\nfp16: false", []),
        (
            "x-recipe: {title: A, method: sft, needs: {gpu: a100-80gb, gpus: 1, disk: 1}}\n"
            "fp8: true",
            ["R704"],
        ),
        (
            "x-recipe: {title: A, method: sft, needs: {gpu: h100-80gb, gpus: 1, disk: 1}}\n"
            "fp8: true",
            [],
        ),
        (
            "x-recipe: {title: A, method: sft, needs: {gpu: l40s-48gb, gpus: 1, disk: 1}}\n"
            "fp8: true",
            [],
        ),
        ("fp8: true", []),
        (
            "x-recipe: {title: A, method: sft, needs: {gpu: a100-40gb, gpus: 1, disk: 1}}\n"
            "attn_implementation: flash_attention_3",
            ["R704"],
        ),
        (
            "x-recipe: {title: A, method: sft, needs: {gpu: rtx4090-24gb, gpus: 1, disk: "
            "1}}\n"
            "attn_implementation: flash_attention_3",
            ["R704"],
        ),
        (
            "x-recipe: {title: A, method: sft, needs: {gpu: h100-80gb, gpus: 1, disk: 1}}\n"
            "attn_implementation: flash_attention_3",
            [],
        ),
        (
            "x-recipe: {title: A, method: sft, needs: {gpu: a100-80gb, gpus: 1, disk: 1}}\n"
            "attn_implementation: flash_attention_2",
            [],
        ),
    ],
)
def test_told(fragment: str, expected: list[str]) -> None:
    assert codes(fragment) == expected
