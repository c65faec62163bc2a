"""The preview as one HTML page: it opens without a network, and nothing leaves it.

Every text is escaped, and the policy in its head forbids scripts and requests: rows are hostile. It
is made of plain elements, so a keyboard and a screen reader work; no meaning is in a colour alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape

from launcher.diagnostics import render_text, summary
from launcher.preview.draw import columns_of, counts
from launcher.preview.lines import figures, notes, origins
from launcher.preview.rendering import Row, Run
from launcher.preview.view import View

TOKENS = 4000  # of a text that are drawn

Plain = Callable[[str], str]

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --text: #1b1f24; --line: #d0d7de;
  --masked: #57606a; --trained: #0a5228; --trained-ground: #e2f5e8; --away: #82071e;
  --away-ground: #ffe9ec; --note: #f3f5f7; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --text: #e6e8ea; --line: #3a4148;
  --masked: #a3adb8; --trained: #8fe0a8; --trained-ground: #12301c; --away: #ffb3ba;
  --away-ground: #3a151a; --note: #1e2327; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 100rem; padding: 1rem; background: var(--ground);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3, h4 { font-size: 1rem;
  margin-bottom: .4rem; } h4 { font-weight: 400; margin-top: .4rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: 0 0 .5rem; padding: .75rem; border: 1px solid var(--line); border-radius: .4rem;
  overflow: auto; max-height: 40rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .875rem/1.6 ui-monospace, monospace; }
pre:focus-visible { outline: 3px solid var(--trained); }
.note, .problem { background: var(--note); padding: .5rem .75rem; border-radius: .4rem; }
.parts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem),
  1fr)); }
.m { color: var(--masked); }
.t { color: var(--trained); background: var(--trained-ground); text-decoration: underline
  1px; text-underline-offset: .25em; }
.x { color: var(--away); background: var(--away-ground); text-decoration: underline dashed 1px;
  text-underline-offset: .25em; }
b { font-weight: 700; border: 1px solid; border-radius: .25rem; padding: 0 .1rem; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
LEGEND = (
    '<p><span class="t">trained on</span> <span class="x">trained away from</span> '
    '<span class="m">not trained on</span> <b>special token</b></p>'
)


def html(view: View, count: int, plain: Plain) -> str:
    """Return the page, with the first ``count`` rows of each entry. ``plain`` makes a text of a row
    harmless.
    """

    def safe(text: str) -> str:
        return escape(plain(text))

    title = safe(str(view.recipe.block.get("title", view.recipe.name)))
    out = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}: what the model will see</title>",
        f"<style>{STYLE}</style></head><body><main>",
        f"<h1>{title}: what the model will see</h1>",
        "<dl>",
        *(f"<dt>{label}</dt><dd>{safe(text)}</dd>" for label, text in origins(view)),
        *(f"<dt>{label}</dt><dd>{safe(text)}</dd>" for label, text in figures(view)),
        "</dl>",
        *(f'<p class="note">{safe(text)}</p>' for text in notes(view)),
        *_problems(view, safe),
        "<h2>Rows</h2>",
        LEGEND,
        *_rows(view, count, safe),
        "</main></body></html>",
    ]
    return "\n".join(out) + "\n"


def _problems(view: View, safe: Plain) -> Iterator[str]:
    yield f"<h2>Problems</h2><p>{safe(summary(view.problems, 1))}</p>"
    for one in view.problems:
        yield _scrolled(safe(render_text(one, view.recipe.texts)), f"{one.code} {one.name}")


def _rows(view: View, count: int, safe: Plain) -> Iterator[str]:
    for sample in view.samples:
        entry = view.entry(sample)
        for place in range(min(count, len(sample.rows))):
            row = entry.rows[place] if entry and place < len(entry.rows) else None
            title = f"{sample.key}[{sample.index}] row {place + 1}"
            if row and row.error:
                yield f'<h3>{title}</h3><p class="problem">{safe(row.error)}</p>'
            elif row and row.parts:
                yield f"<h3>{title}, {counts(row)}</h3>"
                yield from _parts(row, title, safe)
            else:
                yield f"<h3>{title}</h3>"
                text = "\n".join(f"{name}: {value}" for name, value in columns_of(sample, place))
                yield _scrolled(safe(text), title)


def _parts(row: Row, title: str, safe: Plain) -> Iterator[str]:
    yield '<div class="parts">'
    for name, found in row.drawn(TOKENS).items():
        text = "".join(_run(name, run, safe) for run in found)
        yield f"<section><h4>{name}</h4>{_scrolled(text, f'{title}: {name}')}</section>"
    yield "</div>"


def _run(name: str, run: Run, safe: Plain) -> str:
    if run.hidden:
        return f"<strong> ... {run.tokens:,} tokens ... </strong>"
    kind = ("x" if name == "rejected" else "t") if run.trained else "m"
    text = safe(run.text).replace("\n", "\u23ce\n")
    return f'<span class="{kind}">{f"<b>{text}</b>" if run.special else text}</span>'


def _scrolled(text: str, label: str) -> str:
    """Return a text in a box that a keyboard can scroll."""
    return f'<pre tabindex="0" role="region" aria-label="{escape(label)}">{text}</pre>'
