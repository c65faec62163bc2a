"""The real model code on tensors without data: what the installed stack allocates in a step.

The child (``python -m launcher.plan.dry.peaks``) reads jobs as JSON, builds each model of its
config under torch's FakeTensorMode on the CPU, applies PEFT, runs transformers' forward and loss or
TRL's log-probabilities, the backward pass and the optimizer step, and counts living storages. It
needs no weights and no GPU. Stand-ins only for what a GPU does inside one kernel: attention keeps
what FlashAttention keeps, and 4-bit layers are bitsandbytes' own over packed weights without
data. Not seen: memory inside kernels, sharding, buckets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.diagnostics import LauncherError
from launcher.plan.job import Attention, Checkpointing, Job, Kernels, Loss, Method, Reference, Shard
from launcher.redact import redact


@dataclass(frozen=True)
class Peaks:
    """Bytes allocated at the peak of each part of a step, once the optimizer has its states."""

    forward: float
    backward: float
    step: float

    @property
    def allocated(self) -> float:
        """The peak of the step."""
        return max(self.forward, self.backward, self.step)


def peaks(jobs: Sequence[tuple[Job, Mapping[str, Any]]]) -> list[Peaks]:
    """Return what the installed code allocates for each job; with it goes the model's config.json.

    Raises ``ValueError`` for a job that the dry run cannot follow, ``LauncherError`` where the
    stack is missing or breaks.
    """
    asked = [_request(job, config) for job, config in jobs]
    environ = {**os.environ, "AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "launcher.plan.dry.peaks"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env={**environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    if done.returncode:
        last = done.stderr.strip().split("\n")[-1]
        raise LauncherError(f"the dry run broke: {redact(last)}", "make setup")
    return [Peaks(**found) for found in json.loads(done.stdout)]


def _request(job: Job, config: Mapping[str, Any]) -> dict[str, Any]:
    if reason := _cannot(job):
        raise ValueError(f"no dry run: {reason}")
    adapter, preference = job.adapter, job.preference
    return {
        "config": dict(config),
        "sequence_len": job.sequence_len,
        "rows": job.rows,
        "quantized": job.method is Method.QLORA,
        "double": job.double_quantization,
        "half": job.weight_bytes == 2,
        "autocast": job.autocast,
        "eager": job.attention is Attention.EAGER,
        "checkpointing": job.checkpointing is Checkpointing.BLOCKS,
        "accumulates": job.accumulation > 1,
        "optimizer": {
            "moments": job.optimizer.moments,
            "bytes": 0.0 if job.optimizer.paged else job.optimizer.bytes,
            "foreach": job.optimizer.copies > 0,
        },
        "adapter": adapter
        and {
            "rank": adapter.rank,
            "targets": sorted({linear.name for linear in adapter.targets}),
            "dropout": adapter.dropout,
            "half": adapter.bytes == 2,
        },
        "kernels": [name for name, on in vars(job.kernels).items() if on],
        "preference": preference
        and {
            "copy": preference.reference is Reference.COPY,
            "asked": not preference.precomputed and preference.reference is not Reference.NONE,
            "supervised": preference.supervised,
        },
    }


def _cannot(job: Job) -> str:
    """Return why the dry run cannot follow a job; nothing where it can."""
    if (
        job.loss is not Loss.LOGITS
        or Kernels(job.kernels.rms_norm, job.kernels.swiglu) != Kernels()
    ):
        return "Triton kernels run on a GPU alone"
    if job.sharding.world > 1 or job.sharding.shard is not Shard.NONE:
        return "it knows one GPU"
    if job.method is Method.LORA8:
        return "8-bit layers run on a GPU alone"
    if job.attention is Attention.MASKED:
        return "torch's efficient attention runs on a GPU alone"
    if job.checkpointing is Checkpointing.OFFLOADED:
        return "it knows no host memory"
    return ""


def _main() -> None:
    from launcher.plan.dry import model

    answer, sys.stdout = sys.stdout, sys.stderr  # the libraries print; the answer stays clean
    asked = json.load(sys.stdin)
    # axolotl's kernels patch the model's classes for good: those that want them come last
    order = sorted(range(len(asked)), key=lambda index: bool(asked[index]["kernels"]))
    found = {index: model.step(asked[index]) for index in order}
    json.dump([found[index] for index in range(len(asked))], answer)


if __name__ == "__main__":
    _main()
