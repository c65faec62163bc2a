"""What a rehearsal found, as problems at the recipe's lines. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher.diagnostics import Diagnostic
from launcher.recipe import Recipe
from launcher.rehearse import codes
from launcher.rehearse.blame import PATTERNS, blame
from launcher.rehearse.outcome import Events, Metrics, cut_off, failure, losses, progress
from launcher.schema.validator import is_on

LONGEST = 300  # characters of a library's words
TOLERANCE = 1e-3  # of the scores of a merged model, and of a margin; float32 leaves 1e-6
EXACT = 1e-4  # of the loss of a resumed run; adapters in bfloat16 leave 5e-6
KILLED = 9
_PYDANTIC = re.compile(r" \[type=[^\]]*\]|,? For further information visit \S+")


def problems(
    recipe: Recipe,
    events: Events,
    first: Metrics,
    again: Metrics,
    columns: Mapping[str, Sequence[str]],
    layers: Sequence[str],
) -> list[Diagnostic]:
    """Return what broke, and what ran and is not as it should be."""
    return [
        *_deepspeed(recipe, events),
        *_broken(recipe, events, columns, layers),
        *_training(recipe, events, first),
        *_evaluation(recipe, events, first),
        *_start(recipe, first),
        *_resumed(recipe, first, again),
        *_merged(recipe, events),
    ]


def _deepspeed(recipe: Recipe, events: Events) -> Iterator[Diagnostic]:
    for event in events:
        if words := event.get("deepspeed"):
            yield codes.DEEPSPEED.at(
                recipe.value_span("deepspeed"),
                f"DeepSpeed does not accept it: {_short(str(words))}",
                "deepspeed: recipes/deepspeed/zero2.json, as shipped, is one that it accepts",
            )


def _broken(
    recipe: Recipe,
    events: Events,
    columns: Mapping[str, Sequence[str]],
    layers: Sequence[str],
) -> Iterator[Diagnostic]:
    if progress(events).facts.get("load.trainable") == 0:
        return  # a step cannot but break; that nothing is trained says more
    if broken := failure(events):
        found = blame(recipe, broken, columns, layers)
        kind = "" if broken.kind == "Broken" else f"{broken.kind}: "
        fact = f"the stage {broken.stage} broke: {kind}{_short(broken.words)}"
        yield codes.FAILED[broken.stage].at(found.span, fact, found.hint)
    elif (code := cut_off(events)) is not None:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        fact = f"its process {how} in the stage {progress(events).current}"
        hint = "free some memory, or try a shorter sequence_len=512" if code == -KILLED else ""
        yield codes.CUT_OFF.at(recipe.key_span("base_model"), fact, hint)


def _training(recipe: Recipe, events: Events, metrics: Metrics) -> Iterator[Diagnostic]:
    for line in metrics:
        odd = sorted({"loss", "eval_loss", "grad_norm"} & {*(line.get("nonfinite") or ())})
        if odd:
            fact = f"{odd[0]} is no finite number at step {line.get('step')}"
            hint = "a lower learning_rate, or rows without empty answers"
            yield codes.NOT_FINITE.at(recipe.value_span("learning_rate"), fact, hint)
            break
    norms = [line["grad_norm"] for line in metrics if line.get("grad_norm") is not None]
    trained = progress(events).facts.get("load.trainable")
    if trained == 0 or (norms and not any(norms)):
        fact = f"the gradient is 0 in all of {len(norms)} steps"
        place = recipe.key_span("datasets")
        hint = "see which tokens are trained on: axr preview"
        if trained == 0:
            fact = "no weight of the model is trained"
            place = recipe.value_span("unfrozen_parameters")
            hint = PATTERNS
        yield codes.NO_GRADIENT.at(place, fact, hint)


def _evaluation(recipe: Recipe, events: Events, metrics: Metrics) -> Iterator[Diagnostic]:
    times = progress(events).facts.get("evaluate.times")
    if times and not any("eval_loss" in line for line in metrics):
        key = "test_datasets" if recipe.value.get("test_datasets") else "val_set_size"
        packed = is_on(recipe.value.get("sample_packing"))
        hint = "eval_sample_packing: false, or more rows to evaluate on" if packed else ""
        fact = f"evaluated {times} times, and no loss came of it"
        yield codes.NO_EVALUATION.at(recipe.value_span(key), fact, hint)


def _start(recipe: Recipe, metrics: Metrics) -> Iterator[Diagnostic]:
    value = recipe.value
    if value.get("rl") not in ("dpo", "ipo") or not metrics:
        return
    margin = next((line["rewards/margins"] for line in metrics if "rewards/margins" in line), 0.0)
    loss = next(iter(losses(metrics).values()), None)
    plain = value["rl"] == "dpo" and not value.get("dpo_loss_type")
    plain = plain and not value.get("dpo_label_smoothing")
    if margin and abs(margin) > TOLERANCE:
        fact = f"the reward margin is {margin:.3g} before anything is learnt; 0 is expected"
    elif plain and loss is not None and abs(loss - math.log(2)) > 10 * TOLERANCE:
        fact = f"the first loss is {loss:.4f}; ln 2 = 0.6931 is expected"
    else:
        return
    hint = "dropout off: lora_dropout: 0.0" if value.get("lora_dropout") else ""
    yield codes.ODD_START.at(recipe.value_span("rl"), fact, hint)


def _resumed(recipe: Recipe, first: Metrics, again: Metrics) -> Iterator[Diagnostic]:
    before, after = losses(first), losses(again)
    for step in sorted(before.keys() & after.keys())[:1]:
        seen = [_value(metrics, step, "tokens/trainable") for metrics in (first, again)]
        if seen[0] != seen[1]:
            fact = f"at step {step} the resumed run has seen other rows than the first"
            yield codes.RESUME_ROWS.at(recipe.key_span("sample_packing"), fact)
        elif abs(before[step] - after[step]) > EXACT * max(1.0, abs(before[step])):
            fact = (
                f"the resumed run has loss {after[step]:.4f} at step {step};"
                f" without a break it is {before[step]:.4f}"
            )
            yield codes.RESUME_DIFFERS.at(recipe.key_span("save_strategy"), fact)


def _value(metrics: Metrics, step: int, name: str) -> Any:
    return next((line[name] for line in metrics if line.get("step") == step and name in line), None)


def _merged(recipe: Recipe, events: Events) -> Iterator[Diagnostic]:
    facts = progress(events).facts
    difference, rounded = facts.get("reload.difference"), facts.get("merge.rounded")
    if difference is not None and difference > TOLERANCE:
        fact = f"scores of the merged model differ by {difference:.3g} from those with the adapter"
        yield codes.MERGE_DIFFERS.at(recipe.value_span("adapter"), fact, "merge_method: legacy")
    if rounded:
        fact = f"merging rounds what 4 bits do not hold in the training: {', '.join(rounded)}"
        hint = "merge_method: legacy leaves them as they are; or use the adapter beside the model"
        yield codes.MERGE_ROUNDS.at(recipe.value_span("adapter"), fact, hint)


def _short(words: str) -> str:
    text = _PYDANTIC.sub("", " ".join(words.split()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
