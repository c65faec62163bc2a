"""What a training is doing now, in one small file that is rewritten as it goes.

    {"phase": "train", "step": 12, "max_steps": 90, "epoch": 0.4, "time": 1790000012.1,
     "began": 1790000001.0, "pid": 4242}

``time`` is the last sign of life and ``began`` the begin of the phase, in Unix seconds; ``done``
and ``of`` count the batches of an evaluation. The phases are tokenise, load, train, evaluate, save
and finish.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sized
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

PROGRESS_FILE = "progress.json"
EVERY = 1.0  # seconds between two writes within a phase
SHARE = 0.005  # of the time that writes may take: where the disk is slow there are fewer


class Heartbeat(TrainerCallback):  # type: ignore[misc]  # transformers' types are not followed
    """Keeps the file. Of several ranks on a node one does, and only where ``file`` is given. What
    the disk refuses is lost: no training ends for that.
    """

    def __init__(self, file: Path | None) -> None:
        """Write into ``file``, whose folder exists."""
        self.file = file
        self.phase, self.began, self.wait_until = "", 0.0, 0.0
        self.known: dict[str, Any] = {"step": 0, "max_steps": None, "epoch": None}
        self.batches = 0

    def beat(self, phase: str, **more: Any) -> None:
        """Say that the training lives, and what it is doing."""
        now = time.time()
        changed = phase != self.phase
        if changed:
            self.phase, self.began = phase, now
        if self.file is None or not (changed or time.monotonic() >= self.wait_until):
            return
        said = {"phase": phase, **self.known, **more, "time": now, "began": self.began}
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}")
            temporary.write_text(json.dumps(said | {"pid": os.getpid()}), encoding="utf-8")
            temporary.replace(self.file)
        took = time.monotonic() - begun
        self.wait_until = begun + took + max(EVERY, took / SHARE)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The first step begins."""
        self._step("train", state)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A micro batch of a step is done."""
        self._step("train", state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A step is done: an evaluation comes next, a checkpoint, or another step."""
        self._step("train", state)
        self._next(state, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """An epoch is done, with the same to come."""
        self._next(state, control)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A batch of an evaluation is done."""
        self.batches += 1
        loader = kwargs.get("eval_dataloader")
        of = len(loader) if isinstance(loader, Sized) else None
        self._step("evaluate", state, done=self.batches, of=of)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """An evaluation is done."""
        self.batches = 0
        self._step("save" if control.should_save else "train", state)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A checkpoint is whole."""
        self._step("train", state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The last step is done; axolotl saves the model now."""
        self._step("save", state)

    def _step(self, phase: str, state: TrainerState, **more: Any) -> None:
        self.known = {
            "step": state.global_step,
            "max_steps": state.max_steps or None,
            "epoch": state.epoch,
        }
        self.beat(phase, **more)

    def _next(self, state: TrainerState, control: TrainerControl) -> None:
        """Transformers tells of a save when it is over; that one comes it has decided before."""
        if control.should_evaluate:
            self._step("evaluate", state)
        elif control.should_save:
            self._step("save", state)
