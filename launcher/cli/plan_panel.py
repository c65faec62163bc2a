"""What ``axr plan`` prints: a forecast as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import click

from launcher.hardware import GIB
from launcher.history import PastRun
from launcher.plan.choose import Way, best, reason
from launcher.plan.compare import Offer
from launcher.plan.data.rows import Rows
from launcher.plan.fit import Saving
from launcher.plan.forecast import Forecast
from launcher.plan.memory import MARGIN, Phase, Verdict
from launcher.plan.prices import START_MINUTES, Price
from launcher.progress import duration

WIDTH = 64  # characters of a bar: the whole card
# Of each term: the letter that stands in the bar, the colour, the words.
TERMS = {
    "weights": ("w", "blue", "weights"),
    "adapters": ("d", "cyan", "adapters"),
    "gradients": ("g", "green", "gradients"),
    "optimizer": ("o", "yellow", "optimizer"),
    "reference": ("r", "magenta", "reference model"),
    "activations": ("a", "bright_blue", "activations"),
    "logits": ("l", "red", "logits and loss"),
    "buffers": ("b", "bright_black", "buffers"),
    "context": ("c", "white", "CUDA context"),
}
VERDICTS = {Verdict.OK: "green", Verdict.TIGHT: "yellow", Verdict.NO: "red"}


def gib(amount: float) -> str:
    """Return bytes as GiB with one digit."""
    return f"{amount / GIB:.1f}"


def sentence(found: Forecast) -> str:
    """Return the forecast in one line."""
    need = found.memory.allocated + found.memory.context
    parts = [f"{gib(need)} GiB of {found.hardware.gpu.memory:.1f}: {found.verdict.value}"]
    if found.hours:
        full = "" if found.length.measured else " if every row is full"
        parts.append(f"{duration(found.hours.likely)}{full}, {found.length.steps:,} steps")
    else:
        parts.append(f"{duration(found.seconds_a_sample * 1000 / 3600)} for 1,000 samples")
    return "; ".join(parts)


def past_lines(past: Sequence[PastRun]) -> Iterator[str]:
    """Yield the last real runs of the recipe."""
    for number, one in enumerate(past):
        how = one.progress
        parts = [f"{how.seconds_a_step:.3g} s a step"]
        parts += [f"peak {how.peak_gib:.1f} GiB"] if how.peak_gib else []
        parts += [f"{how.tokens_per_second:,.0f} tokens/s"] if how.tokens_per_second else []
        parts += [f"{one.minutes:.0f} min, {one.state}" if one.minutes else one.state]
        label = _label("" if number else "runs")
        yield f"{label}{one.name} on {one.machine}: {', '.join(parts)}"


def memory_lines(found: Forecast) -> Iterator[str]:
    """Yield the verdict, the bar of the peak with its terms, and the peak of each phase."""
    memory, card = found.memory, found.hardware.gpu
    verdict = click.style(found.verdict.value, fg=VERDICTS[found.verdict], bold=True)
    total = memory.allocated + memory.context
    left = f"{gib(found.free)} free" if found.free >= 0 else f"{gib(-found.free)} too much"
    yield f"{_label('memory')}{gib(total)} GiB of {card.memory:.1f} on each GPU: {verdict}, {left}"
    yield f"{_label('')}{bar(memory.peak, memory.context, card.memory_bytes)}"
    terms = {**memory.peak.terms, "context": memory.context}
    parts = [f"{_mark(name)} {TERMS[name][2]} {gib(size)}" for name, size in terms.items()]
    yield from _wrapped(parts, "  ")
    peaks = [f"{phase.name} {gib(phase.allocated)}" for phase in memory.phases]
    yield f"{_label('phases')}{', '.join(peaks)}: the {memory.peak.name} decides"
    if found.verdict is not Verdict.OK:
        yield f"{_label('')}OK means room for {MARGIN - 1:.0%} more than the formula says"
    if not found.length.complete and not found.job.packed:
        yield f"{_label('')}an upper bound: with every row as long as sequence_len"


def bar(phase: Phase, context: float, card: float) -> str:
    """Return one line as wide as the card: each term by its letter, dots for what is free, a stroke
    where the card ends. What is too much goes beyond it, by a card at most.
    """
    letters, used = "", 0.0
    for name, size in {**phase.terms, "context": context}.items():
        used += size
        letters += TERMS[name][0] * (min(round(used / card * WIDTH), 2 * WIDTH) - len(letters))
    letters = letters.ljust(WIDTH, ".")
    colours = {letter: colour for letter, colour, _ in TERMS.values()}
    runs = groupby(f"{letters[:WIDTH]}|{letters[WIDTH:]}")
    return "".join(click.style("".join(run), fg=colours.get(letter)) for letter, run in runs)


def saving_lines(savings: Sequence[Saving]) -> Iterator[str]:
    """Yield what lowers the peak, by how much, and what it costs in time."""
    for number, saving in enumerate(savings):
        names = " + ".join(change.name for change in saving.changes)
        after = saving.after
        verdict = click.style(after.verdict.value, fg=VERDICTS[after.verdict])
        effect = f"-{gib(saving.bytes)} GiB, time {saving.slower:+.0%}: {verdict}"
        host = after.host.needed
        if host > 2 * saving.before.host.needed:
            effect += f", {gib(host)} GiB of host memory"
        yield f"{_label('lower' if not number else '')}{names:<28} {effect}"


def run_lines(found: Forecast, known: Rows | None) -> Iterator[str]:
    """Yield batch, steps, tokens, hours."""
    job, size, speed = found.job, found.length, found.speed
    what = "pairs" if job.preference else "rows"
    batch = f"{job.micro_batch} a GPU x {job.accumulation} x {found.hardware.world}"
    what = what[:-1] if size.samples_a_step == 1 else what
    steps = f"{size.steps:,} steps" if size.steps is not None else "steps not known"
    tokens = f", {found.tokens / 1e6:,.1f} M tokens" if found.tokens else ""
    yield f"{_label('batch')}{batch} = {size.samples_a_step} {what} a step, {steps}{tokens}"
    if known:
        yield f"{_label('')}{known.count:,} rows, {known.source}"
    rate = f"{speed.tokens_per_second:,.0f} tokens/s a GPU, bound by {speed.bound}"
    hours = found.hours
    if hours is None:
        each = found.seconds_a_sample * 1000 / 3600
        yield f"{_label('time')}{duration(each)} for 1,000 samples; {rate}"
        yield f"{_label('')}the number of rows is not known here: give it with --rows"
    else:
        band = f"{duration(hours.low)} to {duration(hours.high)}"
        full = "" if size.measured else " if every row is full"
        yield f"{_label('time')}{duration(hours.likely)}{full} ({band}); {rate}"
    if size.evaluations and not size.evaluation_known:
        yield f"{_label('')}without its evaluations: the rows of a test set are not known here"
    yield f"{_label('')}the band is that of: {speed.band.kind}"


def cost_lines(found: Forecast, offered: Sequence[Price]) -> Iterator[str]:
    """Yield what the run costs at each price, or what an hour costs where its length is unknown."""
    world = found.hardware.world
    for number, price in enumerate(offered):
        usd, hour = found.cost(price), price.usd * price.rented(world)
        amount = f"${usd.likely:,.2f} (${usd.low:,.2f} to ${usd.high:,.2f})" if usd else ""
        facts = [f"{price.as_of or 'date unknown'}"]
        facts += [price.kind] if price.kind != "on-demand" else []
        facts += [f"{price.rented(world)} GPUs rented"] if price.rented(world) > world else []
        place = f"${hour:,.2f} an hour at {price.provider} ({', '.join(facts)})"
        yield f"{_label('' if number else 'cost')}{amount + ', ' if amount else ''}{place}"
    if offered and found.hours:
        yield f"{_label('')}with {START_MINUTES:.0f} min to start, which are assumed"
    if not offered:
        yield f"{_label('cost')}no price of {found.hardware.gpu.name} is known: give one, --price"


def disk_lines(found: Forecast) -> Iterator[str]:
    """Yield the disk at its two moments by term, and the host's memory."""
    disk = found.disk
    before = {"model": disk.model, "prepared data": disk.prepared}
    saving = {**before, "checkpoints": disk.checkpoints}
    end = {**before, "checkpoints": disk.kept, "result": disk.final, "beside it": disk.beside}
    end["if you merge"] = disk.merged
    for number, (moment, terms) in enumerate({"while saving": saving, "at the end": end}.items()):
        parts = ", ".join(f"{name} {gib(size)}" for name, size in terms.items() if size > GIB / 20)
        total = f"{gib(sum(terms.values()))} GiB {moment}"
        yield f"{_label('' if number else 'disk')}{total}: {parts}"
    yield f"{_label('')}without the data as it is downloaded"
    yield f"{_label('host')}{gib(found.host.needed)} GiB of memory on each node"


