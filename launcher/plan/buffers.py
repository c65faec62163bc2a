"""What sharding adds on one GPU: buckets, gathered parameters. Bytes."""

from __future__ import annotations

from launcher.plan import states
from launcher.plan.job import Job, Shard


def communication(job: Job) -> float:
    """Return the buffers that stand beside the states during forward and backward."""
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
            return _unsharded(job)


def _reduction(job: Job) -> float:
    """DeepSpeed's gradient buckets, two if communication overlaps (stage_1_and_2.py)."""
    bucket = min(job.sharding.reduce_bucket, job.trained) * job.compute_bytes
    return bucket * (2 if job.sharding.overlap else 1)


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


def _unsharded(job: Job) -> float:
    """Two blocks, one at work and one prefetched, and the root group: embedding, head and norm stay
    whole through the step (torch FSDP2: the root is not resharded after forward). The gradients of
    one block stand unsharded, too.
    """
    model = job.model
    block = _block_bytes(job)
    root = (model.parameters - model.layers * model.block_parameters) * job.compute_bytes
    gradient = model.block_parameters * job.compute_bytes if job.adapter is None else 0
    return 2 * block + root + gradient


def _block_bytes(job: Job) -> float:
    if job.adapter is None:
        return job.model.block_parameters * job.compute_bytes
    root = job.model.parameters - job.model.layers * job.model.block_parameters
    return (states.model_bytes(job) - root * job.weight_bytes) / job.model.layers
