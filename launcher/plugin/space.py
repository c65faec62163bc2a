"""Room for checkpoints: made before the disk is full, and where there is none, no run ends for it.

``Saves`` stands around the trainer's own ``_save_checkpoint``, the one place that every save comes
through: by steps, by epochs, of the best model (which is chosen after all callbacks), of a stop.

- transformers deletes what is beyond ``save_total_limit`` only after the new checkpoint is written.
  Where the disk has no room for one more, the same ones are deleted before, the oldest first and no
  more than needed; but never the newest whole one. Without ``save_total_limit`` nothing is deleted.
- Where that is not enough, the save is left out and the training goes on. Of a stop this holds,
  too: what is on the disk is whole, and a resumption repeats the steps since then.
- After the last step the result counts more than one more checkpoint: where the disk does not take
  both, the checkpoint is left out.
- A save that fails all the same, as another process fills the disk, leaves nothing behind, where
  one process writes it all. DeepSpeed and FSDP save in messages of all ranks: there the run ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy, sort_checkpoints

from launcher.checkpoints import checkpoints, fault, rotated, size
from launcher.files import read_mapping
from launcher.plugin.measure import free_bytes, shared_state_bytes, state_bytes, weight_bytes
from launcher.plugin.stop import of_all

LEFT_OUT = "left-out.json"
MARGIN = 1.05  # blocks that are not full, and what a file system keeps for itself
# Of an error without errno: safetensors (Rust) and torch's zip writer (C++) put it into words; the
# last two are torch 2.13's for a file of some KiB.
_FULL = re.compile(
    r"No space left|quota exceeded|os error (28|122)\b|PytorchStreamWriter|file write failed"
    r"|iostream error|inline_container.*unexpected pos"
)
NOTHING, STATE, ALL = 0, 1, 2  # what of a save failed: the greater of all ranks counts


class Saves:
    """A trainer's saves. ``refused``: whether the last one was left out, on all ranks alike."""

    def __init__(self, trainer: Any, folder: Path) -> None:
        """Take the place of the trainer's own; count in ``folder`` what is left out."""
        self.trainer, self.file, self.refused = trainer, folder / LEFT_OUT, False
        before = (read_mapping(self.file, 2**16) or {}).get("count")
        self.count, self.said = before if isinstance(before, int) else 0, ""
        self._entered = self._weights = False  # how far the save is, for what other ranks wait for
        self._save_checkpoint, trainer._save_checkpoint = trainer._save_checkpoint, self.save
        self._save_model, trainer.save_model = trainer.save_model, self.save_model
        handler = trainer.callback_handler
        self._on_save, handler.on_save = handler.on_save, self.on_save

    def save(self, model: Any, trial: Any = None, **kwargs: Any) -> None:
        """Save a checkpoint if it fits, on all ranks or on none."""
        self._entered = self._weights = False
        short, going = self._judge()
        self.refused = bool(of_all(int(bool(short)), self.trainer.args.device))
        if self.refused:
            self._tell(short or "the disk of another rank is too small")
            return
        for folder in going:
            _say(f"{folder.name} is deleted before the next one is saved: no room for both")
            shutil.rmtree(folder, ignore_errors=True)
        failed, why = NOTHING, ""
        try:
            self._save_checkpoint(model, trial, **kwargs)
        except Exception as problem:  # torch, safetensors and Python each say it their own way
            if self._sharded() or not full(problem):
                raise
            failed, why = self._survive(), f"{type(problem).__name__}: {problem}"
        self.refused = of_all(failed, self.trainer.args.device) == ALL
        if self.refused:
            if self._writes():
                shutil.rmtree(self._place(), ignore_errors=True)
            self._tell(why or "another rank could not write its part")
        elif self.said:
            self._note()  # what a full disk did not take before

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """Save the weights, and note that they are."""
        self._entered = True
        self._save_model(*args, **kwargs)
        self._weights = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl
    ) -> TrainerControl:
        """Tell the callbacks of a checkpoint, if there is one: some upload it."""
        control.should_save = False
        return control if self.refused else self._on_save(args, state, control)

    def _judge(self) -> tuple[str, list[Path]]:
        """Return why there is no room for a checkpoint on this rank's disk, nothing where there is;
        and what has to go for it.
        """
        if not (self._writes() or self._sharded()):
            return "", []  # but for the state of its random generators
        after, before = self._rotated()
        needed, free = self._bytes() * MARGIN, free_bytes(self._place().parent)
        if free is None:
            return "", []
        free += size(self._place())  # saved a second time, as a stop at the end of an epoch
        last = self.trainer.state.global_step >= self.trainer.state.max_steps
        result = weight_bytes(self.trainer.model) if last else 0
        if free + sum(map(size, after)) < needed + result:
            beside = " beside the result" if result else ""
            return f"it takes {_gib(needed + result)}{beside}, {_gib(free)} are free", []
        going: list[Path] = []
        for folder in before:
            if free >= needed:
                break
            going.append(folder)
            free += size(folder)
        short = f"it takes {_gib(needed)}, {_gib(free)} can be had" if free < needed else ""
        return short, going if self._writes() and not short else []

    def _rotated(self) -> tuple[list[Path], list[Path]]:
        """Return what transformers would delete after this save, and what of it may go before."""
        state, place = self.trainer.state, self._place()
        standing = [Path(one) for one in sort_checkpoints(str(place.parent), use_mtime=True)]
        standing = [one for one in standing if one != place]
        best = Path(state.best_model_checkpoint) if state.best_model_checkpoint else None
        limit = self.trainer.args.save_total_limit
        after = rotated(standing, limit=limit, best=best)
        newest = next((one for one in reversed(standing) if not fault(one)), None)
        kept = newest or (standing[-1] if standing else None)
        return after, [one for one in after if one != kept]

    def _bytes(self) -> float:
        """Return the bytes of a checkpoint on this node: of the last one like it, or computed."""
        whole = not self.trainer.args.save_only_model
        for folder in map(Path, reversed(sort_checkpoints(str(self._place().parent)))):
            alike = any(folder.glob("optimizer*")) or (folder / "latest").exists()
            if alike == whole and (folder / "trainer_state.json").exists():
                return size(folder)
        weights = weight_bytes(self.trainer.model)
        if not whole:
            return weights
        if self._sharded():
            return 2 * weights + shared_state_bytes(self.trainer.model)  # in shards once more
        return weights + state_bytes(self.trainer.optimizer)

    def _survive(self) -> int:
        """Take part in what the other ranks wait for in this save, and return what of it failed.

        Under DDP they add up the operations before the weights, and wait for them where there is a
        best model (Trainer._save_checkpoint); nothing else is done together.
        """
        trainer = self.trainer
        if not self._entered:
            trainer.store_flos()
        waited = trainer.args.save_strategy != SaveStrategy.NO and trainer.state.best_global_step
        if waited and not self._weights and trainer.args.world_size > 1:
            torch.distributed.barrier()
        if self._writes():
            return ALL if fault(self._place()) else NOTHING
        (self._place() / f"rng_state_{trainer.args.process_index}.pth").unlink(missing_ok=True)
        return STATE

    def _tell(self, why: str) -> None:
        """Say that a save was left out, once a node, and count it."""
        if self.trainer.args.local_process_index != 0:
            return
        place, step = self._place(), self.trainer.state.global_step
        last = next((one.folder.name for one in checkpoints(place.parent) if not one.fault), "none")
        _say(f"{place.name} is left out: {why} ({place.parent}); the newest whole one: {last}")
        self.count += 1
        self.said = json.dumps({"count": self.count, "step": step, "why": why})
        self._note()

    def _note(self) -> None:
        """Write down what was left out, where the disk takes that."""
        temporary = self.file.with_name(f".{LEFT_OUT}")
        with contextlib.suppress(OSError):
            temporary.write_text(self.said, encoding="utf-8")
            temporary.replace(self.file)

    def _writes(self) -> bool:
        """Whether this rank writes weights, and deletes: rank 0, or the first of each node."""
        return bool(self.trainer.args.should_save)

    def _sharded(self) -> bool:
        """Whether every rank writes its part, in messages that one alone cannot leave."""
        trainer = self.trainer
        return bool(
            trainer.is_deepspeed_enabled
            or trainer.is_fsdp_enabled
            or any(isinstance(one, DTensor) for one in trainer.model.parameters())
        )

    def _place(self) -> Path:
        return Path(self.trainer.args.output_dir) / f"checkpoint-{self.trainer.state.global_step}"


def full(problem: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, says that a disk or a quota is full."""
    seen = 0
    while problem is not None and seen < 10:
        number = getattr(problem, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or _FULL.search(str(problem)):
            return True
        problem, seen = problem.__cause__ or problem.__context__, seen + 1
    return False


def _gib(amount: float) -> str:
    return f"{amount / 2**30:.2f} GiB" if amount >= 2**30 / 10 else f"{amount / 2**20:.1f} MiB"


def _say(text: str) -> None:
    print(f"\naxr: {text}", flush=True)  # a progress bar has no end of line
