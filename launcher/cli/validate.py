"""``axr validate``: every problem of every recipe, at its place."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from launcher import recipe as recipes
from launcher import source
from launcher.cli.console import next_commands, say, show, show_diff, show_problems, typed
from launcher.diagnostics import FORMATS, Diagnostic, LauncherError, has_errors, in_order, summary
from launcher.files import is_folder
from launcher.mend import is_due, mend
from launcher.recipe import Recipe
from launcher.redact import redact
from launcher.validate import validate as check


@dataclass(frozen=True)
class Options:
    """What was asked for beside the paths."""

    form: str
    fix: bool
    diff: bool
    unsafe_fixes: bool
    upstream: bool
    gpu: str | None
    trust: bool


@click.command(
    epilog="\b\nExamples:\n"
    "  axr validate                              all shipped recipes\n"
    "  axr validate my.yaml experiments/         files, and the recipes below folders\n"
    "  axr validate my.yaml --diff               what --fix would change\n"
    "  axr validate my.yaml --fix                mend it where there is no doubt\n"
    "  axr validate my.yaml --upstream           what axolotl itself says, too\n"
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
@click.option("--fix", is_flag=True, help="Mend the files where there is no doubt what was meant.")
@click.option("--diff", is_flag=True, help="Print what --fix would change; change nothing.")
@click.option(
    "--unsafe-fixes", is_flag=True, help="With --fix or --diff: also where it is a guess."
)
@click.option(
    "--upstream", is_flag=True, help="Run axolotl's own validation, too (10 s, once a recipe)."
)
@click.option("--gpu", metavar="KIND", help="With --upstream: on this GPU, not the recipe's own.")
@click.option("--trust", is_flag=True, help="With --upstream: run plugins that are not axolotl's.")
def validate(paths: tuple[str, ...], **given: Any) -> int:
    """Check recipes: unknown and misspelt keys, wrong values, what axolotl lets pass. Needs no GPU
    and no torch.
    """
    options = Options(**given)
    _check(options, paths)
    named = [file for path in paths for file in _files(path)] if paths else recipes.shipped()
    first: dict[Path, Path] = {}
    for file in named:
        first.setdefault(file.resolve(), file)
    files = list(first.values())
    if options.diff:
        return _preview(paths, files, options)
    if options.fix:
        _mend(files, options)
    loaded = [recipes.load(file) for file in files]
    found: Iterable[list[Diagnostic]] = map(check, loaded)
    if options.upstream:
        found = _with_axolotl(loaded, list(found), options)
    problems: list[Diagnostic] = []
    for recipe, own in zip(loaded, found, strict=True):
        if options.form != "sarif":  # one document for all
            show_problems(own, recipe.texts, options.form)
        problems += own
    if options.form == "sarif":
        from launcher.sarif import sarif  # with the manual, which no other form needs

        show(sarif(problems, root=Path.cwd()))
    return _conclude(paths, problems, len(files), options)


def _check(options: Options, paths: tuple[str, ...]) -> None:
    if options.unsafe_fixes and not (options.fix or options.diff):
        hint = "add --diff to see what would change, --fix to change it"
        raise LauncherError("--unsafe-fixes goes with --fix or --diff", hint, exit_code=2)
    if options.fix and options.diff:
        raise LauncherError("--diff changes nothing: give one of --fix and --diff", exit_code=2)
    if options.diff and options.form != "text":
        hint = "leave out one of them"
        raise LauncherError(f"--diff prints text, not {options.form}", hint, exit_code=2)
    if (options.gpu or options.trust) and not options.upstream:
        name = "--gpu" if options.gpu else "--trust"
        raise LauncherError(f"{name} goes with --upstream", exit_code=2)
    if options.fix and not paths:
        raise LauncherError("--fix changes files: name them", "axr validate --fix .", exit_code=2)


def _files(path: str) -> list[Path]:
    """Return the recipes that one argument names: a file, a shipped name, or all below a folder."""
    if not is_folder(path):
        return [recipes.find(path)]
    found, others, away = recipes.below(Path(path))
    if others:
        say(f"left out below {path}: {len(others)} YAML, no recipe", dim=True)
    if away:
        links = f"{len(away)} link{'s' * (len(away) > 1)}"
        say(f"left out below {path}: {links} to what lies elsewhere", dim=True)
    if not found:
        raise LauncherError(f'no recipe in "{path}"', exit_code=2)
    return found


def _preview(paths: tuple[str, ...], files: list[Path], options: Options) -> int:
    """Print what --fix would change, and the command that does; return the exit code."""
    changed = _mend(files, options)
    if changed and paths:
        unsafe = " --unsafe-fixes" if options.unsafe_fixes else ""
        next_commands(f"axr validate {typed(*paths)} --fix{unsafe}")
    return 1 if changed else 0


def _mend(files: list[Path], options: Options) -> int:
    """Apply the fixes to the files, or print them; return how many there are."""
    count = 0
    for file in files:
        document = source.read(file)
        mended = mend(document.text, document.file, unsafe=options.unsafe_fixes)
        if options.diff:
            show_diff(document.file, document.text, mended.text)
        elif mended.fixed:
            source.write(file, mended.text)
            for problem in mended.fixed:
                say(f"fixed {file}:{problem.span.line}: {redact(problem.message)}", fg="green")
        count += len(mended.fixed)
    return count


def _with_axolotl(
    loaded: list[Recipe], found: list[list[Diagnostic]], options: Options
) -> list[list[Diagnostic]]:
    """Return the problems with what axolotl's own validation says, where it can be asked."""
    from launcher import upstream
    from launcher.hardware import find
    from launcher.upstream.place import diagnostics, not_asked

    kind = find(options.gpu) if options.gpu else None
    refused = [[] if options.trust else list(not_asked(recipe)) for recipe in loaded]
    asked = [i for i, recipe in enumerate(loaded) if recipe.value and not refused[i]]
    verdicts = upstream.verdicts(
        [upstream.question(loaded[i], kind) for i in asked],
        upstream.cache_folder(os.environ),
        lambda count: say(f"asking axolotl {upstream.VERSION}: {count} to go...", dim=True),
    )
    said = {
        i: list(diagnostics(loaded[i], verdict, found[i]))
        for i, verdict in zip(asked, verdicts, strict=True)
    }
    return [in_order([*own, *refused[i], *said.get(i, [])]) for i, own in enumerate(found)]


def _conclude(
    paths: tuple[str, ...], problems: list[Diagnostic], files: int, options: Options
) -> int:
    """Print the sum and what to type next; return the exit code."""
    bad = has_errors(problems)
    say(summary(problems, files), bold=True, fg="red" if bad else "green")
    for unsafe, flags in ((False, "--fix"), (True, "--diff --unsafe-fixes")):
        count = sum(is_due(problem, unsafe=unsafe) for problem in problems)
        if count and paths and not (options.fix and not unsafe):
            say(f"{count} of them can be mended", dim=True)
            next_commands(f"axr validate {typed(*paths)} {flags}")
            break
    if len(paths) == 1 and not is_folder(paths[0]) and not problems:
        next_commands(f"axr train {typed(paths[0])} --dry-run")
    return 1 if bad else 0
