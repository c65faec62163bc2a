"""Terms and phases: sums that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.hardware import GIB
from launcher.models import ModelFacts, find
from launcher.plan import activations, loss, states
from launcher.plan.job import (
    Adapter,
    Attention,
    Checkpointing,
    Job,
    Kernels,
    Loss,
    Method,
    Preference,
    Reference,
    Shard,
    Sharding,
)
from launcher.plan.memory import CONTEXT, CONTEXT_OF_SEVERAL, MARGIN, Verdict, memory
from launcher.plan.optimizers import find as optimizer

LLAMA = find("meta-llama/Llama-3.1-8B", {})
MISTRAL = find("mistralai/Mistral-7B-v0.1", {})
FUSED = optimizer("adamw_torch_fused")
FULL = Job(LLAMA, Method.FULL, 2048, 1, FUSED)


def lora(model: ModelFacts = LLAMA, *, rank: int = 16, dropout: float = 0.0, width: int = 4) -> Job:
    adapter = Adapter(rank, model.linears, dropout, width)
    return Job(model, Method.LORA, 2048, 1, FUSED, adapter=adapter)


QLORA = replace(lora(), method=Method.QLORA)


def test_bf16_adamw_holds_eight_bytes_a_parameter() -> None:
    count = LLAMA.parameters
    assert states.weights(FULL) == 2 * count
    assert states.gradients(FULL) == 2 * count
    assert states.optimizer(FULL) == 4 * count
    assert states.step(FULL) == 0
    assert states.step(replace(FULL, optimizer=optimizer("adamw_torch"))) == 2 * count


def test_mistral_with_foreach_adamw_peaks_where_it_was_measured() -> None:
    """67.46 GiB on one A100, whatever the batch: five times the weights."""
    job = Job(MISTRAL, Method.FULL, 4096, 4, optimizer("adamw_torch"))
    job = replace(job, checkpointing=Checkpointing.BLOCKS)
    found = memory(job)
    assert found.peak.name == "optimizer step"
    assert found.allocated / GIB == pytest.approx(67.46, rel=0.001)


def test_four_bits_shrink_linear_layers_alone() -> None:
    linear = LLAMA.linear_parameters
    rest = LLAMA.parameters - linear
    assert states.weights(QLORA) == linear * (0.5 + 1 / 64 + 4 / 16384) + 2 * rest
    single = replace(QLORA, double_quantization=False)
    assert states.weights(single) == linear * (0.5 + 4 / 64) + 2 * rest


def test_adapters_are_counted_exactly() -> None:
    assert lora(rank=32).trained == 83_886_080  # what PEFT prints for rank 32 on all layers
    assert states.adapters(lora(rank=32)) == 4 * 83_886_080


def test_what_a_block_keeps() -> None:
    h, f, q, kv, sums = 4096, 14336, 4096, 1024, 4 * 32
    assert activations.block(FULL) == 16 * h + 4 * q + 4 * kv + 8 * f + sums
    rank = 7 * 16 * 2
    assert activations.block(lora()) == 18 * h + 6 * q + 4 * kv + 8 * f + sums + rank
    assert activations.block(QLORA) == 12 * h + 4 * q + 4 * kv + 8 * f + sums + rank
    assert activations.block(lora(width=2)) == activations.block(QLORA)
    dropped = activations.block(lora(dropout=0.1)) - activations.block(lora())
    assert dropped == 5 * h + q + f  # a mask for each of seven layers


def test_fused_lora_kernels_keep_less() -> None:
    h, f, q, kv = 4096, 14336, 4096, 1024
    kernels = Kernels(lora_mlp=True, lora_qkv=True, lora_o=True)
    found = activations.block(replace(lora(), kernels=kernels))
    assert found == 12 * h + 4 * q + 4 * kv + 4 * f + 4 * 32 + 7 * 16 * 2


def test_checkpoints_are_the_inputs_of_blocks() -> None:
    job = replace(FULL, checkpointing=Checkpointing.BLOCKS)
    tail = activations.norm(FULL) + 2 * 4096
    assert activations.kept(job) == 32 * 2 * 4096 + tail
    assert activations.kept(FULL) == 32 * activations.block(FULL) + tail
    offloaded = replace(FULL, checkpointing=Checkpointing.OFFLOADED)
    assert activations.kept(offloaded) == tail


def test_a_pair_is_two_rows_of_fp32_logits() -> None:
    pair = replace(lora(), preference=Preference(Reference.ADAPTER_OFF))
    assert pair.tokens == 2 * lora().tokens == 4096
    assert loss.peak(lora()) == 12 * 2048 * LLAMA.vocabulary
    assert loss.peak(pair) == 16 * 4096 * LLAMA.vocabulary
    assert loss.peak(replace(pair, autocast=False)) == 6 * 4096 * LLAMA.vocabulary


@pytest.mark.parametrize("fused", [Loss.LIGER, Loss.CUT])
def test_fused_losses_need_no_logits(fused: Loss) -> None:
    job = replace(lora(), loss=fused, micro_batch=4)
    assert loss.peak(job) < loss.peak(replace(job, loss=Loss.LOGITS)) / 20
    trained = replace(FULL, loss=fused, micro_batch=4)
    assert loss.peak(trained) - loss.peak(job) == 2 * LLAMA.embedding_parameters


def test_the_reference_is_a_copy_only_without_an_adapter() -> None:
    copied = memory(replace(FULL, preference=Preference(Reference.COPY)))
    assert copied.peak.reference == 2 * LLAMA.parameters
    assert memory(replace(lora(), preference=Preference(Reference.ADAPTER_OFF))).peak.reference == 0


def test_sharding_divides_what_it_says() -> None:
    def on(shard: Shard, world: int = 4) -> Job:
        return replace(FULL, sharding=Sharding(world=world, shard=shard))

    count = LLAMA.parameters
    assert states.optimizer(on(Shard.ZERO1)) == 12 * count / 4
    assert states.gradients(on(Shard.ZERO1)) == 2 * count
    assert states.gradients(on(Shard.ZERO2)) == 2 * count / 4
    assert states.weights(on(Shard.ZERO2)) == 2 * count
    assert states.weights(on(Shard.ZERO3)) == 2 * count / 4
    assert states.optimizer(on(Shard.FSDP)) == 4 * count / 4
    sizes = [memory(on(shard)).allocated for shard in (Shard.ZERO1, Shard.ZERO2, Shard.ZERO3)]
    assert sizes == sorted(sizes, reverse=True)
    assert memory(on(Shard.ZERO3, 8)).allocated < memory(on(Shard.ZERO3)).allocated
    assert memory(on(Shard.NONE)).peak.buffers == 2 * count  # DDP's copy of the gradients


def test_offloading_leaves_nothing_on_the_gpu() -> None:
    away = Sharding(4, Shard.ZERO3, offload_optimizer=True, offload_parameters=True)
    job = replace(FULL, sharding=away)
    assert states.weights(job) == states.optimizer(job) == states.step(job) == 0


def test_terms_add_up_to_the_peak() -> None:
    for job in (FULL, lora(), QLORA, replace(FULL, accumulation=4)):
        found = memory(job)
        assert sum(found.peak.terms.values()) == found.allocated
        assert found.allocated == max(phase.allocated for phase in found.phases)
        assert [phase.name for phase in found.phases] == [
            "loss",
            "backward",
            "last block",
            "optimizer step",
        ]


def test_gradients_stand_during_the_loss_only_when_they_accumulate() -> None:
    once, often = memory(FULL).phases[0], memory(replace(FULL, accumulation=2)).phases[0]
    assert once.gradients == 0
    assert often.gradients == 2 * LLAMA.parameters


@pytest.mark.parametrize(
    "knob",
    [
        {"checkpointing": Checkpointing.BLOCKS},
        {"loss": Loss.CUT},
        {"optimizer": optimizer("adamw_8bit")},
        {"kernels": Kernels(rms_norm=True, swiglu=True)},
        {"sequence_len": 1024},
    ],
    ids=lambda knob: next(iter(knob)),
)
def test_every_knob_lowers_the_peak(knob: dict[str, object]) -> None:
    job = replace(FULL, micro_batch=4)
    assert memory(replace(job, **knob)).allocated < memory(job).allocated  # type: ignore[arg-type]


@pytest.mark.parametrize("attention", [Attention.MASKED, Attention.EAGER])
def test_other_attention_keeps_more(attention: Attention) -> None:
    job = replace(FULL, attention=attention)
    assert activations.block(job) > activations.block(FULL)
    longer = replace(job, sequence_len=8192)
    assert activations.block(longer) > activations.block(job)  # it grows with the square


def test_the_verdict_has_a_margin() -> None:
    found = memory(lora())
    assert found.needed == MARGIN * found.allocated + CONTEXT
    assert found.verdict(found.needed) is Verdict.OK
    assert found.verdict(found.needed - 1) is Verdict.TIGHT
    assert found.verdict(found.allocated + CONTEXT - 1) is Verdict.NO
    several = memory(replace(lora(), sharding=Sharding(world=2)))
    assert several.context == CONTEXT_OF_SEVERAL
