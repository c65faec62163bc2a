"""``axr explain``: what a problem or a key means."""

from __future__ import annotations

import click

from launcher import manual
from launcher.cli import console
from launcher.diagnostics import LauncherError
from launcher.schema.nearest import nearest_key


@click.command(
    epilog="\b\nExamples:\n"
    "  axr explain R301                   a code that axr validate has shown\n"
    "  axr explain evaluation-never-runs  the same by its name\n"
    "  axr explain evals_per_epoch        a key: type, default, who ignores it\n"
    "  axr explain datasets.type          a key of a block or of a list entry\n"
    "  axr explain --all > rules.md       all codes as Markdown"
)
@click.argument("name", metavar="CODE|NAME|KEY", required=False)
@click.option("--all", "everything", is_flag=True, help="Print all codes as one document.")
def explain(name: str | None, everything: bool) -> None:
    """Explain a code or a key of axolotl: what it does, what it costs, an example."""
    if bool(name) == everything:
        raise click.UsageError("give a code, a name or a key, or --all")
    if everything:
        console.show(manual.markdown().rstrip("\n"))
    elif name:
        console.show(_page(name))


def _page(name: str) -> str:
    if found := manual.code(name):
        return _headed(manual.code_page(found))
    keys = manual.keys()
    if name in keys:
        return _headed(manual.key_page(name, keys[name]))
    known = [text for one in manual.codes() for text in (one.code, one.name)]
    near = nearest_key(name, keys) or nearest_key(name, known)
    hint = f"did you mean {near}?" if near else "axr explain --all lists the codes"
    raise LauncherError(f'no code and no key is called "{name}"', hint, exit_code=2)


def _headed(page: str) -> str:
    first, _, rest = page.partition("\n")
    return f"{click.style(first, bold=True)}\n{rest}"
