"""What one micro step computes, in FLOPs, moves through GPU memory, in bytes, and launches.

FLOPs count a multiplication and an addition as two. Bytes are those of the kernels between the
matrix products: each reads its inputs from memory and writes its output there, so they are counted
kernel by kernel in the code that runs (transformers 5.16 models, PEFT 0.20's lora/layer.py, Liger's
and axolotl's kernels), and so are the launches. Nothing here is fitted; `launcher.plan.speed` turns
it into time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from launcher.models import Linear
from launcher.plan import activations
from launcher.plan.job import Attention, Job, Loss, Method, Reference

# Bytes read and written for each element of a bf16 tensor, forward and backward.
# LlamaRMSNorm: to fp32, square, mean, scale, back to bf16, times the weight. LayerNorm: one kernel.
NORM, NORM_FUSED, LAYER_NORM = (36, 60), (4, 8), (6, 12)
RESIDUAL = (6, 6)  # x + y; the sum of two gradients
# apply_rotary_pos_emb: two products, the rotated half (negate, concatenate), their sum.
ROPE, ROPE_FUSED = (20, 24), (4, 4)
GLU, GLU_FUSED, GELU = (10, 18), (6, 10), (4, 6)  # silu(gate) * up; torch's gelu
# PEFT's x + scale * B(A(dropout(x))), per element of a layer's input and of its output. A reads the
# input; backward, its gradient is written and added. B writes the output; scaled, added.
LORA_IN, LORA_OUT, LORA_FUSED = (2, 10), (12, 8), (4, 4)  # axolotl's kernels add in place
LORA_CAST = (12, 12)  # bf16 to fp32 and, under autocast, back
LORA_DROPOUT = (5, 5)  # in, out and the mask
# Eager attention: scores, mask, fp32 softmax and its copy, for each pair of positions and head.
SCORES = (20, 24)
# Logits, per token and entry of the vocabulary, forward and backward together. transformers 5: bf16
# out of the product, to fp32, log-softmax, and back through each; TRL's DPO adds the logsumexp of
# each row and gather's scattered gradient. Liger reads them, and puts the gradient in their place.
LOGITS, LOGITS_PREFERENCE, LOGITS_FUSED = 40, 60, 12
# The pass before a quantized weight can be multiplied: half a byte and its scale in, bf16 out.
DEQUANTIZE = {Method.QLORA: 2.52, Method.LORA8: 3.0}
# FlashAttention-2 does 5 products backward for 2 forward (arXiv 2307.08691, section 4.1).
ATTENTION_BACK = 2.5
# Kernels of one block, forward: without and with Liger; per adapter; per quantized layer.
KERNELS, KERNELS_FUSED, KERNELS_ADAPTER, KERNELS_QUANTIZED = 41, 24, 6, 5
# Autograd launches about as many again for the inputs, and half as many for weights and sums.
KERNELS_BACK = 1.5

Bytes = tuple[int, int]


@dataclass(frozen=True)
class Code:
    """How code differs from the pinned stack: bytes moved to dequantize a weight, bytes per logit,
    ``rope`` fused or not (None: as the norm is). ``compiled``: torch.compile fuses what it can.
    """

    dequantize: float | None = None
    logit: float | None = None
    rope: bool | None = None
    compiled: bool = False


PINNED = Code()


@dataclass(frozen=True)
class Flops:
    """FLOPs of one micro step on one GPU, by term."""

    forward: float
    backward: float
    recomputed: float
    attention: float
    head: float
    reference: float = 0.0  # its forward pass, attention and head included
    adapters: float = 0.0

    @property
    def matrix(self) -> float:
        """All but attention between positions."""
        return self.total - self.attention

    @property
    def total(self) -> float:
        """The sum."""
        return float(sum(vars(self).values()))


def flops(job: Job, *, sample: float | None = None) -> Flops:
    """Return the FLOPs of a micro step. ``sample``: mean tokens of a sample, where several are
    packed into a row and do not see each other.

    A linear layer takes 2 FLOPs a weight and token forward, 2 for the gradient of its input and 2
    for that of its weights, which frozen ones do not get; checkpointing runs the blocks, not the
    head, once more.
    """
    once = 2.0 * job.model.linear_parameters * job.tokens
    head = 2.0 * job.model.embedding_parameters * job.tokens
    attention = _attention(job, sample)
    again, full = activations.checkpointed(job), job.adapter is None
    return Flops(
        forward=once,
        backward=once * (2 if full else 1),
        recomputed=once * again,
        attention=attention * (1 + ATTENTION_BACK + again),
        head=head * (2 + full + (job.loss is Loss.CUT)),  # cut cross entropy makes logits twice
        reference=forward_flops(job, sample=sample) if asks_reference(job) else 0.0,
        adapters=0.0 if full else 2.0 * job.trained * job.tokens * (3 + again),
    )


def forward_flops(job: Job, *, sample: float | None = None) -> float:
    """Return the FLOPs of a forward pass alone over a micro batch: a reference's, an evaluation's,
    that of precomputed log-probabilities.
    """
    weights = job.model.linear_parameters + job.model.embedding_parameters
    return 2.0 * job.tokens * weights + _attention(job, sample)


def asks_reference(job: Job) -> bool:
    """Whether each step runs a reference model, too."""
    found = job.preference
    return found is not None and not found.precomputed and found.reference is not Reference.NONE


def passes(job: Job) -> int:
    """Return how often a micro step runs the blocks forward."""
    return 1 + activations.checkpointed(job) + asks_reference(job)


def _attention(job: Job, sample: float | None) -> float:
    """Return the FLOPs of attention forward: two products over the positions that each one sees;
    only FlashAttention leaves out the half that the causal mask hides.
    """
    if job.attention is Attention.FLASH:
        seen = (sample if sample and job.packed else job.sequence_len) / 2
    else:
        seen = _width(job)
    return 4.0 * seen * job.model.query * job.model.layers * job.tokens


def _width(job: Job) -> int:
    """Keys that a row of the scores spans: packed samples lie in one long row."""
    return job.tokens if job.packed else job.sequence_len


def traffic(job: Job, code: Code = PINNED) -> float:
    """Return the bytes that a micro step moves through GPU memory outside matrix products, and in
    reading the weights.
    """
    parts = list(_block(job, code))
    forward = sum(elements * each[0] for elements, each in parts)
    backward = sum(elements * each[1] for elements, each in parts)
    blocks = job.model.layers * (forward * passes(job) + backward)
    return job.tokens * (blocks + _logits(job, code)) + _weights(job, code)


def operands(job: Job) -> float:
    """Return the bytes that the matrix products of a micro step read and write beside weights."""
    model = job.model
    once = model.layers * sum(2.0 * (linear.inputs + linear.outputs) for linear in model.linears)
    return job.tokens * once * (passes(job) + (2 if job.adapter is None else 1))


def _block(job: Job, code: Code) -> Iterator[tuple[float, Bytes]]:
    """Yield for each kind of kernel in a block the elements per token and the bytes of each."""
    model, kernels = job.model, job.kernels
    fused = kernels.rms_norm or code.compiled
    norm = LAYER_NORM if model.layer_norm else NORM_FUSED if fused else NORM
    glu = GLU_FUSED if kernels.swiglu or kernels.lora_mlp or code.compiled else GLU
    rotated = model.query + model.key_value
    yield 2 * model.hidden, norm
    yield 2 * model.hidden, RESIDUAL
    yield model.intermediate, glu if model.gated else GELU
    if not model.learned_positions:
        yield rotated, ROPE_FUSED if (fused if code.rope is None else code.rope) else ROPE
    if model.qk_norm:
        yield rotated, norm
    if job.attention is Attention.EAGER:
        yield model.heads * _width(job), SCORES
    if job.adapter is not None:
        for linear in job.adapter.targets:
            yield from _adapter(job, linear, code.compiled or fused_adapter(job, linear))


def fused_adapter(job: Job, linear: Linear) -> bool:
    """Whether axolotl's own kernel runs the adapter of this layer."""
    if linear.part == "mlp":
        return job.kernels.lora_mlp
    last = [each.name for each in job.model.linears if each.part == "attention"][-1]
    return job.kernels.lora_o if linear.name == last else job.kernels.lora_qkv


