"""Speed: FLOPs by term, what bounds a step, and which way each setting moves it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher import hardware
from launcher.hardware import Gpu
from launcher.models import ModelFacts
from launcher.plan import links, speed, work
from launcher.plan.job import (
    Adapter,
    Attention,
    Checkpointing,
    Job,
    Kernels,
    Loss,
    Method,
    Optimizer,
    Preference,
    Reference,
    Shard,
    Sharding,
)
from launcher.plan.links import Cluster

LLAMA = ModelFacts("llama-8b", "llama", 32, 4096, 14336, 32, 8, 128, 128256, 131072)
SMALL = ModelFacts("small", "qwen2", 24, 896, 4864, 14, 2, 64, 151936, 32768, tied=True)
A100 = hardware.find("a100-80gb")
ADAMW = Optimizer("adamw_torch_fused", moments=2)
FULL = Job(LLAMA, Method.FULL, 4096, 4, ADAMW, checkpointing=Checkpointing.BLOCKS, packed=True)
LORA = replace(FULL, method=Method.LORA, adapter=Adapter(16, LLAMA.linears, 0.0, 4))
LORA16 = replace(LORA, adapter=Adapter(16, LLAMA.linears, 0.0, 2))
FUSED = Kernels(lora_mlp=True, lora_qkv=True, lora_o=True)
DROPOUT = Adapter(16, LLAMA.linears, 0.1, 4)
UNFUSED = Optimizer("adamw_torch", moments=2, copies=1)
DPO = replace(LORA, packed=False, preference=Preference(Reference.ADAPTER_OFF))


def rate(job: Job, gpu: Gpu = A100, cluster: Cluster | None = None) -> float:
    return speed.speed(job, gpu, cluster=cluster).tokens_per_second


def spread(job: Job, shard: Shard, world: int = 8, **more: bool) -> Job:
    return replace(job, sharding=Sharding(world=world, shard=shard, **more))


def test_flops_of_a_full_fine_tune_are_eight_a_weight() -> None:
    """2 forward, 4 backward, 2 again; the head is not computed again."""
    found = work.flops(FULL)
    linear, head = LLAMA.linear_parameters, LLAMA.embedding_parameters
    assert found.matrix == FULL.tokens * (8 * linear + 6 * head)
    # causal: 2 S q per layer and token forward, 2.5 times as much backward, once more
    assert found.attention == 4.5 * FULL.tokens * 2 * 4096 * 4096 * 32
    assert found.total == found.matrix + found.attention


def test_flops_of_an_adapter_leave_out_the_gradient_of_weights() -> None:
    found = work.flops(LORA)
    linear, head = LLAMA.linear_parameters, LLAMA.embedding_parameters
    assert found.matrix - found.adapters == FULL.tokens * (6 * linear + 4 * head)
    assert found.adapters == 8 * LORA.trained * LORA.tokens


def test_a_reference_costs_a_forward_pass_unless_precomputed() -> None:
    asked = work.flops(DPO)
    assert asked.reference == work.forward_flops(DPO) > 0
    before = replace(DPO, preference=Preference(Reference.ADAPTER_OFF, precomputed=True))
    gone = replace(DPO, preference=Preference(Reference.NONE))
    assert work.flops(before).reference == work.flops(gone).reference == 0
    assert 1.15 < rate(before) / rate(DPO) < 1.35  # one of five forward passes' worth


def test_cut_cross_entropy_makes_logits_twice() -> None:
    cut = replace(FULL, loss=Loss.CUT)
    assert work.flops(cut).head / work.flops(FULL).head == pytest.approx(4 / 3)


def test_short_samples_in_a_packed_row_see_less() -> None:
    short = work.flops(FULL, sample=512)
    assert short.attention == work.flops(FULL).attention / 8
    alone = replace(FULL, packed=False)
    assert work.flops(alone, sample=512) == work.flops(alone)


def test_a_mask_takes_the_whole_square() -> None:
    masked = replace(FULL, packed=False, attention=Attention.MASKED)
    assert work.flops(masked).attention == 2 * work.flops(FULL).attention
    eager = replace(FULL, packed=False, attention=Attention.EAGER)
    assert rate(eager) < rate(masked) < rate(FULL)


@pytest.mark.parametrize(
    ("slow", "fast"),
    [
        pytest.param(FULL, replace(FULL, kernels=Kernels(True, True)), id="liger"),
        pytest.param(FULL, replace(FULL, checkpointing=Checkpointing.NONE), id="checkpointing"),
        pytest.param(FULL, replace(FULL, loss=Loss.LIGER), id="loss"),
        pytest.param(LORA, replace(LORA, kernels=FUSED), id="lora kernels"),
        pytest.param(replace(LORA16, method=Method.QLORA), LORA16, id="dequantizing"),
        pytest.param(LORA, LORA16, id="casts"),
        pytest.param(replace(LORA, adapter=DROPOUT), LORA, id="dropout"),
        pytest.param(replace(FULL, optimizer=UNFUSED), FULL, id="optimizer"),
        pytest.param(FULL, replace(FULL, accumulation=8), id="accumulation"),
        pytest.param(replace(FULL, sequence_len=512, micro_batch=1), FULL, id="short"),
        pytest.param(replace(FULL, attention=Attention.MASKED), FULL, id="mask"),
    ],
)
def test_what_is_faster(slow: Job, fast: Job) -> None:
    assert rate(slow) < rate(fast)


def test_utilisation_of_a_large_run_is_what_an_a100_reaches() -> None:
    assert 0.55 < speed.speed(FULL, A100).utilisation < 0.70
    assert 0.30 < speed.speed(FULL, hardware.find("h100-80gb")).utilisation < 0.50


def test_sharding_more_costs_more_communication() -> None:
    one = speed.speed(FULL, A100).micro
    shards = (Shard.ZERO2, Shard.FSDP, Shard.ZERO3)
    two, fsdp, three = (speed.speed(spread(FULL, shard), A100).micro for shard in shards)
    assert one < two < fsdp < three
    sent = [links.micro(spread(FULL, shard)) for shard in (Shard.NONE, Shard.ZERO2, Shard.FSDP)]
    assert sent[0] == 0 < sent[1] < sent[2]
    # gathered twice, gradients scattered once, seven eighths of 2 bytes a weight each
    assert sent[2] == pytest.approx(3 * 2 * LLAMA.parameters * 7 / 8)


def test_links_decide_between_nodes_and_on_pcie() -> None:
    job = spread(FULL, Shard.ZERO3, 16)
    assert rate(job, cluster=Cluster(network=3)) < rate(job) < rate(spread(FULL, Shard.ZERO3, 8))
    slow = speed.speed(job, A100, cluster=Cluster(network=1))
    assert slow.bound == "communication"
    pcie = speed.speed(spread(FULL, Shard.ZERO3, 4), A100, cluster=Cluster(bridged=False))
    assert pcie.tokens_per_second < rate(spread(FULL, Shard.ZERO3, 4))
    assert Cluster().nodes(8) == 1
    assert Cluster().nodes(9) == 2


def test_accumulation_spares_communication_where_gradients_wait() -> None:
    plain = spread(replace(FULL, micro_batch=1, sequence_len=512), Shard.NONE)
    often, seldom = speed.speed(plain, A100), speed.speed(replace(plain, accumulation=8), A100)
    assert often.times.boundary == seldom.times.boundary > 0
    assert seldom.step < 8 * often.step


def test_offloading_is_slow_and_named() -> None:
    job = spread(replace(FULL, micro_batch=1), Shard.ZERO2, 2, offload_optimizer=True)
    found = speed.speed(job, A100)
    assert found.step > 1.3 * speed.speed(spread(job, Shard.ZERO2, 2), A100).step
    assert found.bound == "optimizer step"
    assert found.band is speed.OTHER
    adam = LLAMA.parameters * 0.25e-9  # both GPUs share the host: the same seconds for the whole
    assert found.times.optimizer == pytest.approx(adam + LLAMA.parameters / 2 * 2 / 16e9)


def test_what_bounds_a_step() -> None:
    assert speed.speed(FULL, A100).bound == "compute"
    tiny = replace(LORA, model=SMALL, adapter=Adapter(16, SMALL.linears, 0.0, 4))
    tiny = replace(tiny, sequence_len=128, micro_batch=1)
    assert speed.speed(tiny, A100).bound == "kernel launches"
    few = replace(LORA, method=Method.QLORA, sequence_len=256, micro_batch=1)
    assert speed.speed(few, hardware.find("l4-24gb")).bound == "memory bandwidth"


def test_the_band_is_that_of_the_kind_of_run() -> None:
    h100, l40s = hardware.find("h100-80gb"), hardware.find("l40s-48gb")
    short = replace(FULL, sequence_len=512, micro_batch=2)
    assert speed.speed(FULL, A100).band is speed.LARGE
    assert speed.speed(short, A100).band is speed.SHORT
    assert speed.speed(FULL, h100).band is speed.HOPPER
    assert speed.speed(DPO, A100).band is speed.PREFERENCE
    assert speed.speed(FULL, l40s).band is speed.OTHER
    assert speed.speed(spread(FULL, Shard.ZERO3, 16), A100).band is speed.OTHER


def test_a_step_is_its_micro_steps_and_the_rest() -> None:
    found = speed.speed(replace(FULL, accumulation=4), A100)
    assert found.step == pytest.approx(4 * found.micro + found.times.optimizer)
    assert found.tokens_per_second == pytest.approx(4 * FULL.tokens / found.step)
    assert 0.2 * found.micro < found.forward < 0.35 * found.micro


@pytest.mark.parametrize("gpu", hardware.GPUS, ids=lambda gpu: gpu.name)
def test_every_card_has_a_forecast(gpu: Gpu) -> None:
    found = speed.speed(FULL, gpu)
    assert 0.1 < found.utilisation < 0.8
    assert found.band.low < 1 < found.band.high
