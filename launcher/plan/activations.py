"""What the layers keep for the backward pass, and what is in flight beside it. Bytes per token.

Read off the code that runs (transformers 5.16 models, PEFT 0.20, axolotl 0.19's and Liger's
kernels) tensor by tensor; `launcher.plan.dry.peaks` runs that code on tensors without data, and
tests/plan/test_dryrun.py holds the two together.
"""

from __future__ import annotations

from launcher.plan.job import Attention, Checkpointing, Job, Method

FP32 = 4
MASK = 1  # a dropout mask is boolean


def kept(job: Job) -> float:
    """Return the bytes per token that all blocks keep until the backward pass, with the norm that
    follows them.
    """
    tail = norm(job) + (job.compute_bytes * job.model.hidden if job.adapter is None else 0)
    if job.attention is Attention.EAGER:  # one mask for all layers
        tail += job.compute_bytes * _mask_width(job)
    return job.model.layers * (checkpoint(job) if checkpointed(job) else block(job)) + tail


def checkpointed(job: Job) -> bool:
    """Whether blocks are computed again in the backward pass."""
    return job.checkpointing is not Checkpointing.NONE


def checkpoint(job: Job) -> float:
    """Return what a checkpointed block keeps: its input, unless that is in host memory."""
    if job.checkpointing is Checkpointing.OFFLOADED:
        return 0.0
    return job.compute_bytes * job.model.hidden


def backward(job: Job) -> float:
    """Return the bytes per token beside what is kept while one block goes backward: what was
    computed again, and gradients.
    """
    extra = in_flight(job)
    if checkpointed(job):
        extra += block(job) - (job.compute_bytes * job.model.hidden if _keeps_input(job) else 0)
    return extra


def block(job: Job) -> float:
    """Return what one block keeps without checkpointing."""
    inputs = _adapter_inputs(job) if job.adapter else _inputs(job)
    if job.method is Method.LORA8:  # LLM.int8() keeps what enters each layer, trained or not
        inputs = _inputs(job) + (_adapter_inputs(job) if job.adapter and job.adapter.dropout else 0)
    return 2 * norm(job) + _attention(job) + _mlp(job) + inputs


def norm(job: Job) -> float:
    """Return what a norm keeps: its input in fp32, and the normalized value in front of a trained
    weight. Liger keeps the input alone, LayerNorm too.
    """
    e, h = job.compute_bytes, job.model.hidden
    if job.kernels.rms_norm or (job.model.layer_norm and not job.autocast):
        return e * h
    trained = job.adapter is None and not job.model.layer_norm
    return FP32 * h + (e * h if trained else 0)


def _keeps_input(job: Job) -> bool:
    """Whether the first norm keeps the very tensor that is the checkpoint."""
    return job.compute_bytes == FP32 or job.kernels.rms_norm or norm(job) == _stream(job)


def _stream(job: Job) -> float:
    return job.compute_bytes * job.model.hidden


def _attention(job: Job) -> float:
    """Queries and keys after rotation, values, output; the log-sum-exp of each row and head."""
    e, model = job.compute_bytes, job.model
    q, kv = model.query, model.key_value
    if job.attention is Attention.FLASH:
        total = e * (2 * q + 2 * kv) + FP32 * model.heads
    elif job.attention is Attention.MASKED:  # keys and values repeated for all heads; the mask
        total = e * 4 * q + FP32 * model.heads + e * _mask_width(job)
    else:  # fp32 softmax and its copy for the product with the values
        total = e * 4 * q + (FP32 + e) * model.heads * _mask_width(job)
    if model.architecture == "phi3":  # values are a view that keeps the fused q, k, v alive
        total += e * (q + kv)
    if model.qk_norm:
        trained = job.adapter is None
        total += (FP32 + (e if trained else 0)) * (q + kv)
    return total


def _mask_width(job: Job) -> int:
    """Keys that a row of the mask or the scores spans: packed samples lie in one long row."""
    return job.tokens if job.packed else job.sequence_len


def _mlp(job: Job) -> float:
    """Return what the activation function keeps, without the product in front of down_proj."""
    e, f = job.compute_bytes, job.model.intermediate
    if job.kernels.lora_mlp or job.kernels.swiglu:
        return 2 * e * f  # gate and up
    if job.model.gated:
        return 3 * e * f  # gate, its SiLU, up
    return 4 * e * f  # gelu_new: input, half of it, tanh, 1 + tanh


