"""Peak memory of a training step on one GPU: by phase, and in each phase by term. Bytes.

A step has four moments that can be its peak: the backward pass of the loss, when all activations
stand; the block that goes backward first; the one that goes last, when all gradients stand; the
optimizer step. The largest is the peak that torch.cuda.max_memory_allocated shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from launcher.hardware import GIB
from launcher.plan import activations, buffers, loss, states
from launcher.plan.job import Job, Method

# Outside torch's allocator: the CUDA context with its kernels, NCCL, and what the cache never gives
# back. The least that nvidia-smi showed above the allocated peak: 0.92 GiB in 47 runs on one A100,
# 3.76 in 45 runs on two (fms-acceleration, in tests/data/vram-measured.tsv).
CONTEXT = 0.92 * GIB
CONTEXT_OF_SEVERAL = 3.76 * GIB
# A card is enough if it holds this much more than is allocated: fragmentation. Chosen on the runs
# that ran out of memory: 1.10 calls three of 56 enough, 1.12 one (`make plan-accuracy`).
MARGIN = 1.12


class Verdict(Enum):
    """Whether a card is enough."""

    OK = "OK"
    TIGHT = "TIGHT"  # only without a margin
    NO = "NO"


@dataclass(frozen=True)
class Phase:
    """A moment of the step and what stands in memory then, by term, in bytes."""

    name: str
    weights: float = 0.0
    adapters: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    reference: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    buffers: float = 0.0

    @property
    def terms(self) -> dict[str, float]:
        """The terms by name, without those that are nothing."""
        return {key: value for key, value in vars(self).items() if key != "name" and value}

    @property
    def allocated(self) -> float:
        """The sum: what torch has allocated at this moment."""
        return sum(self.terms.values())


@dataclass(frozen=True)
class Memory:
    """The phases of a step on one GPU, and what stands outside torch's allocator."""

    phases: tuple[Phase, ...]
    context: float

    @property
    def peak(self) -> Phase:
        """The phase with the most."""
        return max(self.phases, key=lambda phase: phase.allocated)

    @property
    def allocated(self) -> float:
        """Peak allocated by torch."""
        return self.peak.allocated

    @property
    def needed(self) -> float:
        """What a card must have for a verdict of OK."""
        return MARGIN * self.allocated + self.context

    def verdict(self, card: float) -> Verdict:
        """Return whether a card of so many bytes is enough."""
        if self.needed <= card:
            return Verdict.OK
        return Verdict.TIGHT if self.allocated + self.context <= card else Verdict.NO


def memory(job: Job) -> Memory:
    """Return the memory of one step of ``job`` on one GPU, once the optimizer has its states."""
    held = _held(job)
    whole = states.gradients(job)
    accumulated = whole if job.accumulation > 1 else 0.0
    working = buffers.working(job)
    kept = activations.kept(job)
    lasting = kept - activations.norm(job)
    dequantized = _dequantized(job)
    return Memory(
        (
            held(
                "loss",
                gradients=accumulated,
                activations=kept * job.tokens,
                logits=loss.peak(job),
                buffers=buffers.standing(job),
            ),
            held(
                "backward",
                gradients=accumulated,
                activations=(lasting + activations.backward(job)) * job.tokens + dequantized,
                buffers=working,
            ),
            held(
                "last block",
                gradients=whole,
                activations=_last_block(job) + dequantized,
                buffers=working,
            ),
            held("optimizer step", gradients=whole + states.step(job)),
        ),
        CONTEXT if job.sharding.world == 1 else CONTEXT_OF_SEVERAL,
    )


def _held(job: Job) -> Callable[..., Phase]:
    def phase(name: str, **terms: float) -> Phase:
        return Phase(
            name,
            weights=states.weights(job),
            adapters=states.adapters(job),
            optimizer=states.optimizer(job),
            reference=states.reference(job),
            **terms,
        )

    return phase


def _last_block(job: Job) -> float:
    """Return the activations of the block that goes backward last; where embedding and head are one
    matrix, its second gradient comes after them.
    """
    block = activations.block(job) if not activations.checkpointed(job) else 0.0
    alone = (block + activations.backward(job)) * job.tokens
    if job.adapter is not None or not job.model.tied:
        return alone
    return max(alone, job.model.embedding_parameters * job.weight_bytes)


def _dequantized(job: Job) -> float:
    """Return the 16-bit copy of the largest quantized layer, made for one product."""
    if job.method not in (Method.QLORA, Method.LORA8):
        return 0.0
    return max(linear.weights for linear in job.model.linears) * job.compute_bytes
