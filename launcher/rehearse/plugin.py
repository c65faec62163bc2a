"""The axolotl plugin that watches a rehearsal: which stage it is in, and what is logged meanwhile.

A rehearsal's config lists it beside the launcher's own; axolotl imports it by its path. Nothing
else of the launcher imports this module, because it pulls in transformers and axolotl.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from types import TracebackType
from typing import Any

import torch
from axolotl.integrations.base import BasePlugin
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launcher.rehearse import events


class StagePlugin(BasePlugin):  # type: ignore[misc]  # axolotl ships no types
    """Tells the stages of a run as axolotl goes through them. Only rank 0 tells."""

    def __init__(self) -> None:
        super().__init__()
        self.watching = os.environ.get("LOCAL_RANK", "0") == "0"

    def register(self, cfg: Any) -> None:
        """Listen to every logger, and to what would end this process."""
        if self.watching:
            listen()
            sys.excepthook = _tell_and_print

    def load_datasets(self, cfg: Any, preprocess: bool = False) -> None:
        """Note that the config holds; load no data."""
        if self.watching:
            listen()  # to those that have come since
            events.end("config")
            events.begin("tokenise")

    def pre_model_load(self, cfg: Any) -> None:
        """Note that the rows are tokens now. A reference model is loaded later: once is enough."""
        if self.watching and not getattr(self, "loading", False):
            self.loading = True
            events.end("tokenise")
            events.begin("load")

    def post_model_build(self, cfg: Any, model: Any) -> None:
        """Keep bitsandbytes from the layout that it makes for inference.

        On a CPU with AVX512-BF16 its 4-bit layers change to it in the first evaluation, and have no
        gradient from then on (bitsandbytes 0.50, nn/modules.py): the norm of a step was off by
        three times.
        """
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[TrainerCallback]:
        """Return what follows the training, and tell what was loaded."""
        if not self.watching:
            return []
        weights = list(trainer.model.parameters())
        return [
            StageCallback(
                trainable=sum(weight.numel() for weight in weights if weight.requires_grad),
                train_rows=_length(trainer.train_dataset),
                eval_rows=_length(trainer.eval_dataset),
            )
        ]

    def post_train_unload(self, cfg: Any) -> None:
        """Note that the result is saved."""
        if self.watching:
            events.end("save")


class StageCallback(TrainerCallback):  # type: ignore[misc]
    """Tells when training begins and ends, and how long evaluating and saving take in it."""

    def __init__(self, **facts: Any) -> None:
        """Keep the facts of loading, told when it ends."""
        self.facts = facts
        self.mark = time.monotonic()
        self.taken = {"evaluate": 0.0, "save": 0.0}
        self.times = {"evaluate": 0, "save": 0}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the end of loading."""
        events.end("load", **self.facts)
        events.begin("train")
        self.mark = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remember when evaluating or saving may begin."""
        events.tell(step=state.global_step, of=state.max_steps)
        self.mark = time.monotonic()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the time of an evaluation."""
        self._add("evaluate")

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the time of a checkpoint."""
        self._add("save")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell how the training went; what is left is to save its result."""
        inner = sum(self.taken.values())
        events.end("train", inner=inner, steps=state.global_step)
        if self.times["evaluate"]:
            events.end("evaluate", seconds=self.taken["evaluate"], times=self.times["evaluate"])
        events.begin("save", seconds=self.taken["save"])

    def _add(self, stage: str) -> None:
        now = time.monotonic()
        self.taken[stage] += now - self.mark
        self.times[stage] += 1
        self.mark = now


class Listener(logging.Handler):
    """Passes warnings and worse on as events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one record; the rehearsal's own process counts those that are the same."""
        events.tell(level=record.levelname, logger=record.name, warning=record.getMessage())


_LISTENER = Listener(logging.WARNING)


def listen() -> None:
    """Listen to every logger that does not pass its records on to another."""
    known = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    for logger in [logging.root, *known]:
        alone = logger is logging.root or not logger.propagate
        if alone and _LISTENER not in logger.handlers:
            logger.addHandler(_LISTENER)


def _tell_and_print(
    kind: type[BaseException], problem: BaseException, trace: TracebackType | None
) -> None:
    events.failed(problem)
    sys.__excepthook__(kind, problem, trace)


def _on_cpu(storage: Any, location: str) -> Any:
    return storage if location.startswith("cpu:") else None


# With several ranks transformers reads the optimizer's state onto "cpu:0", which torch, when it
# loads, knows for no device. 100: after torch's own.
torch.serialization.register_package(100, lambda storage: None, _on_cpu)


def _length(rows: Any) -> int | None:
    return len(rows) if hasattr(rows, "__len__") else None
