"""``axr plan``: will it fit, how long does it take, what does it cost."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import asdict, dataclass, replace
from typing import Any

import click
import yaml

from launcher import hardware, history, models
from launcher import recipe as recipes
from launcher.cli import plan_data as data
from launcher.cli import plan_panel as panel
from launcher.cli.console import next_commands, say, show, show_problems, typed
from launcher.diagnostics import LauncherError, has_errors
from launcher.plan import choose, fit
from launcher.plan.check import BEYOND_CONTEXT, check
from launcher.plan.compare import offers
from launcher.plan.data.rows import Rows, rows
from launcher.plan.forecast import Forecast, Hardware
from launcher.plan.memory import Verdict
from launcher.plan.prices import Price, prices
from launcher.recipe import BLOCK, Recipe
from launcher.rules.batch import whole
from launcher.runs.folder import runs_root
from launcher.validate import validate

SHOWN = 4  # savings that are listed


@dataclass(frozen=True)
class Options:
    """What was asked for beside the recipe and its overrides."""

    gpu: str | None
    gpus: int | None
    nodes: int
    rows: int | None
    price: tuple[str, ...]
    fit: bool
    compare: bool
    dry_run_memory: bool
    fetch: bool
    as_json: bool


@click.command(
    epilog="\b\nExamples:\n"
    "  axr plan qwen25-dpo                       on the GPU that the recipe names\n"
    "  axr plan my.yaml --gpu rtx4090-24gb --fit   what makes it fit a smaller card\n"
    "  axr plan qwen25-sft --gpu a100-80gb --gpus 8 --nodes 2\n"
    "  axr plan my.yaml --compare                GPUs side by side, the cheapest first\n"
    "  axr plan my.yaml --price runpod=1.19      at a price of your own\n"
    "  axr plan my.yaml micro_batch_size=4 --json | jq .memory_gib.allocated",
)
@click.argument("name")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--gpu", metavar="KIND", help="The kind of GPU (default: the recipe's own).")
@click.option("--gpus", type=click.IntRange(1), help="GPUs of a node (default: the recipe's own).")
@click.option("--nodes", type=click.IntRange(1), default=1, help="Nodes (default: 1).")
@click.option("--rows", type=click.IntRange(1), help="Rows, or pairs, of the data.")
@click.option(
    "--price",
    multiple=True,
    metavar="USD|PROVIDER=USD|FILE",
    help="A GPU and hour in USD, for all or one provider; or a table like schemas/prices.tsv.",
)
@click.option("--fit", is_flag=True, help="Propose what makes the recipe fit.")
@click.option("--compare", is_flag=True, help="Compare kinds and numbers of GPUs.")
@click.option(
    "--dry-run-memory",
    is_flag=True,
    help="Run the installed model code without data, too, and compare (needs torch, seconds).",
)
@click.option("--fetch", is_flag=True, help="Ask the Hub for config.json if it is not known here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(name: str, overrides: tuple[str, ...], **given: Any) -> int:
    """Forecast a run: memory, time, cost, disk. Needs no GPU, no network and no torch."""
    options = Options(**given)
    _check(options)
    recipe = recipes.load(recipes.find(name), overrides)
    problems = validate(_on(recipe, options.gpu))
    if has_errors(problems):
        show_problems(problems, recipe.texts, to_stderr=True)
        return 1
    facts = _facts(recipe, options)
    known = rows(recipe, os.environ, given=options.rows)
    if options.compare:
        return _compare(recipe, facts, known, options)
    machine = _machine(recipe, options)
    found, _ = choose.planned(recipe, facts, machine, known)
    view = View(found, facts, known, prices(machine.gpu.name, options.price, gpus=machine.world))
    told = [one for one in check(found) if one.code == BEYOND_CONTEXT.code]
    show_problems(told, recipe.texts, to_stderr=True)
    if options.as_json:
        show(json.dumps(_data(view, options)))
    else:
        _show(view, options)
    if options.dry_run_memory:
        _dry_run(found, options)
    fits = found.verdict is Verdict.OK
    # What --fit prints is to be written into the recipe.
    if not options.as_json and (fits or not options.fit):
        next_commands(_next(name, overrides, options, found.verdict))
    return 1 if found.verdict is Verdict.NO else 0


@dataclass(frozen=True)
class View:
    """A forecast with all that it was made from."""

    forecast: Forecast
    facts: models.ModelFacts
    rows: Rows | None
    prices: list[Price]

    def proposals(self, fitting: bool) -> list[fit.Saving]:
        """Return what lowers the peak, or what makes the recipe fit."""
        found = self.forecast
        return (fit.fitting if fitting else fit.each)(
            found.recipe, self.facts, found.hardware, self.rows
        )

    def ways(self) -> list[choose.Way]:
        """Return the ways to spread the run over its GPUs; none on one."""
        found = self.forecast
        if found.hardware.world < 2:
            return []
        changes = choose.allowed(found.recipe, self.facts)
        return choose.ways(found.recipe, self.facts, found.hardware, self.rows, changes)

    def past(self) -> list[history.PastRun]:
        """Return the last real runs of the recipe."""
        recipe = self.forecast.recipe
        return history.last(runs_root(os.environ, None), recipe.name, settings=recipe.settings)


def _check(options: Options) -> None:
    alone = {
        "--gpu": options.gpu,
        "--gpus": options.gpus,
        "--nodes": options.nodes > 1,
        "--fit": options.fit,
        "--dry-run-memory": options.dry_run_memory,
    }
    if options.compare and (given := [flag for flag, value in alone.items() if value]):
        fact = f"--compare goes through the machines by itself, without {' and '.join(given)}"
        raise LauncherError(fact, exit_code=2)
    if options.compare and any(re.fullmatch(r"[\d.]+", price) for price in options.price):
        fact = "--compare has many kinds of GPU, and the price says not of which it is"
        raise LauncherError(fact, "for example --price a100-80gb=1.79", exit_code=2)


def _next(name: str, overrides: tuple[str, ...], options: Options, verdict: Verdict) -> str:
    """Return what to type next: what would be started, or what makes it fit."""
    words = [typed(name), *([shlex.join(overrides)] if overrides else ())]
    if verdict is Verdict.OK:
        gpus = [f"--gpus {options.gpus}"] if options.gpus else []
        if options.nodes > 1:
            gpus += [f"--nodes {options.nodes} --node-rank 0 --head HOST"]
        return f"axr train {' '.join([*words, *gpus])} --dry-run"
    for flag, value in (("--gpu", options.gpu), ("--gpus", options.gpus), ("--rows", options.rows)):
        words += [f"{flag} {shlex.quote(str(value))}"] if value else []
    words += [f"--nodes {options.nodes}"] if options.nodes > 1 else []
    return f"axr plan {' '.join(words)} --fit"


def _on(recipe: Recipe, gpu: str | None) -> Recipe:
    """Return the recipe as if it named this GPU: some settings do not work on every kind."""
    if gpu is None:
        return recipe
    needs = {"gpus": 1, "disk": 1, **(recipe.block.get("needs") or {})}
    block = {"title": recipe.name, "method": "sft", **recipe.block}
    named = {**block, "needs": {**needs, "gpu": hardware.find(gpu).name}}
    return replace(recipe, value={**recipe.value, BLOCK: named})


def _facts(recipe: Recipe, options: Options) -> models.ModelFacts:
    name = str(recipe.value.get("base_model"))
    revision = str(recipe.value.get("revision_of_model") or "main")
    try:
        return models.find(name, os.environ, revision=revision)
    except models.UnsupportedModel:
        raise
    except LauncherError:
        if not options.fetch:
            raise
        say(f"asking the Hub for config.json of {name}...", dim=True)
        return models.fetch(name, os.environ, revision=revision)


def _machine(recipe: Recipe, options: Options) -> Hardware:
    """Return the machine that is asked for: what is not said, the recipe says."""
    needs = recipe.block.get("needs") or {}
    kind = options.gpu or needs.get("gpu")
    if not kind or kind == "none":
        fact = f"{recipe.name} names no GPU" if not kind else f"{recipe.name} runs on a CPU"
        raise LauncherError(fact, "name one: --gpu a100-80gb", exit_code=2)
    gpus, rest = divmod(max(1, whole(needs.get("gpus"))), options.nodes)
    if options.gpus is None and (rest or not gpus):
        fact = f"{needs.get('gpus')} GPUs do not divide among {options.nodes} nodes"
        raise LauncherError(fact, "say how many a node has: --gpus 8", exit_code=2)
    return Hardware(hardware.find(str(kind)), options.gpus or gpus, options.nodes)


def _show(view: View, options: Options) -> None:
    found = view.forecast
    title = found.recipe.block.get("title", found.recipe.name)
    show(f"{title}: {found.hardware}", bold=True)
    proposals, ways = view.proposals(options.fit), view.ways()
    lines = [
        *panel.memory_lines(found),
        *panel.saving_lines(proposals[:SHOWN]),
        *panel.run_lines(found, view.rows),
        *panel.cost_lines(found, view.prices[:SHOWN]),
        *panel.disk_lines(found),
        *panel.way_lines(found, ways),
        *panel.past_lines(view.past()),
    ]
    for line in lines:
        show(line)
    if options.fit:
        _propose(proposals, found.verdict is not Verdict.OK)


def _data(view: View, options: Options) -> dict[str, Any]:
    """Return all that `_show` prints as plain data."""
    found = view.forecast
    return {
        **data.forecast_data(found, view.prices),
        "rows": view.rows and {"count": view.rows.count, "source": view.rows.source},
        "savings": [data.saving_data(one) for one in view.proposals(options.fit)],
        "ways": [data.way_data(way) for way in view.ways()],
        "past_runs": [asdict(run) for run in view.past()],
    }


def _compare(recipe: Recipe, facts: models.ModelFacts, known: Rows | None, options: Options) -> int:
    found = offers(recipe, facts, known, options.price)
    if options.as_json:
        show(json.dumps([data.offer_data(offer) for offer in found]))
        return 0 if found else 1
    for line in panel.offer_lines(found):
        show(line)
    words = [typed(recipe.file), *([shlex.join(recipe.overrides)] if recipe.overrides else ())]
    if found:
        best = found[0].hardware
        words += [f"--gpu {best.gpu.name} --gpus {best.world}"]
        next_commands(f"axr plan {' '.join([*words, *map(shlex.quote, found[0].batch.pairs)])}")
    else:
        say("no machine that is known here is large enough", fg="red")
        next_commands(f"axr plan {' '.join(words)} --gpu a100-80gb --fit")
    return 0 if found else 1


def _dry_run(found: Forecast, options: Options) -> None:
    """Print what the installed code allocates, beside what the formulas say."""
    from launcher.plan.dry import peaks as dryrun

    name = str(found.recipe.value.get("base_model"))
    revision = str(found.recipe.value.get("revision_of_model") or "main")
    config, _ = models.config(name, os.environ, revision=revision)
    say("running the installed model code without data...", dim=True)
    try:
        (peak,) = dryrun.peaks([(found.job, config)])
    except ValueError as problem:
        raise LauncherError(str(problem), exit_code=1) from None
    said = found.memory.allocated
    text = f"dry run  {panel.gib(peak.allocated)} GiB allocated; the formulas say {panel.gib(said)}"
    say(f"{text} ({said / peak.allocated - 1:+.1%})") if options.as_json else show(text)


def _propose(savings: list[fit.Saving], needed: bool) -> None:
    """Print the settings to paste of the best proposal."""
    if not needed:
        say("it fits as it is", fg="green")
    elif not savings or savings[0].after.verdict is not Verdict.OK:
        say("nothing that is known here makes it fit", fg="yellow")
    else:
        best = savings[0]
        new = {key: value for key, value in best.settings.items() if value is not None}
        old = [key for key in best.settings if key not in new and best.before.recipe.value.get(key)]
        say("\nto write into the recipe:", bold=True)
        show(yaml.safe_dump(new, sort_keys=False, default_flow_style=False).rstrip())
        if old:
            say(f"to delete from it: {', '.join(old)}")
        for change in best.changes:
            if change.note:
                say(f"note: {change.name} {change.note}")
