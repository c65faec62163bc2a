"""The trainer's records, one JSON object a line."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class MetricsRecorder(TrainerCallback):  # type: ignore[misc]
    """Append every log record of the trainer to a file, one JSON object a line.

    Only world rank 0 writes. A resumed run appends to the same file, so the steps after its
    checkpoint can occur twice: the later line counts.
    """

    def __init__(self, file: Path) -> None:
        """Record into ``file``, whose folder exists."""
        self.file, self.broken = file, False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the line that a killed run may have left half-written."""
        if state.is_world_process_zero:
            self._append()

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
        self._append(json.dumps(line, allow_nan=False) + "\n")

    def _append(self, line: str = "") -> None:
        """Write a line, after the end of one that was cut short. What a full disk refuses is said
        once and is lost; it must not end the run.
        """
        try:
            start = "" if _ends_with_newline(self.file) else "\n"
            if start or line:
                with self.file.open("ab", buffering=0) as stream:
                    stream.write((start + line).encode())
            self.broken = False
        except OSError as problem:
            if not self.broken:
                print(f"\naxr: {self.file} misses steps: {problem.strerror}", flush=True)
            self.broken = True


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


def _ends_with_newline(file: Path) -> bool:
    if not file.exists() or not file.stat().st_size:
        return True
    with file.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
