"""What the GPUs send each other and the host in a step, in bytes and seconds.

Volumes are those of ring collectives: gathering or scattering B bytes over n GPUs sends B (n-1)/n
through each card's link, summing them on all sends it twice (Patarasuk and Yuan, 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.hardware import Gpu
from launcher.plan import states
from launcher.plan.job import Checkpointing, Job, Shard

# Share of a link's data-sheet speed that NCCL's large collectives reach: 230 of an A100's 300 GB/s
# and 360 of an H100's 450 in nccl-tests; over PCIe, through the host, about half.
NVLINK, PCIE = 0.75, 0.5
# GB/s that one GPU gets between nodes where nothing else is known: 200 Gb/s for each A100 and 400
# for each H100 of NVIDIA's DGX reference design. Rented machines often have less.
NETWORK, NETWORK_HOPPER = 25.0, 50.0
# DeepSpeed's CPU Adam: 0.22 s for a billion parameters, 2.57 s for ten on one machine, whose memory
# bounds it (ZeRO-Offload, arXiv 2101.06840, table 4).
CPU_ADAM = 0.25e-9  # seconds a parameter, on all GPUs of the node together


@dataclass(frozen=True)
class Cluster:
    """How the GPUs hang together: GPUs of a node; GB/s a GPU between nodes (None: as in NVIDIA's
    reference design); ``bridged`` cards have their NVLink in use.
    """

    per_node: int = 8
    network: float | None = None
    bridged: bool = True

    def nodes(self, world: int) -> int:
        """Return how many nodes so many GPUs take."""
        return -(-world // self.per_node)


def speed_of_link(gpu: Gpu, world: int, cluster: Cluster) -> float:
    """Return the bytes a second that a collective over ``world`` GPUs moves through one card: the
    slowest part of the ring decides.
    """
    nvlink = gpu.nvlink if cluster.bridged else None
    inside = nvlink * NVLINK if nvlink else gpu.pcie * PCIE
    if world <= cluster.per_node:
        return inside * 1e9
    default = NETWORK_HOPPER if gpu.capability >= (9, 0) else NETWORK
    return min(inside, cluster.network or default) * 1e9


def micro(job: Job) -> float:
    """Return the bytes that a card sends in every micro step: whole blocks gathered for each pass,
    gradients scattered.

    ZeRO-3 gathers again for a recomputation and then for the backward pass itself; FSDP2 once for
    both. ZeRO-2, ZeRO-3 and FSDP2 reduce gradients in every micro step.
    """
    world, shard = job.sharding.world, job.sharding.shard
    if world == 1 or shard in (Shard.NONE, Shard.ZERO1):
        return 0.0
    sent = float(job.trained * job.compute_bytes)  # gradients travel in the dtype of computation
    if shard is not Shard.ZERO2:
        whole = states.model_bytes(job) * job.compute_bytes / max(job.weight_bytes, 2)
        again = shard is Shard.ZERO3 and job.checkpointing is not Checkpointing.NONE
        sent += whole * (2 + again)
    return sent * (world - 1) / world


def boundary(job: Job) -> float:
    """Return the bytes that a card sends once an optimizer step: gradients summed under DDP and
    ZeRO-1, updated weights gathered under ZeRO-1 and 2.
    """
    world = job.sharding.world
    if world == 1:
        return 0.0
    weights = job.trained * job.trained_bytes
    sent = {Shard.NONE: 2.0, Shard.ZERO1: 2.0, Shard.ZERO2: 1.0}.get(job.sharding.shard, 0.0)
    return sent * weights * (world - 1) / world


def host(job: Job) -> float:
    """Return the bytes over PCIe in a micro step: checkpoints that wait in host memory, to and fro;
    weights that live there, for each pass; gradients on their way to an optimizer there.
    """
    moved, model = 0.0, job.model
    if job.checkpointing is Checkpointing.OFFLOADED:
        moved += 2.0 * job.compute_bytes * model.hidden * model.layers * job.tokens
    if job.sharding.offload_parameters:
        moved += 3 * states.model_bytes(job) / job.sharding.world
    if job.sharding.offload_optimizer:
        moved += job.trained * job.compute_bytes / job.sharding.gradient_parts
    return moved


def host_optimizer(job: Job, gpu: Gpu, cluster: Cluster) -> float:
    """Return the seconds of an optimizer step in host memory, and of its weights' way back."""
    mine = job.trained / job.sharding.state_parts
    sharers = min(job.sharding.world, cluster.per_node)
    return mine * (sharers * CPU_ADAM + job.compute_bytes / (gpu.pcie * PCIE * 1e9))