def offer_lines(offers: Sequence[Offer]) -> Iterator[str]:
    """Yield a table of machines, the cheapest first."""
    if not offers:
        return
    unit = "" if offers[0].way.forecast.hours else " for 1,000"
    head = f"{'machine':<22} {'cost' + unit:<16} {'time' + unit:<16} {'spread':<7} {'free':>9}"
    yield click.style(f"{head}  at", bold=True)
    for offer in offers:
        found, price = offer.way.forecast, offer.price
        cost = f"${offer.usd:,.2f}" if offer.usd is not None else "?"
        spread = offer.way.change.name if offer.hardware.world > 1 else "-"
        where = (
            f"{price.provider} {price.usd:.2f}, {price.as_of or 'date unknown'}" if price else ""
        )
        batch = f", {offer.batch.name}" if offer.batch.settings else ""
        row = f"{offer.hardware!s:<22} {cost:<16} {duration(offer.hours):<16} {spread:<7}"
        yield f"{row} {gib(found.free):>5} GiB  {where}{batch}"


def way_lines(found: Forecast, ways: Sequence[Way]) -> Iterator[str]:
    """Yield the ways to spread the run, which is planned here, which is best and why."""
    chosen = best(list(ways)) if ways else None
    for way in ways:
        one = way.forecast
        marks = ["best"] if way is chosen else []
        marks += ["planned here"] if one.job.sharding == found.job.sharding else []
        verdict = click.style(f"{one.verdict.value:<5}", fg=VERDICTS[one.verdict])
        need = gib(one.memory.allocated + one.memory.context)
        rate = f"{1 / one.seconds_a_sample:,.1f} samples/s"
        label = _label("spread" if way is ways[0] else "")
        note = f"  {', '.join(marks)}" if marks else ""
        yield f"{label}{way.change.name:<7} {need:>6} GiB  {verdict} {rate}{note}"
    if chosen:
        yield f"{_label('')}{reason(chosen, list(ways))}"


def _label(text: str) -> str:
    return click.style(f"{text:<9}", bold=True)


def _mark(name: str) -> str:
    letter, colour, _ = TERMS[name]
    return click.style(letter, fg=colour, bold=True)


def _wrapped(parts: Sequence[str], between: str) -> Iterator[str]:
    """Yield lines of a few parts each, as wide as the bar."""
    line: list[str] = []
    for part in parts:
        if line and len(click.unstyle(between.join([*line, part]))) > WIDTH + 8:
            yield f"{_label('')}{between.join(line)}"
            line = []
        line.append(part)
    yield f"{_label('')}{between.join(line)}"
