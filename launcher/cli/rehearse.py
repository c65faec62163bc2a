"""``axr rehearse``: the whole recipe on this machine's CPU, minutes before a GPU is rented."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from launcher import recipe as recipes
from launcher.cli import rehearse_panel as panel
from launcher.cli.console import next_commands, say, show, show_problems, typed
from launcher.cli.ground import ask_for_trust, environment, require_stack, runs_foreign_code
from launcher.dataset.sample import Sample
from launcher.diagnostics import has_errors
from launcher.redact import redact
from launcher.rehearse import follow
from launcher.rehearse import rehearsal as rehearsing
from launcher.rehearse.follow import last_lines
from launcher.rehearse.overrides import EVERY, STEPS, Length
from launcher.rehearse.rehearsal import Rehearsal, Report
from launcher.rules.security import foreign_modules
from launcher.validate import validate

TAIL = 8  # lines of the log that are shown where a stage breaks


@dataclass(frozen=True)
class Options:
    """What was asked for beside the recipe and its overrides."""

    ranks: int
    steps: int
    keep: bool
    trust: bool
    as_json: bool


@click.command(
    epilog="\b\nExamples:\n"
    "  axr rehearse llama31-sft-qlora\n"
    "  axr rehearse my.yaml lora_r=64            with a value changed\n"
    "  axr rehearse qwen25-sft --ranks 2         the distributed launch, too\n"
    "  axr rehearse my.yaml --json | jq .problems",
)
@click.argument("name")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--ranks", type=click.IntRange(1, 2), default=1, help="Processes to train on (default: 1)."
)
@click.option(
    "--steps",
    type=click.IntRange(EVERY + 1, 100),
    default=STEPS,
    help=f"Steps of the training (default: {STEPS}).",
)
@click.option("--keep", is_flag=True, help="Keep the folder of the rehearsal, and say where it is.")
@click.option("--trust", is_flag=True, help="Allow the plugins and modules that the recipe names.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rehearse(name: str, overrides: tuple[str, ...], **given: Any) -> int:
    """Run a whole recipe here on the CPU: axolotl itself, the first rows of its data, and a model
    of the same architecture with a few million random weights. Needs no GPU and no weights.
    """
    options = Options(**given)
    recipe = recipes.load(recipes.find(name), overrides)
    found = validate(recipe)
    show_problems(found, recipe.texts, to_stderr=True)
    if has_errors(found):
        return 1
    if any(foreign_modules(recipe)):  # remote code of a model is never run here
        ask_for_trust(runs_foreign_code(found), options.trust)
    require_stack()
    environ = environment(Path(".env"))
    say("reading the first rows of the data...", dim=True)
    samples = rehearsing.rows(recipe, environ)
    if stopped := rehearsing.obstacles(recipe, samples):
        show_problems(stopped, recipe.texts, to_stderr=True)
        return 1
    with _folder(keep=options.keep) as folder:
        ready = [one for one in samples if isinstance(one, Sample)]
        length = Length(options.steps, options.ranks)
        rehearsal = rehearsing.plan(recipe, ready, environ, folder, length)
        report = _followed(rehearsal, environ)
        return _told(rehearsal, report, options)


@contextlib.contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """Make the folder of a rehearsal, and take it away again however it ends: a signal that would
    end this process at once leaves by the same door.
    """
    received: list[int] = []

    def receive(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, receive)
    folder = Path(tempfile.mkdtemp(prefix="axr-rehearse-"))
    try:
        yield folder
    except KeyboardInterrupt:
        if not received:
            raise
        raise click.exceptions.Exit(128 + received[0]) from None
    finally:
        if keep:
            say(f"kept: {folder}", dim=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _followed(rehearsal: Rehearsal, environ: Mapping[str, str]) -> Report:
    """Run it, and say on stderr which stage it is in."""
    with contextlib.ExitStack() as stack:
        tell = stack.enter_context(_spinner()) if sys.stderr.isatty() else _line
        return follow.run(rehearsal, environ, tell)


@contextlib.contextmanager
def _spinner() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Draw the stage that is under way; rich is imported where it draws."""
    from rich.console import Console

    console = Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR")))
    with console.status("starting axolotl...", spinner_style="none") as status:

        def tell(event: Mapping[str, Any]) -> None:
            if event.get("state") == "begin":
                status.update(f"{event['stage']}...")
            elif "step" in event:
                status.update(f"train: step {event['step']} of {event.get('of')}...")

        yield tell


def _line(event: Mapping[str, Any]) -> None:
    if event.get("state") == "begin":
        say(f"{event['stage']}...", dim=True)


def _told(rehearsal: Rehearsal, report: Report, options: Options) -> int:
    """Print what was found; return the exit code."""
    if report.interrupted:
        say(f"stopped by signal {report.interrupted}", fg="red", bold=True)
        return 128 + report.interrupted
    recipe, bad = rehearsal.recipe, has_errors(report.problems)
    log = _saved(rehearsal) if bad and not options.keep else rehearsal.log
    if options.as_json:
        show(json.dumps(panel.data(rehearsal, report, str(log) if bad or options.keep else None)))
        return int(bad)
    for line in panel.lines(rehearsal, report):
        show(line)
    show_problems(report.problems, recipe.texts)
    if any(stage.state == "failed" for stage in report.stages):
        say(f"the last lines of {log}:")
        say("\n".join(f"  {line}" for line in last_lines(log, TAIL).splitlines()), dim=True)
    elif bad or options.keep:
        say(f"all that was said is in {log}")
    say(panel.verdict(report), bold=True, fg="red" if bad else "green")
    words = [typed(recipe.file), *map(shlex.quote, recipe.overrides)]
    if bad:
        next_commands(f"axr rehearse {' '.join(words)}")
    else:
        given = " ".join(words)
        next_commands(f"axr doctor {given}  # on the rented machine", f"axr train {given}")
    return int(bad)


def _saved(rehearsal: Rehearsal) -> Path:
    """Copy the log, secrets hidden, to where it outlives the rehearsal; its weights and caches are
    needed no more, and may be what fills the disk.
    """
    text = rehearsal.log.read_text(encoding="utf-8", errors="replace")
    shutil.rmtree(rehearsal.folder, ignore_errors=True)
    number, name = tempfile.mkstemp(prefix=f"axr-rehearse-{rehearsal.recipe.name}-", suffix=".log")
    with open(number, "w", encoding="utf-8") as stream:
        stream.write(redact(text))
    return Path(name)
