"""How long a step takes, what bounds it, and how far that may be off.

A micro step keeps four things busy at once: the GPU's arithmetic and memory, which take turns; the
host, which launches kernels; the links. The slowest decides, the others add a little where they
do not overlap. `launcher.plan.work` and `launcher.plan.links` count what has to be done; the few
constants here say how fast it goes. They were found on tests/data/throughput-measured.tsv, all of
them on all its rows together; tests/benchmarks/throughput_accuracy.py prints how far off they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.hardware import Gpu
from launcher.plan import links, work
from launcher.plan.job import Job, Shard
from launcher.plan.links import Cluster
from launcher.plan.work import PINNED, Flops, Stack

# Share of the data sheet's speed that large bf16 matrix products reach. Fitted: on 174 rows of the
# A100, on 8 of the H100. Ada's workstation and data-center cards have a power limit far below what
# their data sheet's speed needs: assumed.
PRODUCTS = {(8, 0): 0.77, (9, 0): 0.61}
PRODUCTS_CAPPED, CAPPED = 0.5, ("l4-24gb", "l40s-48gb", "rtx6000-ada-48gb")
PRODUCTS_OTHER = 0.7  # assumed: between the two
ATTENTION = 0.55  # FlashAttention-2's share of that. Fitted
MEMORY = 0.85  # share of the memory bandwidth that plain copies reach: not fitted
OPERANDS = 0.4  # share of the products' own reads and writes that computing does not hide. Fitted
LAUNCH = 20e-6  # seconds of the host for a kernel, Python and autograd included. Fitted
# DeepSpeed ZeRO-3 runs hooks around each module, this long for one in one pass. Fitted.
HOOK, MODULES = 250e-6, 12  # and as many modules has a block
# p of the norm that joins what overlaps: 1 would add, infinity takes the largest.
OVERLAP = 3.0
EXPOSED = 0.3  # share of the communication that nothing hides. Fitted
STRAGGLERS = 0.02  # several GPUs wait for the slowest. Fitted
# Memory traffic of an optimizer step, per byte of what is trained: read weight, gradient and two
# moments, write three; clipping reads and scales gradients; foreach code goes over copies.
STEP, STEP_COPY = 10, 10
STEP_DEEPSPEED = 40  # bytes a parameter: fp32 master weight and moments, bf16 gradient and weight
STEP_BLOCKWISE = 12  # bytes a parameter: 8-bit moments, bf16 gradient and weight


@dataclass(frozen=True)
class Band:
    """Time over its forecast: in nine of ten measured runs of this kind between ``low`` and
    ``high``. ``kind`` says which; ``runs`` how many, 0 where the band is assumed.
    """

    kind: str
    low: float
    high: float
    runs: int


# tests/plan/test_throughput.py holds those with runs against the runs. All short ones come from one
# source, on one kind of host, so theirs is wider than what was seen (0.81 to 1.11).
LARGE = Band("A100, 4096 tokens or more in a micro step", 0.90, 1.30, 144)
SHORT = Band("A100, less than 4096 tokens in a micro step", 0.75, 1.50, 30)
HOPPER = Band("H100 or H200 within a node", 0.75, 1.40, 6)
PREFERENCE = Band("DPO: nothing published to compare with", 0.75, 1.60, 0)
OTHER = Band("another GPU, PCIe, offloading or several nodes", 0.60, 2.00, 0)


@dataclass(frozen=True)
class Times:
    """Seconds of one micro step if each part were alone; ``optimizer`` of one optimizer step."""

    products: float
    attention: float
    memory: float
    launches: float
    links: float
    host: float  # over PCIe
    boundary: float  # communication once an optimizer step
    optimizer: float

    @property
    def gpu(self) -> float:
        """The GPU's own: its kernels run one after the other."""
        return self.products + self.attention + self.memory

    @property
    def bound(self) -> str:
        """What takes longest in a micro step."""
        beside = {
            "kernel launches": self.launches,
            "communication": self.links,
            "host memory": self.host,
        }
        longest = max(beside, key=beside.__getitem__)
        if beside[longest] > self.gpu:
            return longest
        computing = self.products + self.attention
        return "compute" if computing >= self.memory else "memory bandwidth"


