"""One recipe on one machine: what it needs, how long it takes. All verbs that say so ask here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from launcher.diagnostics import LauncherError
from launcher.hardware import Gpu
from launcher.models import ModelFacts
from launcher.plan import reading
from launcher.plan.data.rows import Rows
from launcher.plan.disk import Disk, HostMemory, Saving, disk, host_memory
from launcher.plan.job import Job
from launcher.plan.length import Length, length
from launcher.plan.links import Cluster
from launcher.plan.memory import Memory, Verdict, memory
from launcher.plan.prices import Price, cost
from launcher.plan.speed import Speed, speed
from launcher.recipe import Recipe
from launcher.rules.batch import (
    accumulation_steps,
    micro_batch,
    nearest_batches,
    overridden,
    replicas,
    whole,
)
from launcher.rules.rule import number
from launcher.schema.validator import is_on


@dataclass(frozen=True)
class Hardware:
    """So many GPUs of one kind in each of so many nodes."""

    gpu: Gpu
    gpus: int = 1
    nodes: int = 1

    @property
    def world(self) -> int:
        """All GPUs."""
        return self.gpus * self.nodes

    def __str__(self) -> str:
        """Return "8 x a100-80gb", or "2 nodes of 8 x a100-80gb"."""
        each = f"{self.gpus} x {self.gpu.name}"
        return each if self.nodes == 1 else f"{self.nodes} nodes of {each}"


@dataclass(frozen=True)
class Range:
    """Hours or USD of a run, and what they may turn out to be."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What a recipe takes on a machine. ``speed`` is that of the rows as they are, padding of a
    batch included, ``memory`` that of the longest.
    """

    recipe: Recipe
    hardware: Hardware
    job: Job
    length: Length
    memory: Memory
    speed: Speed

    @property
    def verdict(self) -> Verdict:
        """Whether the cards are large enough."""
        return self.memory.verdict(self.hardware.gpu.memory_bytes)

    @property
    def free(self) -> float:
        """Bytes of a card that are left at the peak; below 0 it is too small."""
        return self.hardware.gpu.memory_bytes - self.memory.allocated - self.memory.context

    @property
    def seconds_a_sample(self) -> float:
        """Seconds of training for one row, or pair, over all GPUs: variants are compared by it."""
        return self.speed.step / self.length.samples_a_step

    @property
    def evaluation_seconds(self) -> float:
        """Seconds that all evaluations take: forward passes alone."""
        size = self.length
        batches = size.evaluations * size.evaluation_batches(self.hardware.world)
        return batches * self.speed.forward * size.evaluation_batch / self.job.micro_batch

    @property
    def disk(self) -> Disk:
        """What the run takes on the disk. The data as downloaded is not counted, and its tokens
        are those of an epoch, padding included.
        """
        value = self.recipe.value
        limit = whole(value.get("save_total_limit"))
        kept = Saving(
            limit=limit or Saving().limit,
            checkpoints=self.length.checkpoints,
            weights_only=is_on(value.get("save_only_model")),
            merged=self.job.adapter is not None,
            best=is_on(value.get("load_best_model_at_end")),
        )
        epochs = number(value.get("num_epochs")) or 1
        return disk(self.job, kept, tokens=(self.tokens or 0.0) / max(epochs, 1))

    @property
    def host(self) -> HostMemory:
        """What the run takes of each node's own memory."""
        workers = whole(self.recipe.value.get("dataloader_num_workers"))
        return host_memory(self.job, per_node=self.hardware.gpus, workers=workers)

    def cost(self, price: Price) -> Range | None:
        """Return the USD of the run at a price, start-up included; none without hours."""
        if self.hours is None:
            return None
        usd = (cost(hours, self.hardware.world, price) for hours in vars(self.hours).values())
        return Range(*usd)

    @property
    def hours(self) -> Range | None:
        """Hours of training and evaluation; none where the number of steps is not known."""
        if self.length.steps is None:
            return None
        likely = (self.length.steps * self.speed.step + self.evaluation_seconds) / 3600
        return Range(likely * self.speed.band.low, likely, likely * self.speed.band.high)

    @property
    def tokens(self) -> float | None:
        """Tokens that the whole run computes, padding included."""
        if self.length.steps is None:
            return None
        micro_steps = self.length.steps * self.job.accumulation * self.hardware.world
        return micro_steps * self.length.padded


def forecast(recipe: Recipe, facts: ModelFacts, hardware: Hardware, rows: Rows | None) -> Forecast:
    """Return what ``recipe`` takes on ``hardware``. Raises ``LauncherError``: a setting without a
    formula, a batch that does not divide, a sequence that the model cannot take.
    """
    job = reading.job(
        recipe, facts, gpus=hardware.world, accumulation=_accumulation(recipe, hardware.world)
    )
    if job.sequence_len > facts.context and facts.learned_positions:
        fact = f"sequence_len {job.sequence_len} is more than the {facts.context} positions"
        raise LauncherError(
            f"{fact} of {facts.name}", f"sequence_len: {facts.context}", exit_code=1
        )
    size = length(recipe, job, rows)
    mean = max(1, round(size.padded / job.rows))
    return Forecast(
        recipe,
        hardware,
        job,
        size,
        memory(replace(job, sequence_len=min(job.sequence_len, size.longest))),
        speed(
            replace(job, sequence_len=mean),
            hardware.gpu,
            cluster=Cluster(per_node=hardware.gpus),
            sample=size.sample if job.packed else None,
        ),
    )


def beyond_context(recipe: Recipe, job: Job) -> bool:
    """Return whether rows are longer than what the model was trained for, and the recipe does not
    change its positions.
    """
    changed = recipe.value.get("overrides_of_model_config") or recipe.value.get("rope_scaling")
    return job.sequence_len > job.model.context and not changed


def _accumulation(recipe: Recipe, world: int) -> int | None:
    """Return the accumulation that keeps the stated global batch, or the recipe's own."""
    total = whole(recipe.block.get("global_batch_size"))
    steps = accumulation_steps(recipe, world)
    if steps or not total or "gradient_accumulation_steps" in overridden(recipe):
        return steps
    micro, ranks = micro_batch(recipe), replicas(recipe, world)
    near = " or ".join(map(str, nearest_batches(total, micro, ranks)))
    raise LauncherError(
        f"global_batch_size {total} does not divide by {micro} a GPU x {ranks} GPUs",
        f"x-recipe.global_batch_size={near}",
        exit_code=1,
    )
