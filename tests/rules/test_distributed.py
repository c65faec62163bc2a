"""DeepSpeed, FSDP, and what they do not get on with."""

from __future__ import annotations

from pathlib import Path

import pytest
from least import codes, problems


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        (
            "deepspeed: {zero_optimization: {stage: 2}}\n"
            "fsdp_config: {reshard_after_forward: true}",
            ["R801"],
        ),
        ("deepspeed: {zero_optimization: {stage: 2}}\n", []),
        ("fsdp_config: {reshard_after_forward: true}", []),
        (
            "adapter: qlora\n"
            "load_in_4bit: true\n"
            "lora_target_linear: true\n"
            "deepspeed: {zero_optimization: {stage: 3}}\n",
            ["R802"],
        ),
        (
            "adapter: qlora\n"
            "load_in_4bit: true\n"
            "lora_target_linear: true\n"
            "deepspeed: {zero_optimization: {stage: 2}}\n",
            [],
        ),
        (
            "adapter: lora\nlora_target_linear: true\ndeepspeed: {zero_optimization: {stage: 3}}\n",
            [],
        ),
        (
            "adapter: qlora\n"
            "load_in_4bit: true\n"
            "lora_target_linear: true\n"
            "deepspeed: recipes/deepspeed/zero3.json",
            ["R802"],
        ),
        (
            "adapter: qlora\n"
            "load_in_4bit: true\n"
            "lora_target_linear: true\n"
            "deepspeed: recipes/deepspeed/zero2.json",
            [],
        ),
        ("deepspeed: none.json", ["R803"]),
        ("deepspeed: recipes/deepspeed/zero1.json", []),
        ("deepspeed: null", []),
        ("bf16: true\ndeepspeed: {fp16: {enabled: true}}", ["R804"]),
        ("bf16: true\ndeepspeed: {fp16: {enabled: auto}}", []),
        ("bf16: auto\ndeepspeed: {bf16: {enabled: true}}", []),
        (
            "rl: dpo\n"
            "adapter: lora\n"
            "lora_target_linear: true\n"
            "gradient_checkpointing: true\n"
            "gradient_checkpointing_kwargs: {use_reentrant: true}",
            ["R805"],
        ),
        (
            "adapter: lora\n"
            "lora_target_linear: true\n"
            "gradient_checkpointing: true\n"
            "gradient_checkpointing_kwargs: {use_reentrant: true}",
            [],
        ),
        (
            "rl: dpo\n"
            "gradient_checkpointing: true\n"
            "gradient_checkpointing_kwargs: {use_reentrant: true}",
            [],
        ),
        ("rl: dpo\ndeepspeed: {zero_optimization: {stage: 3}}\n", ["R806"]),
        ("rl: dpo\ndeepspeed: {zero_optimization: {stage: 2}}\n", []),
        (
            "rl: dpo\n"
            "adapter: lora\n"
            "lora_target_linear: true\n"
            "deepspeed: {zero_optimization: {stage: 3}}\n",
            [],
        ),
        (
            "rl: dpo\nprecompute_ref_log_probs: true\ndeepspeed: {zero_optimization: {stage: 3}}\n",
            [],
        ),
        ("deepspeed: {zero_optimization: {stage: 3}}\n", []),
        ("fsdp_version: 2\nfsdp_config: {state_dict_type: SHARDED_STATE_DICT}", ["R807"]),
        ("fsdp_version: 2\nfsdp_config: {state_dict_type: FULL_STATE_DICT}", []),
        (
            "adapter: lora\n"
            "lora_target_linear: true\n"
            "fsdp_version: 2\n"
            "fsdp_config: {state_dict_type: SHARDED_STATE_DICT}",
            [],
        ),
        (
            "optimizer: adamw_8bit\nfsdp_version: 2\nfsdp_config: {reshard_after_forward: true}",
            ["R808"],
        ),
        ("optimizer: adamw_8bit\nfsdp_version: 1\nfsdp_config: {offload_params: true}", ["R808"]),
        ("optimizer: adamw_8bit\nfsdp_version: 1\nfsdp_config: {offload_params: false}", []),
        (
            "optimizer: adamw_torch_8bit\n"
            "fsdp_version: 2\n"
            "fsdp_config: {reshard_after_forward: true}",
            [],
        ),
        (
            "rl: dpo\n"
            "adapter: qlora\n"
            "load_in_4bit: true\n"
            "lora_target_linear: true\n"
            "fsdp_version: 2\n"
            "fsdp_config: {reshard_after_forward: true}",
            ["R809"],
        ),
        (
            "adapter: qlora\n"
            "load_in_4bit: true\n"
            "lora_target_linear: true\n"
            "fsdp_version: 2\n"
            "fsdp_config: {reshard_after_forward: true}",
            [],
        ),
        (
            "rl: dpo\n"
            "adapter: qlora\n"
            "load_in_4bit: true\n"
            "lora_target_linear: true\n"
            "fsdp_version: 1\n"
            "fsdp_config: {offload_params: false}",
            [],
        ),
    ],
)
def test_told(fragment: str, expected: list[str]) -> None:
    assert codes(fragment) == expected


def test_a_config_that_is_no_json(tmp_path: Path) -> None:
    file = tmp_path / "zero.json"
    file.write_text("{")
    (problem,) = problems(f"deepspeed: {file}")
    assert problem.code == "R803"
    assert problem.message.endswith("cannot be read as JSON")
