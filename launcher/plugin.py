"""The axolotl plugin that rides inside training: places and seeds the model, records metrics.

A resolved config lists it as ``plugins: [launcher.plugin.RunPlugin]``; axolotl imports it by that
path in every rank. Nothing else of the launcher imports this module, because it pulls in torch,
transformers and axolotl.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from axolotl.integrations.base import BasePlugin
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

RUN_DIR = "AXR_RUN_DIR"
METRICS_FILE = "metrics.jsonl"


class RunPlugin(BasePlugin):  # type: ignore[misc]  # axolotl ships no types
    """What a run of the launcher adds to axolotl: CPU placement, a seed, and a metrics file."""

    def load_datasets(self, cfg: Any, preprocess: bool = False) -> None:
        """Place the model on the CPU if there is no CUDA device; load no data.

        The hook is used for its moment: after axolotl has set ``device_map``, before the model
        loader copies it. For every world size above 1 axolotl writes ``{"": LOCAL_RANK}``, GPU or
        not; for one rank it writes ``auto``, which off-loads to disk when memory is short.
        """
        if not torch.cuda.is_available():
            cfg.device_map = {"": "cpu"}

    def pre_model_load(self, cfg: Any) -> None:
        """Seed the random generators before the adapter draws its first weights.

        Axolotl 0.19 leaves that to the trainer, which seeds after the adapter was made: two runs of
        one recipe start from different adapters, and a run on two GPUs from another than on one.
        """
        set_seed(TrainingArguments.seed if cfg.seed is None else cfg.seed)

    def add_callbacks_pre_trainer(self, cfg: Any, model: Any) -> list[TrainerCallback]:
        """Return the metrics recorder, or nothing when AXR_RUN_DIR is not set."""
        folder = os.environ.get(RUN_DIR)
        return [MetricsRecorder(Path(folder) / METRICS_FILE)] if folder else []


class MetricsRecorder(TrainerCallback):  # type: ignore[misc]
    """Append every log record of the trainer to a file, one JSON object a line.

    Only world rank 0 writes. A resumed run appends to the same file, so the steps after its
    checkpoint can occur twice: the later line counts.
    """

    def __init__(self, file: Path) -> None:
        """Record into ``file``, whose folder exists."""
        self.file = file

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the line that a killed run may have left half-written."""
        if state.is_world_process_zero and not _ends_with_newline(self.file):
            _append(self.file, "")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append one line and close the file, so that a run killed later keeps it."""
        if not state.is_world_process_zero or logs is None:
            return
        line = record(logs, step=state.global_step, epoch=state.epoch, now=time.time())
        line["max_steps"] = state.max_steps
        if torch.cuda.is_available():
            line["peak_allocated_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        _append(self.file, json.dumps(line, allow_nan=False))


def record(
    logs: Mapping[str, Any], *, step: int, epoch: float | None, now: float
) -> dict[str, Any]:
    """Return the line for one log record of the trainer.

    ``now`` is in Unix seconds. Every number of ``logs`` is kept under its name. A NaN or an
    infinity, which JSON cannot hold, becomes null and its name is listed under ``nonfinite``. What
    is not a number is left out.
    """
    numbers = {
        name: number for name, value in logs.items() if (number := _number(value)) is not None
    }
    line: dict[str, Any] = {"step": step, "time": round(now, 3), "epoch": epoch}
    line |= {name: number if math.isfinite(number) else None for name, number in numbers.items()}
    if lost := sorted(name for name, number in numbers.items() if not math.isfinite(number)):
        line["nonfinite"] = lost
    return line


def _number(value: Any) -> float | int | None:
    """Return a number, numpy scalar or one-element tensor as a Python number, the rest as None."""
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        return None
    plain = value.item() if hasattr(value, "item") else value
    return plain if isinstance(plain, int | float) else None


def _append(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def _ends_with_newline(file: Path) -> bool:
    return not file.exists() or file.read_bytes()[-1:] in (b"\n", b"")
