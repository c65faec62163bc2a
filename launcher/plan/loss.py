"""Logits and loss: the bytes at their peak, beside what the layers keep."""

from __future__ import annotations

from launcher.plan.job import Job, Loss

# Bytes per token and vocabulary entry at the peak, in the backward pass of the loss.
# transformers 5.16, ForCausalLMLoss: fp32 log-probabilities, their gradient, the logits' gradient.
SUPERVISED = 12
# TRL 1.9, selective_log_softmax on the fp32 logits of accelerate's wrapper: logits, the gradient
# that gather's backward scatters, the rows of logsumexp's gradient, and their stack.
PREFERENCE = 16
# The same without the wrapper (DeepSpeed): bf16 logits, log-probabilities row by row, gradients.
PREFERENCE_HALF = 6


def peak(job: Job) -> float:
    """Return the bytes that logits and loss take at their peak on one GPU."""
    match job.loss:
        case Loss.LOGITS:
            return job.tokens * job.model.vocabulary * _each(job)
        case Loss.LIGER:
            return _liger(job)
        case Loss.CUT:
            return _cut(job)


def _each(job: Job) -> float:
    if job.preference is None:
        return SUPERVISED
    half = job.compute_bytes == 2 and not job.autocast
    return PREFERENCE_HALF if half else PREFERENCE


def _head_gradient(job: Job) -> float:
    trained = job.adapter is None
    return job.model.embedding_parameters * job.weight_bytes if trained else 0.0


def _liger(job: Job) -> float:
    """Liger's fused linear cross entropy: logits of one chunk, the gradient of the hidden states,
    that of the head (liger_kernel/ops/fused_linear_cross_entropy.py).

    The chunks are as many as make one as large as the hidden states, its rows rounded up to a
    power of two.
    """
    model, e = job.model, job.compute_bytes
    share = -(-model.vocabulary // model.hidden)
    rows = min(job.tokens, 1 << (-(-job.tokens // share) - 1).bit_length())
    logits = rows * model.vocabulary * e
    return logits + job.tokens * model.hidden * e + _head_gradient(job)


def _cut(job: Job) -> float:
    """Cut cross entropy: the hidden states in front of the head, and their gradient
    (arXiv 2411.09009, table 1: memory of the loss is that of its gradients).
    """
    return 2 * job.compute_bytes * job.tokens * job.model.hidden + _head_gradient(job)