def _inputs(job: Job) -> float:
    """Inputs of trained linear layers: both norms' outputs, the product; attention's output is
    kept already.
    """
    return job.compute_bytes * (2 * job.model.hidden + job.model.intermediate)


def casts(job: Job) -> bool:
    """Whether PEFT makes an fp32 copy of what enters each adapter; on a quantized layer under
    autocast it does not (peft/tuners/lora/layer.py, bnb.py).
    """
    adapter = job.adapter
    if adapter is None or adapter.bytes <= job.compute_bytes:
        return False
    return not (job.method in (Method.QLORA, Method.LORA8) and job.autocast)


def _adapter_inputs(job: Job) -> float:
    """Inputs of the adapters, and what A hands to B.

    A cast or a dropout gives each target a copy of its own; else q, k, v share the norm's output,
    gate and up the other, and o_proj's input is kept by attention.
    """
    assert job.adapter
    model, e = job.model, job.compute_bytes
    width = FP32 if casts(job) and not job.autocast else e
    total = float(len(job.adapter.targets) * job.adapter.rank * width)
    own = casts(job) or job.adapter.dropout > 0
    copy = width + (MASK if job.adapter.dropout else 0)
    names = {linear.name for linear in job.adapter.targets}
    for part, fused in (("qkv", job.kernels.lora_qkv), ("mlp", job.kernels.lora_mlp)):
        group = [linear for linear in job.adapter.targets if _group(job, linear.name) == part]
        if not group:
            continue
        if fused:  # the shared input, and one dropped-out copy
            total += model.hidden * (e + (copy if job.adapter.dropout else 0))
        elif own:
            total += copy * model.hidden * len(group)
        else:
            total += e * model.hidden
    if model.linears[-1].name in names and not job.kernels.lora_mlp:
        total += model.intermediate * (copy if own else e)
    if _output(job) in names and own and not (job.kernels.lora_o and not job.adapter.dropout):
        total += copy * model.query
    return total


def _group(job: Job, name: str) -> str:
    linears = job.model.linears
    mlp = [linear.name for linear in linears if linear.part == "mlp"][:-1]
    if name in mlp:
        return "mlp"
    return "other" if name in (_output(job), linears[-1].name) else "qkv"


def _output(job: Job) -> str:
    return [linear.name for linear in job.model.linears if linear.part == "attention"][-1]


def in_flight(job: Job) -> float:
    """Return the largest sum of gradients and temporaries inside one block's backward pass.

    The moments that compete: the product of gate and up; where the recomputation reaches the
    adapter of down_proj; with eager attention its scores, when the MLP's share is gone.
    """
    moments = [_product(job)]
    if checkpointed(job) and job.adapter and not job.kernels.lora_mlp:
        moments.append(_again(job))
    if job.attention is Attention.EAGER:
        scores = (FP32 + job.compute_bytes) * job.model.heads * _mask_width(job)
        moments.append(scores - _mlp(job))
    return max(moments)


def _product(job: Job) -> float:
    """Gradients of gate, up and their product, whose own kept copy is gone; axolotl's kernel puts
    the gradient of the product in its place.
    """
    e, h, f = job.compute_bytes, job.model.hidden, job.model.intermediate
    if job.kernels.lora_mlp:
        return 4 * e * h + e * f
    factors = 1 if job.kernels.swiglu else 3
    return e * h + e * f * (factors - (1 if _keeps_product(job) else 0))


def _again(job: Job) -> float:
    """Hidden states that Python still holds in the recomputation (the layer's input, the residual,
    the norm's output, the product with down_proj, the incoming gradient), and the fp32 copies of
    what enters the adapter of down_proj.
    """
    assert job.adapter
    e, f = job.compute_bytes, job.model.intermediate
    held = 5.0 * e * job.model.hidden
    if not _keeps_product(job) or not (casts(job) or job.adapter.dropout):
        return held
    copies = (2 if job.adapter.dropout else 1) if casts(job) else 0
    return held + e * f + FP32 * f * copies


def _keeps_product(job: Job) -> bool:
    """Whether the product in front of down_proj is kept, itself or as an adapter's copy."""
    if job.adapter is None or job.method is Method.LORA8:
        return True
    return job.model.linears[-1] in job.adapter.targets
