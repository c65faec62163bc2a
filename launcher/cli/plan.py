"""``axr plan``: will it fit, how long does it take, what does it cost."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import click
import yaml

from launcher import hardware, history, models
from launcher import recipe as recipes
from launcher.cli import plan_panel as panel
from launcher.cli.console import next_commands, say, show, show_problems
from launcher.diagnostics import LauncherError, has_errors
from launcher.plan import choose, fit
from launcher.plan.compare import offers
from launcher.plan.forecast import Forecast, Hardware, forecast
from launcher.plan.memory import Verdict
from launcher.plan.prices import Price, prices
from launcher.plan.rows import Rows, rows
from launcher.recipe import BLOCK, Recipe
from launcher.rules.batch import whole
from launcher.runs import runs_root
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
    recipe = recipes.load(recipes.find(name), overrides)
    problems = validate(_on(recipe, options.gpu))
    if has_errors(problems):
        show_problems(problems, recipe.texts, to_stderr=True)
        return 1
    facts = _facts(recipe, options)
    machine = _machine(recipe, options)
    known = rows(recipe, os.environ, given=options.rows)
    if options.compare:
        return _compare(recipe, facts, known, options)
    found = forecast(recipe, facts, machine, known)
    offered = prices(machine.gpu.name, options.price)
    if options.as_json:
        show(json.dumps(panel.data(found, offered)))
    else:
        _show(found, facts, known, offered, options)
    if options.dry_run_memory:
        _dry_run(found, options)
    return 1 if found.verdict is Verdict.NO else 0


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
    gpus = options.gpus or max(1, whole(needs.get("gpus")) // options.nodes)
    return Hardware(hardware.find(str(kind)), gpus, options.nodes)


def _show(
    found: Forecast,
    facts: models.ModelFacts,
    known: Rows | None,
    offered: list[Price],
    options: Options,
) -> None:
    recipe = found.recipe
    show(click.style(f"{recipe.block.get('title', recipe.name)}: {found.hardware}", bold=True))
    proposals = (fit.fitting if options.fit else fit.each)(recipe, facts, found.hardware, known)
    lines = [
        *panel.memory_lines(found),
        *panel.saving_lines(proposals[:SHOWN]),
        *panel.run_lines(found),
        *panel.cost_lines(found, offered[:SHOWN]),
        *panel.disk_lines(found),
        *_spread(found, facts, known),
        *panel.past_lines(history.last(runs_root(os.environ, None), recipe.name)),
    ]
    for line in lines:
        show(line)
    if options.fit:
        _propose(proposals, found.verdict is not Verdict.OK)
    elif found.verdict is not Verdict.OK:
        next_commands(f"axr plan {shlex.quote(recipe.file)} --fit")


def _spread(found: Forecast, facts: models.ModelFacts, known: Rows | None) -> Iterator[str]:
    if found.hardware.world < 2:
        return
    changes = choose.allowed(found.recipe, facts)
    if ways := choose.ways(found.recipe, facts, found.hardware, known, changes):
        chosen = choose.best(ways)
        yield from panel.way_lines(chosen, ways, choose.reason(chosen, ways))


def _compare(recipe: Recipe, facts: models.ModelFacts, known: Rows | None, options: Options) -> int:
    found = offers(recipe, facts, known, options.price)
    if options.as_json:
        show(json.dumps([panel.offer_data(offer) for offer in found]))
        return 0 if found else 1
    for line in panel.offer_lines(found):
        show(line)
    if not found:
        say("no machine that is known here is large enough", fg="red")
        next_commands(f"axr plan {shlex.quote(recipe.file)} --gpu a100-80gb --fit")
    return 0 if found else 1


def _dry_run(found: Forecast, options: Options) -> None:
    """Print what the installed code allocates, beside what the formulas say."""
    from launcher.plan import dryrun

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
