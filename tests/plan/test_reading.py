"""From a recipe's settings to a job: what axolotl would do with each."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import hardware, recipe
from launcher.diagnostics import LauncherError
from launcher.models import find, from_config
from launcher.plan.job import (
    Attention,
    Checkpointing,
    Job,
    Kernels,
    Loss,
    Method,
    Reference,
    Shard,
    Unplanned,
)
from launcher.plan.memory import Verdict, memory
from launcher.plan.reading import job
from launcher.recipe import Recipe

QWEN = find("Qwen/Qwen2.5-3B", {})
LORA = {"adapter": "lora", "lora_r": 8, "lora_target_linear": True}
QLORA = {**LORA, "adapter": "qlora", "load_in_4bit": True}
LIGER = {"plugins": ["axolotl.integrations.liger.LigerPlugin"]}
CUT = {"plugins": ["axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin"]}
FLASH = {"attn_implementation": "flash_attention_2"}


def read(settings: dict[str, Any], *, gpus: int = 1, **more: Any) -> Job:
    value = {"base_model": "Qwen/Qwen2.5-3B", "sequence_len": 1024, **settings}
    return job(Recipe("test", "test.yaml", value, {}, {}), QWEN, gpus=gpus, **more)


@pytest.mark.parametrize("path", recipe.shipped(), ids=lambda path: path.stem)
def test_every_shipped_recipe_fits_the_card_that_it_names(path: Path) -> None:
    loaded = recipe.load(path)
    needs = loaded.block["needs"]
    facts = find(loaded.settings["base_model"], {"HF_HUB_CACHE": "/nonexistent"})
    found = memory(job(loaded, facts, gpus=needs["gpus"]))
    if needs["gpu"] != "none":
        assert found.verdict(hardware.find(needs["gpu"]).memory_bytes) is Verdict.OK


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({}, Method.FULL),
        (LORA, Method.LORA),
        (QLORA, Method.QLORA),
        ({**LORA, "load_in_8bit": True}, Method.LORA8),
        ({**LORA, "load_in_4bit": True}, Method.LORA),  # axolotl quantizes for qlora alone
    ],
)
def test_method(settings: dict[str, Any], method: Method) -> None:
    assert read(settings).method is method


@pytest.mark.parametrize(
    ("settings", "weight", "autocast"),
    [
        ({}, 2, True),
        ({"bf16": True}, 2, True),
        ({"bf16": False}, 4, False),
        ({"fp16": True}, 2, True),
    ],
)
def test_precision(settings: dict[str, Any], weight: int, autocast: bool) -> None:
    found = read(settings)
    assert (found.weight_bytes, found.compute_bytes, found.autocast) == (weight, weight, autocast)


@pytest.mark.parametrize(
    ("settings", "width"),
    [
        (LORA, 4),
        (QLORA, 4),
        ({**LORA, "rl": "dpo"}, 4),
        ({**QLORA, "rl": "dpo"}, 2),  # TRL makes them bf16 again
        ({**LORA, "peft_autocast_adapter_dtype": False}, 2),
        ({**LORA, "deepspeed": {"zero_optimization": {"stage": 2}}}, 2),
        ({**LORA, "bf16": False}, 4),
    ],
)
def test_bytes_of_an_adapter(settings: dict[str, Any], width: int) -> None:
    found = read(settings).adapter
    assert found
    assert found.bytes == width


def test_dropout_is_off_in_dpo() -> None:
    for rl, dropout in ((None, 0.1), ("dpo", 0.0)):
        found = read({**LORA, "lora_dropout": 0.1, "rl": rl}).adapter
        assert found
        assert found.dropout == dropout


@pytest.mark.parametrize(
    ("settings", "on"),
    [
        (LORA, True),
        ({**LORA, "rl": "dpo"}, False),
        ({**LORA, "lora_mlp_kernel": False}, False),
        ({**LORA, "load_in_8bit": True}, False),
        ({**LORA, "trust_remote_code": True}, False),
        ({}, False),
    ],
)
def test_lora_kernels_switch_themselves_on(settings: dict[str, Any], on: bool) -> None:
    kernels = read(settings).kernels
    assert kernels == Kernels(lora_mlp=on, lora_qkv=on, lora_o=on)


def test_a_kernel_needs_adapters_on_all_its_layers() -> None:
    some = {"adapter": "lora", "lora_r": 8, "lora_target_modules": ["q_proj", "v_proj", "o_proj"]}
    assert read(some).kernels == Kernels(lora_o=True)


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        ({}, Loss.LOGITS),
        ({**LIGER, "liger_fused_linear_cross_entropy": True}, Loss.LIGER),
        ({"liger_fused_linear_cross_entropy": True}, Loss.LOGITS),  # no plugin reads it
        ({**CUT, "cut_cross_entropy": True}, Loss.CUT),
        ({**CUT, "rl": "dpo"}, Loss.LOGITS),
    ],
)
def test_loss(settings: dict[str, Any], loss: Loss) -> None:
    assert read(settings).loss is loss


@pytest.mark.parametrize(
    ("settings", "attention"),
    [
        (FLASH, Attention.FLASH),
        ({"flash_attention": True}, Attention.FLASH),
        ({"attn_implementation": "eager"}, Attention.EAGER),
        ({}, Attention.FLASH),  # sdpa on one row: no mask
        ({"micro_batch_size": 2}, Attention.MASKED),
        ({"sample_packing": True}, Attention.MASKED),
        ({"rl": "dpo"}, Attention.MASKED),  # a pair is two rows
    ],
)
def test_attention(settings: dict[str, Any], attention: Attention) -> None:
    assert read(settings).attention is attention


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, Checkpointing.NONE),
        ({"gradient_checkpointing": True}, Checkpointing.BLOCKS),
        ({"gradient_checkpointing": True, "activation_offloading": True}, Checkpointing.OFFLOADED),
        ({"gradient_checkpointing": "offload"}, Checkpointing.OFFLOADED),
    ],
)
def test_checkpointing(settings: dict[str, Any], kept: Checkpointing) -> None:
    assert read(settings).checkpointing is kept


def test_the_reference_copy_stays_when_it_is_precomputed() -> None:
    for before in (False, True):
        found = read({"rl": "dpo", "precompute_ref_log_probs": before}).preference
        assert found
        assert (found.reference, found.precomputed) == (Reference.COPY, before)
    adapted = read({**LORA, "rl": "dpo", "dpo_loss_type": ["sigmoid", "sft"]}).preference
    assert adapted
    assert (adapted.reference, adapted.supervised) == (Reference.ADAPTER_OFF, True)


def test_deepspeed_from_a_shipped_file() -> None:
    found = read({"deepspeed": "recipes/deepspeed/zero3.json"}, gpus=4).sharding
    assert (found.world, found.shard, found.live) == (4, Shard.ZERO3, 500_000_000)
    assert found.reduce_bucket == QWEN.hidden**2  # auto
    assert not read({"deepspeed": "recipes/deepspeed/zero2.json"}, gpus=4).autocast


def test_deepspeed_offload(tmp_path: Path) -> None:
    zero = {"stage": 3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "none"}}
    file = tmp_path / "zero.json"
    file.write_text(json.dumps({"zero_optimization": zero}))
    found = read({"deepspeed": str(file)}, gpus=2).sharding
    assert (found.offload_optimizer, found.offload_parameters) == (True, False)
    file.write_text("[")
    with pytest.raises(LauncherError, match="cannot be read"):
        read({"deepspeed": str(file)})


def test_fsdp2() -> None:
    found = read({"fsdp_version": 2, "fsdp_config": {"offload_params": True}}, gpus=2).sharding
    assert (found.shard, found.offload_optimizer) == (Shard.FSDP, True)
    with pytest.raises(Unplanned, match="FSDP1") as caught:
        read({"fsdp_config": {"offload_params": True}})
    assert caught.value.hint == "fsdp_version: 2"


def test_accumulation_is_the_callers_or_the_recipes() -> None:
    assert read({"gradient_accumulation_steps": 4}).accumulation == 4
    assert read({"gradient_accumulation_steps": 4}, accumulation=2).accumulation == 2
    assert read({}).accumulation == 1


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"rl": "grpo"}, "rl: grpo"),
        ({"rl": "orpo"}, "rl: orpo"),
        ({"adapter": "mora"}, "adapter: mora"),
        ({"optimizer": "muon"}, "optimizer: muon"),
        ({"attn_implementation": "flex_attention"}, "attn_implementation: flex_attention"),
        ({"tensor_parallel_size": 2}, "tensor_parallel_size"),
        ({"context_parallel_size": 2}, "context_parallel_size"),
        ({**LORA, "lora_modules_to_save": ["embed_tokens"]}, "lora_modules_to_save"),
        ({**LORA, "peft_use_dora": True}, "peft_use_dora"),
        ({"adapter": "lora", "lora_target_modules": ["lm_head"]}, "lora_target_modules"),
        ({"adapter": "lora", "lora_target_modules": "model.layers.[0-9]+"}, "lora_target_modules"),
        ({"adapter": "lora"}, "lora_target_modules"),
        ({**LORA, "gradient_checkpointing": "offload"}, "activation_offloading"),
        ({"torch_compile": True}, "torch_compile"),
        ({"unfrozen_parameters": ["lm_head"]}, "unfrozen_parameters"),
    ],
)
def test_what_has_no_formula_is_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(Unplanned, match="no memory formula") as caught:
        read(settings)
    assert caught.value.key == key
    assert caught.value.reason


def test_one_gpu_in_a_group_is_no_parallelism() -> None:
    assert read({"tensor_parallel_size": 1, "context_parallel_size": 1}).sharding.world == 1


def test_a_quantized_checkpoint_is_refused() -> None:
    config = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 1, "n_positions": 8}
    quantized = {**config, "vocab_size": 9, "quantization_config": {"quant_method": "awq"}}
    with pytest.raises(Unplanned, match="already quantized"):
        job(Recipe("t", "t.yaml", {"sequence_len": 8}, {}, {}), from_config("t", quantized))


@pytest.mark.parametrize(
    ("zero", "said"),
    [
        (3, "zero_optimization is 3"),
        ([], "zero_optimization is []"),
        ("x", "zero_optimization is 'x'"),
        (None, "zero_optimization is None"),
        ({"stage": None}, "zero_optimization.stage is None"),
        ({"stage": 4}, "zero_optimization.stage is 4"),
        ({"stage": 2.5}, "zero_optimization.stage is 2.5"),
        ({"stage": "3"}, "zero_optimization.stage is '3'"),
        ({"stage": True}, "zero_optimization.stage is True"),
        ({"stage": 3, "reduce_bucket_size": "5e8"}, "reduce_bucket_size is '5e8'"),
        ({"stage": 3, "reduce_bucket_size": None}, "reduce_bucket_size is None"),
        ({"stage": 3, "reduce_bucket_size": -1}, "reduce_bucket_size is -1"),
        ({"stage": 3, "sub_group_size": float("inf")}, "sub_group_size is inf"),
        ({"stage": 3, "stage3_max_live_parameters": [1]}, "max_live_parameters is [1]"),
        ({"stage": 2, "overlap_comm": []}, "overlap_comm is []"),
        ({"stage": 3, "offload_param": "cpu"}, "offload_param is 'cpu'"),
        ({"stage": 3, "offload_param": {"device": "gpu"}}, "offload_param.device is 'gpu'"),
        ({"stage": 3, "offload_optimizer": {"device": []}}, "offload_optimizer.device is []"),
    ],
)
def test_what_deepspeed_does_not_take_is_named(zero: Any, said: str) -> None:
    with pytest.raises(LauncherError, match="deepspeed: ") as caught:
        read({"deepspeed": {"zero_optimization": zero}}, gpus=2)
    assert said in caught.value.message
    assert caught.value.exit_code == 1


def test_deepspeed_reads_numbers_and_switches_as_pydantic_does() -> None:
    zero = {"stage": 2, "reduce_bucket_size": 5e8, "allgather_bucket_size": "1000"}
    found = read({"deepspeed": {"zero_optimization": {**zero, "overlap_comm": "no"}}}, gpus=2)
    assert (found.sharding.reduce_bucket, found.sharding.allgather_bucket) == (500_000_000, 1000)
    assert not found.sharding.overlap
    assert read({"deepspeed": {"zero_optimization": {"stage": 3}}}, gpus=2).sharding.overlap
    auto = {"zero_optimization": {"stage": 3, "overlap_comm": "auto", "offload_param": None}}
    assert read({"deepspeed": auto}, gpus=2).sharding.overlap


@pytest.mark.parametrize("key", ["cpu_offload", "cpu_offload_param"])
def test_old_names_of_offloading_are_no_blanks(key: str) -> None:
    found = read({"deepspeed": {"zero_optimization": {"stage": 3, key: True}}}, gpus=2).sharding
    assert (found.offload_optimizer, found.offload_parameters) == (
        key == "cpu_offload",
        key == "cpu_offload_param",
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fsdp_config": 3}, "fsdp_config is 3"),
        ({"fsdp_config": [1]}, "fsdp_config is [1]"),
        ({"fsdp_config": "full_shard"}, "fsdp_config is 'full_shard'"),
        ({"fsdp_version": [2], "fsdp_config": {}, "fsdp": ["x"]}, "fsdp_version is [2]"),
        ({"fsdp_version": 2, "fsdp_config": {"offload_params": "x"}}, "offload_params is 'x'"),
        (
            {"fsdp_version": 2, "fsdp_config": {"reshard_after_forward": []}},
            "reshard_after_forward is []",
        ),
    ],
)
def test_odd_fsdp_settings_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LauncherError) as caught:
        read(settings, gpus=2)
    assert said in caught.value.message


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["auto", "5e8", "3", "cpu", "none", "yes", "", "x"])
    | st.sampled_from([0, 1, 2, 3]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["device", "stage", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
ZERO = st.dictionaries(
    st.sampled_from(
        [
            "stage",
            "reduce_bucket_size",
            "allgather_bucket_size",
            "overlap_comm",
            "stage3_max_live_parameters",
            "stage3_prefetch_bucket_size",
            "sub_group_size",
            "offload_optimizer",
            "offload_param",
            "cpu_offload",
        ]
    ),
    ODD,
)
FSDP = st.dictionaries(
    st.sampled_from(
        ["fsdp_version", "version", "reshard_after_forward", "offload_params", "state_dict_type"]
    ),
    ODD,
)


@given(
    settings=st.fixed_dictionaries({"deepspeed": st.fixed_dictionaries({"zero_optimization": ODD})})
    | ZERO.map(lambda zero: {"deepspeed": {"zero_optimization": {"stage": 3, **zero}}})
    | ODD.map(lambda value: {"deepspeed": value})
    | st.fixed_dictionaries({"fsdp_config": FSDP | ODD, "fsdp_version": ODD | st.just(2)})
    | st.fixed_dictionaries({"fsdp_config": ODD, "fsdp": ODD})
)
def test_whatever_spreads_a_run_gives_a_job_or_an_error_of_ours(settings: dict[str, Any]) -> None:
    with contextlib.suppress(LauncherError):
        assert memory(read(settings, gpus=2)).allocated > 0
