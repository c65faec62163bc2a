"""Names that are looked up late, and keys that nothing reads."""

from __future__ import annotations

import pytest
from least import codes, problems


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        # optimizers
        ("optimizer: adamw_8bits", ["R001"]),
        ("optimizer: galore_adamw", ["R001"]),
        ("optimizer: ao_adamw_8bit", ["R001"]),
        ("optimizer: paged_adamw_8bit", []),
        ("optimizer: muon", []),
        ("optimizer: mine\nplugins: [my.Plugin]", ["R102"]),
        ("optimizer: dion", ["R010"]),
        ("optimizer: dion\ndion_lr: 0.01", ["R010"]),
        ("optimizer: dion\ndion_lr: 0.01\ndion_momentum: 0.9", []),
        # schedulers
        ("lr_scheduler: cosin", ["R002"]),
        ("lr_scheduler: rex", []),
        ("lr_scheduler: cosine_with_min_lr", ["R011"]),
        ("lr_scheduler: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1.0e-7}", []),
        ("lr_scheduler: cosine_with_min_lr\nlr_scheduler_kwargs: {num_cycles: 1}", ["R011"]),
        ("lr_scheduler: warmup_stable_decay\nlr_scheduler_kwargs: {num_decay_steps: 10}", []),
        ("lr_scheduler: reduce_lr_on_plateau", ["R012"]),
        ("lr_scheduler: reduce_lr_on_plateau\neval_steps: 10", ["R012"]),
        (
            'lr_scheduler: reduce_lr_on_plateau\nval_set_size: 0.1\neval_strategy: "no"',
            ["R012", "R302"],
        ),
        ("lr_scheduler: reduce_lr_on_plateau\nval_set_size: 0.1\neval_steps: 10", []),
        # chat templates
        ("chat_template: llama-3", ["S104"]),
        ("chat_template: tokenizer_default_fallback_llama-3", ["R003"]),
        ("chat_template: tokenizer_default_fallback_llama3", []),
        ("datasets: [{path: my-org/rows, type: chat_template, chat_template: qwen}]", ["R003"]),
        ("datasets: [{path: my-org/rows, type: chat_template, chat_template: qwen_25}]", []),
        # plugins
        ("plugins: [axolotl.integrations.liger.LigerPlugins]", ["R004"]),
        ("plugins: [axolotl.integrations.llm_compressor.LLMCompressorPlugin]", ["R004"]),
        ("plugins: [axolotl.integrations.liger.LigerPlugin]", []),
        ("plugins: [my_package.Plugin]", ["R102"]),
        ("liger_rope: true", ["R005"]),
        ("liger_rope: false", []),
        ("cut_cross_entropy: true\nplugins: [axolotl.integrations.liger.LigerPlugin]", ["R005"]),
        ("liger_rope: true\nplugins: [axolotl.integrations.liger.LigerPlugin]", []),
        # keys without a reader
        ("rl: dpo\npad_to_sequence_len: true", ["R006"]),
        (
            "rl: dpo\n"
            "early_stopping_patience: 3\n"
            "save_steps: 10\n"
            "eval_steps: 10\n"
            "val_set_size: 0.1",
            ["R006"],
        ),
        ("rl: dpo\npad_to_sequence_len: false", []),
        ("pad_to_sequence_len: true", []),
        ("rl: dpo\npad_to_sequence_len: true\nplugins: [my.Plugin]", ["R102"]),
        ("dpo_padding_free: true", ["R006"]),
        ("rl: dpo\ndpo_padding_free: true", []),
        # old keys
        ("max_packed_sequence_len: 2048", ["R007"]),
        ("save_safetensors: false", ["R007"]),
        ("save_safetensors: true", []),
        ("flash_attention: true", ["R008"]),
        ("flash_attention: false", []),
        ("gradient_checkpointing: offload", ["R008"]),
        ("gradient_checkpointing: true", []),
        (
            "datasets: [{path: my-org/rows, type: chat_template, message_field_role: from}]",
            ["R008"],
        ),
        ("flash_attention: true\nattn_implementation: sdpa", ["R009"]),
        ("rl: dpo\ndpo_beta: 0.1\nrl_beta: 0.1", ["R009"]),
        ("rl: dpo\nrl_beta: 0.1", []),
    ],
)
def test_told(fragment: str, expected: list[str]) -> None:
    assert codes(fragment) == expected


def test_a_hint_names_the_plugin_by_its_full_name() -> None:
    (problem,) = problems("liger_rope: true")
    assert problem.hint == "add to plugins: axolotl.integrations.liger.LigerPlugin"


def test_a_hint_is_the_new_key_or_what_axolotl_says() -> None:
    (problem,) = problems("rl: dpo\ndpo_beta: 0.2")
    assert problem.hint == "rl_beta: 0.2"
    (problem,) = problems("gradient_checkpointing: offload")
    assert problem.message == "gradient_checkpointing: offload is deprecated"
    assert "activation_offloading" in problem.hint
