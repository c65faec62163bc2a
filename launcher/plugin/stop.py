"""A stop that loses nothing: when asked, the step ends with a checkpoint, and then the training.

Axolotl's own way on SIGINT leaves the weights alone, which no training can go on from. Here the
launcher sends SIGUSR1 to the ranks (each names itself in the folder ``ranks``), or a time is set;
all ranks agree on the step, rank 0's trainer saves, and ``stopped.json`` says that it is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launcher import supervise
from launcher.plugin.measure import free_bytes, state_bytes, weight_bytes

RANKS = "ranks"
STOPPED = "stopped.json"
ASKED, SPENT = 1, 2  # why: of two, the greater counts
WHY = {ASKED: supervise.ASKED, SPENT: "budget"}


class Stop(TrainerCallback):  # type: ignore[misc]  # transformers' types are not followed
    """Ends a training early and whole. ``until``: Unix seconds at which the budget is spent."""

    def __init__(self, folder: Path, until: float | None) -> None:
        """Listen in a run's folder."""
        self.folder, self.until, self.why = folder, until, 0
        self.agreed = 0  # why all ranks stop after this step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the signal, and say that this process does: one that does not would die of it. It is
        taken to the end of the process, as it may come after the last step.
        """
        signal.signal(signal.SIGUSR1, self._receive)
        ranks = self.folder / RANKS
        ranks.mkdir(parents=True, exist_ok=True)
        (ranks / str(os.getpid())).touch()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save and stop after this step if any rank was asked to."""
        if self.until is not None and time.time() >= self.until:
            self.why = SPENT
        self.agreed = of_all(self.why, args.device)
        if self.agreed:
            control.should_save = control.should_training_stop = True
            args.save_only_model = args.save_only_model and not _fits(args, kwargs)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say that the checkpoint is whole: transformers calls this after its last file. Nothing is
        said of one that was being saved when the signal came: the next step stops.
        """
        if self.agreed and state.is_local_process_zero:
            self._say(step=state.global_step, why=WHY[self.agreed])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say that it stopped without a checkpoint, where the disk had no room for one."""
        if self.agreed and state.is_local_process_zero and not (self.folder / STOPPED).exists():
            self._say(step=state.global_step, why=WHY[self.agreed], saved=False)

    def _say(self, **said: Any) -> None:
        """Leave the file that the launcher waits for; on a full disk it is empty."""
        temporary = self.folder / f".{STOPPED}"
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(said), encoding="utf-8")
        with contextlib.suppress(OSError):
            temporary.replace(self.folder / STOPPED)

    def _receive(self, number: int, frame: object) -> None:
        self.why = max(self.why, ASKED)


def of_all(why: int, device: torch.device) -> int:
    """Return the greatest reason of all ranks: a step that one ends and another goes on from would
    hang. One number a step, in the order of the ranks' other messages.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return why
    told = torch.tensor([why], device=device)
    torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
    return int(told.item())


def _fits(args: TrainingArguments, parts: dict[str, Any]) -> bool:
    """Whether a checkpoint with the optimizer's state fits the disk: without it, as a recipe may
    want its checkpoints, no training can go on.
    """
    needed = weight_bytes(parts["model"]) + state_bytes(parts["optimizer"]) if parts else 0.0
    free = free_bytes(Path(args.output_dir))
    return free is None or needed < free
