"""What was found out, as plain data for machines."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from launcher.diagnostics import render_json
from launcher.preview.rendering import Row
from launcher.preview.view import View


def data(view: View) -> dict[str, Any]:
    """Return all that is known: where the rows are from, facts, problems, and the rows drawn."""
    known = view.rendering.vocabulary if view.rendering else None
    return {
        "recipe": view.recipe.name,
        "entries": [_entry(view, place) for place in range(len(view.samples))],
        "missing": [asdict(one) for one in view.missing],
        "rendered": view.rendering is not None,
        "why": view.why,
        "tokenizer": asdict(known) if known else None,
        "rows_per_second": view.rendering.speed if view.rendering else None,
        "facts": {key: asdict(found) for key, found in view.facts.items()},
        "problems": [json.loads(render_json(one, view.recipe.texts)) for one in view.problems],
    }


def _entry(view: View, place: int) -> dict[str, Any]:
    sample = view.samples[place]
    entry = view.entry(sample)
    return {
        "key": sample.key,
        "index": sample.index,
        "place": sample.place,
        "origin": sample.origin,
        "why": sample.why,
        "total": sample.total,
        "read": len(sample.rows),
        "error": entry.error if entry else "",
        "rows": [_row(row) for row in entry.rows] if entry else [],
    }


def _row(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"number": row.number}
    if row.error:
        return {**found, "error": row.error}
    found |= {
        "tokens": dict(row.tokens or {}),
        "lengths": list(row.lengths),
        "trained": row.trained,
        "kept": row.kept,
        "long": row.long,
        "cut": row.cut,
    }
    if row.parts:
        found["parts"] = {name: [asdict(run) for run in part] for name, part in row.drawn().items()}
    return found
