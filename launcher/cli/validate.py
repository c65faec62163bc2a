"""``axr validate``: every problem of every recipe, at its place."""

from __future__ import annotations

from pathlib import Path

import click

from launcher import recipe as recipes
from launcher.cli.console import next_commands, say, show, show_problems
from launcher.diagnostics import FORMATS, Diagnostic, LauncherError, has_errors, summary
from launcher.recipe import SUFFIXES
from launcher.validate import validate as check


@click.command(
    epilog="\b\nExamples:\n"
    "  axr validate                              all shipped recipes\n"
    "  axr validate my.yaml experiments/         files and folders\n"
    "  axr validate my.yaml --format json | jq .message\n"
    "  axr validate experiments/ --format github   annotations on a pull request\n"
    "  axr validate experiments/ --format sarif > axr.sarif",
)
@click.argument("paths", nargs=-1, metavar="[PATH|NAME]...")
@click.option(
    "--format",
    "form",
    type=click.Choice([*FORMATS, "sarif"]),
    default="text",
    help="How to print problems (default: text).",
)
def validate(paths: tuple[str, ...], form: str) -> int:
    """Check recipes: unknown and misspelt keys, wrong values, what axolotl lets pass. Needs no GPU
    and no torch.
    """
    files = [file for path in paths for file in _files(path)] if paths else recipes.shipped()
    problems: list[Diagnostic] = []
    for file in files:
        recipe = recipes.load(file)
        found = check(recipe)
        if form != "sarif":  # one document for all
            show_problems(found, recipe.texts, form)
        problems += found
    if form == "sarif":
        from launcher.sarif import sarif  # with the manual, which no other form needs

        show(sarif(problems, root=Path.cwd()))
    say(summary(problems, len(files)), bold=True, fg="red" if has_errors(problems) else "green")
    if len(paths) == 1 and not Path(paths[0]).is_dir() and not problems:
        next_commands(f"axr train {paths[0]} --dry-run")
    return 1 if has_errors(problems) else 0


def _files(path: str) -> list[Path]:
    """Return the recipes that one argument names: a file, a shipped name, or all below a folder."""
    folder = Path(path)
    if not folder.is_dir():
        return [recipes.find(path)]
    found = sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not found:
        raise LauncherError(f'no .yaml file in "{path}"', exit_code=2)
    return found