def _adapter(job: Job, linear: Linear, fused: bool) -> Iterator[tuple[float, Bytes]]:
    yield linear.outputs, LORA_FUSED if fused else LORA_OUT
    yield linear.inputs, LORA_FUSED if fused else LORA_IN
    if activations.casts(job) and not fused:
        yield linear.inputs, LORA_CAST
    if job.adapter and job.adapter.dropout:
        yield linear.inputs, LORA_DROPOUT


def _logits(job: Job, code: Code) -> float:
    """Return the bytes per token that the loss moves; cut cross entropy keeps them on the chip."""
    if job.loss is Loss.CUT:
        return 0.0
    each: float = LOGITS if job.preference is None else LOGITS_PREFERENCE
    if job.loss is Loss.LIGER or code.compiled:
        each = LOGITS_FUSED
    return job.model.vocabulary * (each if code.logit is None else code.logit)


def _weights(job: Job, code: Code) -> float:
    """Return the bytes of reading the weights for each pass, of making them ready, and of writing
    gradients, which accumulation reads and adds to.
    """
    model, runs = job.model, passes(job) + 1
    moved = runs * 2.0 * (model.linear_parameters + model.embedding_parameters)
    if job.method in DEQUANTIZE:
        each = DEQUANTIZE[job.method] if code.dequantize is None else code.dequantize
        moved += runs * each * model.linear_parameters
    elif job.weight_bytes > job.compute_bytes:  # autocast copies each weight
        moved += runs * (job.weight_bytes + job.compute_bytes) * model.linear_parameters
    added = 3 if job.accumulation > 1 else 1
    return moved + added * job.trained * job.trained_bytes


def launches(job: Job, code: Code = PINNED) -> float:
    """Return the kernels that a micro step launches from the host."""
    block: float = KERNELS_FUSED if job.kernels.rms_norm or code.compiled else KERNELS
    if job.adapter is not None:
        for linear in job.adapter.targets:
            fused = code.compiled or fused_adapter(job, linear)
            block += KERNELS_ADAPTER * (0.5 if fused else 1)
    if job.method in DEQUANTIZE:
        block += len(job.model.linears) * KERNELS_QUANTIZED
    return job.model.layers * block * (passes(job) + KERNELS_BACK)
