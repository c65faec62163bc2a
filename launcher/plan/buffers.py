"""What sharding adds on one GPU: buckets, gathered parameters. Bytes."""

from __future__ import annotations

from launcher.plan import states
from launcher.plan.job import Job, Shard


def standing(job: Job) -> float:
    """Return the buffers that stand from the forward pass on, when the loss is computed."""
    spread = job.sharding
    if spread.world == 1 and not spread.deepspeed:
        return 0.0
    match spread.shard:
        case Shard.NONE:  # DDP's buckets are a second copy of the gradients (torch DDP,
            return states.gradients(job)  # gradient_as_bucket_view=False)
        case Shard.ZERO1 | Shard.ZERO2:
            return _reduction(job)
        case Shard.ZERO3:
            return _reduction(job) + _live(job)
        case Shard.FSDP:
            return _root(job)


def working(job: Job) -> float:
    """Return the buffers while a block goes backward: FSDP holds two whole blocks, one at work and
    one prefetched, and the whole gradient of one.
    """
    found = standing(job)
    if job.sharding.shard is not Shard.FSDP or job.sharding.world == 1:
        return found
    gradient = job.model.block_parameters * job.compute_bytes if job.adapter is None else 0
    return found + 2 * _block(job) + gradient


def _reduction(job: Job) -> float:
    """DeepSpeed's gradient buckets, two if communication overlaps: their full size, however little
    is trained (stage_1_and_2.py, setup_buckets; stage3.py).
    """
    return job.sharding.reduce_bucket * job.compute_bytes * (2 if job.sharding.overlap else 1)


def _live(job: Job) -> float:
    """Parameters that ZeRO-3 has gathered: the module at work, what it prefetched, and what it
    may keep for reuse (stage3_max_live_parameters).
    """
    model = job.model
    module = max(model.embedding_parameters, model.block_parameters)
    kept = min(job.sharding.live + job.sharding.prefetch, model.parameters)
    return max(kept, module) * _gathered(job)


def _gathered(job: Job) -> float:
    """Bytes of one gathered parameter, on average."""
    return states.model_bytes(job) / job.model.parameters if job.adapter else job.compute_bytes


def _root(job: Job) -> float:
    """FSDP's root group stays whole through the step: embedding, head and norm (neither FSDP2 nor
    FSDP1 shards the root again after forward).
    """
    rest = job.model.parameters - job.model.layers * job.model.block_parameters
    return rest * job.compute_bytes


def _block(job: Job) -> float:
    """Bytes of one whole block as it is gathered: in 16 bits, or still quantized."""
    if job.adapter is None:
        return job.model.block_parameters * job.compute_bytes
    root = job.model.parameters - job.model.layers * job.model.block_parameters
    return (states.model_bytes(job) - root * job.weight_bytes) / job.model.layers
