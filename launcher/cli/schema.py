"""``axr schema``: the closed schema and the facts for rules, from the pinned axolotl."""

from __future__ import annotations

import difflib
import importlib.util

import click

from launcher.cli.console import say
from launcher.diagnostics import LauncherError
from launcher.recipe import pack_folder


@click.command(
    epilog="\b\nExamples:\n"
    "  axr schema           write schemas/recipe.schema.json and schemas/facts.json\n"
    "  axr schema --check   exit 1 if they are not up to date"
)
@click.option("--check", is_flag=True, help="Write nothing; show how the files differ, if they do.")
def schema(check: bool) -> int:
    """Generate the recipe schema, and the facts that rules need, from the installed axolotl."""
    if importlib.util.find_spec("axolotl") is None:
        raise LauncherError("axolotl is not installed here, and all is made from it", "make setup")
    stale = False
    for name, text in _generated().items():
        file = pack_folder("schemas") / name
        committed = file.read_text(encoding="utf-8") if file.exists() else ""
        if text == committed:
            say(f"{file} is up to date")
        elif check:
            stale = True
            click.echo("".join(_difference(committed, text, name)), nl=False)
            say(f"{file} is not what the installed axolotl gives: axr schema", fg="red", bold=True)
        else:
            file.write_text(text, encoding="utf-8")
            say(f"wrote {file}")
    return 1 if stale else 0


def _generated() -> dict[str, str]:
    from rich.console import Console

    with Console(stderr=True).status("reading axolotl's code"):
        from launcher.facts import derive
        from launcher.schema import editor, generate

        folder, known = pack_folder("schemas"), derive.generate()
        models = generate.generate(generate.block_schema(folder))
        dressed = editor.dress(models, known, editor.descriptions(folder))
        return {"recipe.schema.json": generate.render(dressed), derive.FILE: derive.render(known)}


def _difference(committed: str, text: str, name: str) -> list[str]:
    before, after = committed.splitlines(keepends=True), text.splitlines(keepends=True)
    return list(difflib.unified_diff(before, after, f"committed {name}", f"generated {name}"))
