"""What a forecast says of a recipe on a machine, as problems."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from launcher.diagnostics import Code, Diagnostic, Severity
from launcher.hardware import GIB
from launcher.plan.forecast import Forecast, beyond_context
from launcher.plan.memory import MARGIN, Verdict

TOO_LARGE = Code(
    "P101",
    "does-not-fit",
    Severity.WARNING,
    "By the formulas the run needs more memory than the card has: it would go out of memory in its "
    "first steps, after the model was downloaded and loaded.",
)
TIGHT = Code(
    "P102",
    "fits-tightly",
    Severity.NOTE,
    "By the formulas the run fits, but with less room than they may be wrong by.",
)


BEYOND_CONTEXT = Code(
    "P103",
    "beyond-the-context",
    Severity.WARNING,
    "Rows are longer than any that the model was trained on: what it learns there is seldom any "
    "good, and memory and time are paid for it.",
)


def check(forecast: Forecast) -> Iterator[Diagnostic]:
    """Yield what is wrong with a run."""
    if beyond_context(forecast.recipe, forecast.job):
        model, rows = forecast.job.model, forecast.job.sequence_len
        span = forecast.recipe.value_span("sequence_len")
        fact = f"sequence_len {rows:,} is more than the {model.context:,} tokens of {model.name}"
        yield BEYOND_CONTEXT.at(span, fact, f"sequence_len: {model.context}")
    yield from _memory(forecast)


def _memory(forecast: Forecast) -> Iterator[Diagnostic]:
    memory, card, recipe = forecast.memory, forecast.hardware.gpu, forecast.recipe
    span = recipe.key_span("micro_batch_size")
    need = (memory.allocated + memory.context) / GIB
    fact = f"the run takes {need:.1f} GiB at its peak, a {card.name} has {card.memory:.1f}"
    file = f"./{recipe.file}" if recipe.file.startswith("-") else recipe.file
    words = [file, *recipe.overrides, "--gpu", card.name]
    hint = f"axr plan {shlex.join(words)} --gpus {forecast.hardware.gpus} --fit"
    match forecast.verdict:
        case Verdict.NO:
            yield TOO_LARGE.at(span, fact, hint)
        case Verdict.TIGHT:
            yield TIGHT.at(span, f"{fact}: less than {MARGIN - 1:.0%} to spare", hint)
        case Verdict.OK:
            pass
