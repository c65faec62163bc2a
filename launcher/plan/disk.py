"""What a run takes on the disk, and in the host's memory. Bytes.

Checked against what the installed stack writes, byte by byte but for headers, in
tests/plan/test_disk.py: transformers' safetensors, PEFT's adapters, torch's and bitsandbytes'
optimizer states, DeepSpeed's ZeRO checkpoints. Host memory is read off the code and not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.hardware import GIB
from launcher.plan import states
from launcher.plan.job import Job, Shard

MIB = 2**20
# Tokenizer, config, template, trainer state, random states: once with the model, once with each
# thing that is saved. Llama 3's and Qwen2.5's tokenizer.json are 9 and 7 MB.
SMALL = 16 * MIB
# A supervised row prepared by axolotl: input_ids (int32), labels (int64) and attention_mask (int8)
# for each token, position_ids (int64) for packing. A row of a preference set stays text: some four
# letters a token.
PREPARED, PREPARED_PACKED, PREPARED_TEXT = 13, 21, 5
# Host memory of one rank beside data: Python, torch, transformers, CUDA's host side. Assumed.
PROCESS = 4 * GIB
WORKER = 0.5 * GIB  # a dataloader's worker, mostly shared with its parent. Assumed
# DeepSpeed with its optimizer in host memory: fp32 weight, two moments, fp32 gradient, and 16-bit
# weights on their way back (zero/stage_1_and_2.py, stage3.py).
OFFLOADED = 4 + 8 + 4 + 2


@dataclass(frozen=True)
class Saving:
    """What is kept. ``limit``: save_total_limit, 4 in axolotl if nothing is said; ``checkpoints``:
    how many the run will write (None: more than the limit); ``best``: load_best_model_at_end, which
    keeps one more beside the newest; ``merged``: the adapter is merged into the model afterwards.
    """

    limit: int = 4
    checkpoints: int | None = None
    weights_only: bool = False  # save_only_model
    merged: bool = False
    best: bool = False

    @property
    def kept(self) -> int:
        """The checkpoints that stand between two saves."""
        return self._at_most(max(self.limit, 2 if self.best else 1))

    @property
    def peak(self) -> int:
        """The checkpoints that stand while one is written, the best and the newest whole one among
        them: on a disk without room for more, the launcher's plugin deletes the oldest before that
        (launcher/plugin/space.py). Axolotl alone needs one more than it keeps.
        """
        return self._at_most(max(self.limit, 3 if self.best else 2))

    def _at_most(self, count: int) -> int:
        return count if self.checkpoints is None else min(count, self.checkpoints)


@dataclass(frozen=True)
class Disk:
    """Bytes by term. ``checkpoint`` is one; ``checkpoints`` those that stand while one is being
    written, it included; ``kept`` those that stay.
    """

    model: float
    dataset: float
    prepared: float
    checkpoint: float
    checkpoints: float
    kept: float
    final: float  # the model or the adapter
    beside: float  # the base model that axolotl saves beside a DPO adapter
    merged: float

    @property
    def saving(self) -> float:
        """What stands while a checkpoint is being written."""
        return self._before + self.checkpoints

    @property
    def end(self) -> float:
        """What stands at the end."""
        return self._before + self.kept + self.final + self.beside + self.merged

    @property
    def needed(self) -> float:
        """The larger of the two."""
        return max(self.saving, self.end)

    @property
    def _before(self) -> float:
        return self.model + self.dataset + self.prepared


def disk(
    job: Job,
    saving: Saving,
    *,
    dataset: float = 0.0,
    tokens: float = 0.0,
    stored_bytes: int = 2,
) -> Disk:
    """Return what a run takes on the disk. ``dataset``: bytes of the files as downloaded, which
    datasets writes once more as Arrow; ``tokens`` in it; ``stored_bytes``: of one weight in the
    base model's own files.
    """
    one = checkpoint(job, weights_only=saving.weights_only)
    return Disk(
        model=job.model.parameters * stored_bytes + SMALL,
        dataset=2 * dataset,
        prepared=_prepared(job) * tokens,
        checkpoint=one,
        checkpoints=one * saving.peak,
        kept=one * saving.kept,
        final=trained_model(job) + SMALL,
        beside=_beside(job),
        merged=job.model.parameters * 2 + SMALL if saving.merged and job.adapter else 0.0,
    )


def _prepared(job: Job) -> int:
    if job.preference is not None:
        return PREPARED_TEXT
    return PREPARED_PACKED if job.packed else PREPARED


def trained_model(job: Job) -> float:
    """Return the bytes of what was trained, as it is saved: the model, or the adapter."""
    return float(job.trained * job.trained_bytes)


def checkpoint(job: Job, *, weights_only: bool = False) -> float:
    """Return the bytes of one checkpoint, of all ranks together.

    transformers saves the weights; torch.save the optimizer's states beside them. DeepSpeed saves
    fp32 weights and moments of each rank, under ZeRO-1 and 2 with one more copy of the weights
    (global_step*/mp_rank_00_model_states.pt), of an adapter without what is frozen.
    """
    weights = trained_model(job)
    if weights_only:
        return weights + SMALL
    if job.sharding.deepspeed:
        again = weights if job.sharding.shard is not Shard.ZERO3 else 0.0
        return weights + again + job.trained * states.DEEPSPEED_STATES + SMALL
    each = job.optimizer.moments * job.trained_bytes + job.optimizer.bytes
    # FSDP writes the weights in shards of its own, beside the adapter or model.
    again = weights if job.sharding.shard is Shard.FSDP else 0.0
    return weights + again + job.trained * each + SMALL


def _beside(job: Job) -> float:
    """Return the base model that axolotl saves into the output folder beside a DPO adapter: under
    ``rl`` the model that it holds is not PEFT's, yet has the adapter's layers inside
    (axolotl/train.py, save_trained_model). Sharded weights are saved another way.
    """
    spread = job.sharding.shard in (Shard.ZERO3, Shard.FSDP)
    if job.preference is None or job.adapter is None or spread:
        return 0.0
    return states.model_bytes(job) + trained_model(job)


@dataclass(frozen=True)
class HostMemory:
    """Bytes in the memory of one node, by term."""

    processes: float
    loading: float
    offloaded: float
    workers: float

    @property
    def needed(self) -> float:
        """What stands at once: the optimizer comes after the weights are on the GPU."""
        return self.processes + max(self.loading, self.offloaded) + self.workers


def host_memory(
    job: Job, *, per_node: int = 8, workers: int = 0, efficient: bool = True
) -> HostMemory:
    """Return what a run takes of a node's memory. ``workers``: dataloader workers of each rank;
    ``efficient``: FSDP's cpu_ram_efficient_loading, with which only the first rank reads weights.

    On one GPU, under DDP, ZeRO-1 and 2 and for quantized weights, files are mapped into memory and
    go to the GPU tensor by tensor: only the page cache fills. ZeRO-3 has every rank read all.
    """
    ranks = min(per_node, job.sharding.world)
    whole = float(job.model.parameters * job.weight_bytes)
    readers = {Shard.ZERO3: ranks, Shard.FSDP: 1 if efficient else ranks}
    share = ranks / job.sharding.world
    offloaded = 0.0
    if job.sharding.offload_optimizer:
        offloaded += OFFLOADED * job.trained * share
    if job.sharding.offload_parameters:
        offloaded += states.model_bytes(job) * share
    return HostMemory(
        processes=PROCESS * ranks,
        loading=whole * readers.get(job.sharding.shard, 0),
        offloaded=offloaded,
        workers=WORKER * workers * ranks,
    )
