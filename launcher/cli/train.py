"""``axr train``: how a run may be asked for."""

from __future__ import annotations

from typing import Any

import click

from launcher.cli.finish import finishing
from launcher.cli.ground import Options
from launcher.cli.start import run_recipe


@click.command(
    epilog="\b\nExamples:\n"
    "  axr train qwen25-dpo\n"
    "  axr train my.yaml learning_rate=1.0e-6 datasets.0.path=pairs.jsonl\n"
    "  axr train qwen25-dpo --max-cost 20 --on-finish 'runpodctl stop pod $RUNPOD_POD_ID'\n"
    "  axr train qwen25-sft --auto-resume 5 --end-stalled    left alone overnight\n"
    "  axr train llama31-dpo-lora --gpus 8 --dry-run > run.sh\n"
    "  axr train smollm2-dpo                     runs on a CPU, too\n"
    "  axr train --resume                        go on with the last run\n"
    "  axr train runs/qwen25-dpo-...-abcd        the same again, as a run of its own",
)
@click.argument("words", nargs=-1, metavar="NAME|RUN [KEY=VALUE]...")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with a run from its newest whole checkpoint: of this folder, the last of this "
    "recipe, or the last of all.",
)
@click.option(
    "--gpus", type=click.IntRange(min=1), help="How many GPUs to use (default: all that are found)."
)
@click.option("--nodes", type=click.IntRange(min=1), help="How many machines train together.")
@click.option("--node-rank", type=click.IntRange(min=0), help="Which of them this one is, from 0.")
@click.option("--head", metavar="HOST[:PORT]", help="Where the others find node 0.")
@click.option(
    "--max-hours",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after so many hours, the last three minutes or tenth kept for saving: with a "
    "checkpoint, and exit code 4.",
)
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True),
    metavar="USD",
    help="The same for money, at the machine's price; of a run that is resumed its earlier starts "
    "count for both.",
)
@click.option(
    "--price",
    multiple=True,
    metavar="USD|PROVIDER=USD|FILE",
    help="What a GPU and hour costs here (default: on RunPod and Vast.ai their price, elsewhere "
    "the lowest that is known).",
)
@click.option(
    "--on-finish",
    metavar="COMMAND",
    help="Run this in a shell when the run is over, however it ended, its facts in AXR_STATE, "
    "AXR_RUN and others; not after Ctrl-C.",
)
@click.option(
    "--auto-resume",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    help="After a failure that may pass by itself, as of the network or of another node, go on "
    "from the newest whole checkpoint: N times at most without a new one.",
)
@click.option(
    "--stall-minutes",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Tell where every rank stands when nothing has moved for so long; 0 never does.",
)
@click.option("--end-stalled", is_flag=True, help="End a run that stands still for so long.")
@click.option("--cpu", is_flag=True, help="Train on the CPU, even if the recipe is made for a GPU.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the shell script that would be run; start and write nothing.",
)
@click.option(
    "--skip-doctor", is_flag=True, help="Start whatever the machine's check says, at your own risk."
)
@click.option(
    "--raw", is_flag=True, help="Show all that the training prints; it is in its log, too."
)
@click.option(
    "--trust", is_flag=True, help="Allow the plugins and the remote code that the recipe names."
)
def train(words: tuple[str, ...], resume: bool, on_finish: str | None, **how: Any) -> int:
    """Train a recipe here: check it, make a run folder, start axolotl under accelerate."""
    named = bool(words) and "=" not in words[0]
    if not named and not resume:
        raise click.UsageError("Missing argument 'NAME'.")
    options = Options(resume=resume, **how)
    with finishing(None if options.dry_run else on_finish) as end:
        name = words[0] if named else None
        end.code, end.folder = run_recipe(name, words[named:], options, end)
    return end.code
