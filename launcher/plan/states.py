"""What a GPU holds all through a step: weights, adapters, gradients, optimizer, reference. Bytes.

The sizes follow from the installed code: transformers loads in ``weight_bytes``, bitsandbytes packs
two 4-bit weights into a byte, torch.optim keeps its moments in the dtype of the parameter, and
DeepSpeed keeps an fp32 master copy beside two fp32 moments.
"""

from __future__ import annotations

from launcher.plan.job import Job, Method, Reference, Shard

# bitsandbytes NF4: blocks of 64 weights, each with an fp32 absmax; double quantization stores it in
# 8 bits, with an fp32 absmax for each 256 of them (functional.py, quantize_4bit).
NF4 = 0.5
ABSMAX = 4 / 64
ABSMAX_DOUBLE = 1 / 64 + 4 / (64 * 256)
# bitsandbytes LLM.int8(): a byte a weight; an fp32 scale a row is too small to count.
INT8 = 1.0
# DeepSpeed's ZeRO optimizers: fp32 master weight, momentum, variance (stage_1_and_2.py, stage3.py).
MASTER = 4
DEEPSPEED_STATES = MASTER + 4 + 4


def model_bytes(job: Job) -> float:
    """Return the bytes of one whole copy of the weights as loaded."""
    linear = job.model.linear_parameters
    rest = (job.model.parameters - linear) * job.weight_bytes
    if job.method is Method.QLORA:
        scale = ABSMAX_DOUBLE if job.double_quantization else ABSMAX
        return linear * (NF4 + scale) + rest
    if job.method is Method.LORA8:
        return linear * INT8 + rest
    return linear * job.weight_bytes + rest


def weights(job: Job) -> float:
    """Return the bytes of the model's own weights on one GPU."""
    if job.sharding.offload_parameters:
        return 0.0
    return model_bytes(job) / job.sharding.parameter_parts


def adapters(job: Job) -> float:
    """Return the bytes of the LoRA matrices on one GPU."""
    if job.adapter is None or job.sharding.offload_parameters:
        return 0.0
    return job.trained * job.trained_bytes / job.sharding.parameter_parts


def reference(job: Job) -> float:
    """Return the bytes of the frozen second model of a DPO run on one GPU. ZeRO-1 and 2 keep it
    whole; ZeRO-3 and FSDP divide it (trl/trainer/utils.py, prepare_deepspeed and prepare_fsdp).
    """
    if job.preference is None or job.preference.reference is not Reference.COPY:
        return 0.0
    return model_bytes(job) / job.sharding.parameter_parts


def gradients(job: Job) -> float:
    """Return the bytes of all gradients on one GPU, as they stand at the end of a backward pass."""
    return job.trained * job.trained_bytes / job.sharding.gradient_parts


def optimizer(job: Job) -> float:
    """Return the bytes of the optimizer's states on one GPU.

    Paged states live outside torch's allocator and move to the host when the GPU is full
    (bitsandbytes, get_paged): they count as nothing.
    """
    if job.sharding.offload_optimizer or job.optimizer.paged:
        return 0.0
    if job.sharding.deepspeed:
        each: float = DEEPSPEED_STATES
    else:
        each = job.optimizer.moments * job.trained_bytes + job.optimizer.bytes
    return job.trained * each / job.sharding.state_parts


def step(job: Job) -> float:
    """Return the transient bytes of the optimizer step on one GPU.

    torch's foreach code makes one copy of what it updates, the fused one none; DeepSpeed flattens
    its part of the gradients and casts it to fp32, ZeRO-3 a subgroup at a time.
    """
    own = job.trained / job.sharding.state_parts
    if job.sharding.offload_optimizer:
        return 0.0
    if job.sharding.shard is Shard.ZERO3:
        return MASTER * min(own, job.sharding.subgroup)
    if job.sharding.deepspeed:
        return (MASTER + job.compute_bytes) * own
    return job.optimizer.copies * job.trained_bytes * own