@dataclass(frozen=True)
class Speed:
    """The forecast. ``micro`` and ``step`` in seconds; a step is ``accumulation`` micro steps, what
    is sent after them, and the optimizer. ``tokens`` of a micro step on one GPU, with padding.
    """

    tokens: int
    accumulation: int
    flops: Flops
    times: Times
    micro: float
    step: float
    forward: float  # seconds of a forward pass alone: evaluation, precomputed log-probabilities
    band: Band
    peak: float  # FLOP/s of the data sheet

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second of each GPU; under DPO chosen and rejected ones."""
        return self.accumulation * self.tokens / self.step

    @property
    def utilisation(self) -> float:
        """Hardware FLOPs utilisation: recomputation counts as work."""
        return self.accumulation * self.flops.total / (self.step * self.peak)

    @property
    def bound(self) -> str:
        """What bounds the step."""
        after = self.times.optimizer + self.times.boundary
        return self.times.bound if self.micro * self.accumulation >= after else "optimizer step"


def speed(
    job: Job,
    gpu: Gpu,
    *,
    cluster: Cluster | None = None,
    code: Stack = PINNED,
    sample: float | None = None,
) -> Speed:
    """Return how fast ``job`` runs on GPUs of one kind. ``sample``: mean tokens of a sample in
    packed rows, which shortens attention; without it a row is taken as one sample.
    """
    place = cluster or Cluster()
    flops = work.flops(job, sample=sample)
    times = _times(job, gpu, place, flops, code)
    waiting = 1 + (STRAGGLERS if job.sharding.world > 1 else 0.0)
    micro = waiting * (_overlap(times) + EXPOSED * (times.links + times.host))
    return Speed(
        tokens=job.tokens,
        accumulation=job.accumulation,
        flops=flops,
        times=times,
        micro=micro,
        step=job.accumulation * micro + waiting * times.boundary + times.optimizer,
        forward=micro * work.forward_flops(job, sample=sample) / flops.total,
        band=band(job, gpu, place),
        peak=gpu.tflops * 1e12,
    )


def products(gpu: Gpu) -> float:
    """Return the share of its data sheet's speed that a GPU reaches in large matrix products."""
    if gpu.name in CAPPED:
        return PRODUCTS_CAPPED
    return PRODUCTS.get(gpu.capability, PRODUCTS_OTHER)


def _overlap(times: Times) -> float:
    parts = (times.gpu, times.launches, times.links, times.host)
    return float(sum(part**OVERLAP for part in parts) ** (1 / OVERLAP))


def _times(job: Job, gpu: Gpu, cluster: Cluster, flops: Flops, code: Stack) -> Times:
    rate = products(gpu) * gpu.tflops * 1e12
    memory = gpu.bandwidth * 1e9 * MEMORY
    link = links.speed_of_link(gpu, job.sharding.world, cluster)
    return Times(
        products=flops.matrix / rate,
        attention=flops.attention / (rate * ATTENTION),
        memory=(work.traffic(job, code) + OPERANDS * work.operands(job)) / memory,
        launches=work.launches(job, code) * LAUNCH + _hooks(job),
        links=links.micro(job) / link,
        host=links.host(job) / (gpu.pcie * 1e9 * links.PCIE),
        boundary=links.boundary(job) / link,
        optimizer=_optimizer(job, gpu, cluster, memory),
    )


def _hooks(job: Job) -> float:
    if job.sharding.shard is not Shard.ZERO3:
        return 0.0
    return job.model.layers * MODULES * HOOK * (work.passes(job) + 1)


def _optimizer(job: Job, gpu: Gpu, cluster: Cluster, memory: float) -> float:
    """Return the seconds of an optimizer step; its states are read and written once."""
    if job.sharding.offload_optimizer:
        return links.host_optimizer(job, gpu, cluster)
    each: float = (STEP + STEP_COPY * job.optimizer.copies) * job.trained_bytes
    if job.sharding.deepspeed:
        each = STEP_DEEPSPEED
    elif job.optimizer.bytes:
        each = STEP_BLOCKWISE
    return each * job.trained / (job.sharding.state_parts * memory)


def band(job: Job, gpu: Gpu, cluster: Cluster) -> Band:
    """Return how far a forecast for such a run may be off."""
    world = job.sharding.world
    by_link = world > 1 and (gpu.nvlink is None or not cluster.bridged)
    if by_link or cluster.nodes(world) > 1 or links.host(job) or gpu.capability not in PRODUCTS:
        return OTHER
    if job.preference is not None:
        return PREFERENCE
    if gpu.capability == (9, 0):
        return HOPPER
    return LARGE if job.tokens >= 4096 else SHORT
