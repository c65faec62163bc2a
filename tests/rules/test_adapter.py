"""Adapters and what has to go with them."""

from __future__ import annotations

import pytest
from least import codes


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("adapter: lora\nload_in_4bit: true\nlora_target_linear: true\n", ["R501"]),
        ("adapter: lora\nload_in_8bit: true\nlora_target_linear: true\n", []),
        ("adapter: qlora\nload_in_4bit: true\nlora_target_linear: true\n", []),
        ("adapter: lora\nload_in_4bit: false\nlora_target_linear: true\n", []),
        ('adapter: lora\nload_in_4bit: "yes"\nlora_target_linear: true\n', ["R501"]),
        ("adapter: qlora\nlora_target_linear: true\n", ["R502"]),
        ("adapter: qlora\nload_in_8bit: true\nlora_target_linear: true\n", ["R502"]),
        ("load_in_4bit: true", ["R502"]),
        ("load_in_8bit: true", ["R502"]),
        ("load_in_4bit: false", []),
        ("adapter: lora", ["R503"]),
        ("adapter: lora\nlora_target_modules: [q_proj]", []),
        ("adapter: lora\nlora_model_dir: ./adapter", []),
        ("rl: dpo\nadapter: lora\nlora_o_kernel: true\nlora_target_linear: true\n", ["R504"]),
        ("adapter: lora\nlora_o_kernel: true\nlora_target_linear: true\n", []),
        ("rl: dpo\nadapter: lora\nlora_o_kernel: false\nlora_target_linear: true\n", []),
        ("lora_r: 8", ["R505"]),
        ("lora_dropout: 0.1", []),
        ("adapter: lora\nlora_r: 8\nlora_target_linear: true\n", []),
        ("adapter: lora\nlora_r: 0\nlora_target_linear: true\n", ["R506"]),
        ("adapter: lora\nlora_alpha: -1\nlora_target_linear: true\n", ["R506"]),
        ("adapter: lora\ntokens: [<x>]\nlora_target_linear: true\n", ["R507"]),
        ("tokens: [<x>]", []),
        ("adapter: lora\ntokens: []\nlora_target_linear: true\n", []),
        (
            "adapter: lora\n"
            "tokens: [<x>]\n"
            "lora_modules_to_save: [embed_tokens, lm_head]\n"
            "lora_target_linear: true\n",
            [],
        ),
        ("adapter: lora\nspecial_tokens: {pad_token: <pad>}\nlora_target_linear: true\n", []),
    ],
)
def test_told(fragment: str, expected: list[str]) -> None:
    assert codes(fragment) == expected
