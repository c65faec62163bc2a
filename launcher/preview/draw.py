"""Rows on a terminal: special tokens visible, what is trained on in colour, the rest in grey.

All text of rows goes through ``console.plain``. Without colours a mark at the start of each line
says the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from launcher.dataset.sample import Sample
from launcher.preview.rendering import Entry, Row, Run, shown
from launcher.preview.view import View

WIDE = 120  # columns, from which a pair is drawn side by side
TOKENS = 240  # of a text that are drawn
LETTERS = 400  # of a column that is drawn as it is
MASKED = "bright_black"
STYLES = {"rejected": "red"}  # of trained tokens; any other is green
MARKS = {"rejected": "- "}  # without colours; any other is "+ "
LEGEND = "green: trained on   red: trained away from   grey: not trained on"
MARKED = "+ trained on   - trained away from   . not trained on"

Plain = Callable[[str], str]


def drawn(view: View, count: int, *, width: int, colour: bool, plain: Plain) -> str:
    """Return the first ``count`` rows of each entry as text of this width. ``plain`` makes a text
    of a row harmless.
    """
    out = StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    for sample in view.samples:
        entry = view.entry(sample)
        for place in range(min(count, len(sample.rows))):
            row = entry.rows[place] if entry and place < len(entry.rows) else None
            _row(console, sample, place, row, plain)
    if view.rendering and count and any(_has_parts(entry) for entry in view.rendering.entries):
        console.print(Text(LEGEND if colour else MARKED, style=MASKED))
    return out.getvalue()


def _has_parts(entry: Entry) -> bool:
    return any(row.parts for row in entry.rows)


def _row(console: Console, sample: Sample, place: int, row: Row | None, plain: Plain) -> None:
    title = f"{sample.key}[{sample.index}] row {place + 1}"
    if row and row.error:
        console.print(Text(f"{title}: {plain(row.error)}", style="bold red"))
        return
    if row is None or not row.parts:
        console.print(Text(title, style="bold"))
        for name, value in columns_of(sample, place):
            console.print(Text(f"  {plain(name)}: {plain(value)}"))
        console.print()
        return
    kept = "" if row.kept else f", dropped: too {'long' if row.long else 'short'}"
    console.print(Text(f"{title}, {counts(row)}{kept}", style="bold"))
    _parts(console, row, plain)


def columns_of(sample: Sample, place: int) -> Iterator[tuple[str, str]]:
    """Yield the columns of a row as it is, the middle of long values left out."""
    for name, value in sample.rows[place].items():
        yield str(name), _value(value)


def counts(row: Row) -> str:
    """Return how many tokens a row has."""
    found = row.tokens or {}
    if len(found) == 1:
        return f"{row.longest:,} tokens, {row.trained:,} trained on"
    return "tokens: " + ", ".join(f"{name} {count:,}" for name, count in found.items())


def _parts(console: Console, row: Row, plain: Plain) -> None:
    parts = row.drawn(TOKENS)
    colour = console.is_terminal
    if colour and len(parts) > 1 and console.width >= WIDE:
        table = Table(expand=True, box=None, padding=(0, 2, 0, 0))
        for name in parts:
            table.add_column(name, ratio=1, overflow="fold", header_style="bold")
        table.add_row(*(_coloured(name, found, plain) for name, found in parts.items()))
        console.print(table)
    else:
        for name, found in parts.items():
            if len(parts) > 1:
                console.print(Text(name, style="bold"))
            if colour:
                console.print(_coloured(name, found, plain))
            else:
                for line in _marked(name, found, plain):
                    console.print(Text(line), soft_wrap=True)
    console.print()


def _coloured(name: str, found: Sequence[Run], plain: Plain) -> Text:
    text = Text(overflow="fold")
    for run in found:
        if run.hidden:
            text.append(f" ... {run.tokens:,} tokens ... ", style="bold")
            continue
        style = STYLES.get(name, "green") if run.trained else MASKED
        text.append(_visible(plain(run.text)), style=f"bold {style}" if run.special else style)
    return text


def _visible(text: str) -> str:
    return text.replace("\n", "\u23ce\n")


def _marked(name: str, found: Sequence[Run], plain: Plain) -> Iterator[str]:
    """Yield lines, each with a mark for what it is: a line ends where the kind changes, too."""
    line, mark = "", ""
    for run in found:
        own = MARKS.get(name, "+ ") if run.trained else ". "
        if run.hidden:
            own, text = "  ", f"... {run.tokens:,} tokens ..."
        else:
            text = plain(run.text)
        if own != mark and line:
            yield mark + line
            line = ""
        mark = own
        *whole, line = (line + text).split("\n")
        yield from (f"{mark}{one}\u23ce" for one in whole)
    if line:
        yield mark + line


def _value(value: Any) -> str:
    """Return a value of a row, its middle left out where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = shown(text)
    if len(text) <= LETTERS:
        return text
    half = LETTERS // 2
    return f"{text[:half]} ... {len(text) - 2 * half:,} letters ... {text[-half:]}"
