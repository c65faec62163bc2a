"""From the events and the metrics of a rehearsal to its stages: what ran, how long, how it ended.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from launcher.rehearse.blame import Failure
from launcher.rehearse.codes import STAGES

State = Literal["done", "failed", "left out", "not reached"]
Events = Sequence[Mapping[str, Any]]
Metrics = Sequence[Mapping[str, Any]]

_EVALUATING = {"evaluate", "evaluation_loop", "prediction_step", "_evaluate"}
_SAVING = {"_save_checkpoint", "save_model", "save_trained_model", "_save", "save_pretrained"}

_FACTS = {  # of a stage: the fact that is told, and how
    "prepare": ("prepare.weights", "{:,} random weights"),
    "tokenise": ("load.train_rows", "{} rows to train on"),
    "load": ("load.trainable", "{:,} weights to train"),
    "reload": (
        "reload.difference",
        "merged, and the adapter beside the model: same scores ({:.0e})",
    ),
    "generate": ("generate.tokens", "{} tokens"),
}


@dataclass(frozen=True)
class Stage:
    """One stage: how it ended, how long it took in seconds, and what is to be said of it."""

    name: str
    state: State
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Progress:
    """What the events tell so far."""

    begun: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    current: str = "prepare"


def progress(events: Events) -> Progress:
    """Return when each stage began, how long those took that ended, and all their facts."""
    begun: dict[str, float] = {}
    seconds: dict[str, float] = {}
    facts: dict[str, Any] = {}
    current = "prepare"
    for event in events:
        stage, state = str(event.get("stage")), event.get("state")
        if state == "begin":
            current = stage
            begun[stage] = event["time"] - event.get("seconds", 0.0)
        elif state == "end" and stage not in seconds:
            since = event["time"] - begun.get(stage, event["time"])
            seconds[stage] = max(0.0, event.get("seconds", since) - event.get("inner", 0.0))
            facts |= {f"{stage}.{key}": value for key, value in event.items()}
    return Progress(begun, seconds, facts, current)


def failure(events: Events) -> Failure | None:
    """Return what broke, at the stage that it belongs to."""
    for event in events:
        if event.get("state") == "failed":
            frames = tuple(map(str, event.get("frames") or ()))
            stage = str(event.get("stage") or _within(progress(events).current, frames))
            return Failure(stage, str(event.get("kind")), str(event.get("words")), frames)
    return None


def _within(stage: str, frames: tuple[str, ...]) -> str:
    """Return the stage within the training that a traceback shows."""
    if stage == "train" and _EVALUATING & {*frames}:
        return "evaluate"
    return "save" if stage == "train" and _SAVING & {*frames} else stage


def cut_off(events: Events) -> int | None:
    """Return the exit code of a part that ended without a word of its own, negative for a signal;
    none if there is no such part.
    """
    told = any(event.get("state") == "failed" for event in events)
    codes = [int(event["code"]) for event in events if event.get("state") == "over"]
    return codes[0] if codes and not told else None


def stages(
    events: Events, first: Metrics, again: Metrics, left_out: Mapping[str, str]
) -> list[Stage]:
    """Return every stage in order. ``left_out``: those that the recipe does not have, and why;
    ``first`` and ``again``: the records of the first and of the resumed training.
    """
    seen, broken = progress(events), failure(events)
    failed = broken.stage if broken else seen.current if cut_off(events) is not None else ""
    found = []
    for name in STAGES:
        if name == failed:
            since = seen.begun.get(name)
            last = float(events[-1].get("time", 0.0)) if events else 0.0
            found.append(Stage(name, "failed", max(0.0, last - since) if since else 0.0))
        elif name in left_out:
            found.append(Stage(name, "left out", note=left_out[name]))
        elif name in seen.seconds:
            note = _note(name, seen.facts, first, again)
            found.append(Stage(name, "done", seen.seconds[name], note))
        else:
            found.append(Stage(name, "not reached"))
    return found


def _note(name: str, facts: Mapping[str, Any], first: Metrics, again: Metrics) -> str:
    """Return what is to be said of a stage that came to its end."""
    if name == "resume":
        return _resumed(first, again)
    if name in ("train", "evaluate"):
        return (_trained if name == "train" else _evaluated)(facts, first)
    key, words = _FACTS.get(name, ("", ""))
    value = facts.get(key)
    told = "" if value is None else words.format(value)
    rows = facts.get("load.eval_rows") if name == "tokenise" else None
    return f"{told}, {rows} to evaluate on" if rows else told


def losses(metrics: Metrics) -> dict[int, float]:
    """Return the loss of each step."""
    return {int(line["step"]): line["loss"] for line in metrics if line.get("loss") is not None}


def _trained(facts: Mapping[str, Any], metrics: Metrics) -> str:
    told = f"{facts.get('train.steps')} steps"
    found = list(losses(metrics).values())
    norms = [line["grad_norm"] for line in metrics if line.get("grad_norm") is not None]
    if found:
        told += f", loss {found[0]:.3f} to {found[-1]:.3f}"
    return f"{told}, gradient norm {norms[0]:.2g}" if norms else told


def _evaluated(facts: Mapping[str, Any], metrics: Metrics) -> str:
    found = [line["eval_loss"] for line in metrics if line.get("eval_loss") is not None]
    times = f"{facts.get('evaluate.times')} times"
    return f"{times}, loss {found[-1]:.3f}" if found else times


def _resumed(first: Metrics, again: Metrics) -> str:
    before, after = losses(first), losses(again)
    common = sorted(before.keys() & after.keys())
    if not common:
        return ""
    step = common[0]
    return f"step {step} with loss {after[step]:.3f}; {before[step]:.3f} without the break"
