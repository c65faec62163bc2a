"""The child that renders rows through axolotl: ``python -m launcher.preview.render``.

It reads a question a line, and answers each with lines: ``{"rows": 17}`` while it goes on, then
``{"answer": {...}}``, or ``{"refused": ["why", "remedy"]}`` where axolotl takes the recipe for
wrong. A question holds the ``config``, the ``capabilities`` of the GPU and the version of
``torch``, the ``entries`` with their rows, how many of them to ``draw``, and a ``folder`` of its
own. No weights are loaded. A row that raises is an answer, too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from launcher.preview.rendering import Refused, Unknown, words

Told = Callable[[int], None]


def answer(question: dict[str, Any], told: Told) -> dict[str, Any]:
    """Return the rows of a question, rendered. Raises `Refused`."""
    from launcher.preview import tokens

    cfg = validated(question)
    tokenizer, vocabulary = tokens.load(cfg, question)
    done, times, entries = 0, [], []
    for entry in question["entries"]:
        found: dict[str, Any] = {"key": entry["key"], "index": entry["index"], "rows": []}
        try:
            for row, seconds in _rows(cfg, tokenizer, entry, question["draw"]):
                found["rows"].append(row)
                if row["number"] > question["draw"] and "error" not in row:
                    times.append(seconds)  # the first ones import, and are drawn
                done += 1
                told(done)
        except Unknown as problem:
            found |= {"rows": [], "error": str(problem), "known": False}
        except Exception as problem:  # whatever axolotl raises is its answer
            found |= {"rows": [], "error": words(problem)}
        entries.append(found)
    vocabulary["split"] = tokens.split(cfg, tokenizer, question["entries"], entries)
    return {
        "entries": entries,
        "vocabulary": vocabulary,
        "speed": len(times) / sum(times) if times else 0.0,
        "processes": cfg.dataset_num_proc or 1,
    }


def validated(question: dict[str, Any]) -> Any:
    """Return the config as axolotl completes it. Raises `Refused`."""
    from axolotl.utils.config import prepare_plugins, validate_config
    from axolotl.utils.dict import DictDefault

    raw = DictDefault({**question["config"], "output_dir": question["folder"]})
    try:
        prepare_plugins(raw)
        torch = {"torch_version": question["torch"]}
        return validate_config(raw, dict(question["capabilities"]), torch)
    except Exception as problem:  # whatever axolotl raises is its verdict
        fact = f"axolotl refuses this recipe: {words(problem)}"
        raise Refused(fact, "axr validate --upstream says where") from problem


def _rows(
    cfg: Any, tokenizer: Any, entry: dict[str, Any], draw: int
) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield each row as the model gets it, and the seconds that it took. Raises what axolotl raises
    for all rows, and `Unknown`.
    """
    from launcher.preview import pairs, supervised

    one = (pairs.renderer if cfg.rl else supervised.renderer)(cfg, tokenizer, entry)
    for number, row in enumerate(_typed(entry["rows"]), start=1):
        start = time.perf_counter()
        try:
            found = one(row, number <= draw)
        except Exception as problem:  # of this row; the next may be good
            found = {"error": words(problem)}
        yield {"number": number, **found}, time.perf_counter() - start


def _typed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows as the datasets library would hold them: every row has every column, and
    every mapping every key, with none where it has not. Rows that it cannot hold stay as they are.
    """
    from datasets import Dataset

    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        return list(Dataset.from_dict({name: [row.get(name) for row in rows] for name in names}))
    except Exception:  # pyarrow has many; that they do not fit is told by another check
        return rows


def _main() -> None:
    lines, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr  # axolotl prints
    os.dup2(2, 1)

    def write(line: dict[str, Any]) -> None:
        lines.write(json.dumps(line) + "\n")
        lines.flush()

    for text in sys.stdin:
        question = json.loads(text)
        signal.alarm(question["seconds"])  # where whoever asks is killed meanwhile, too
        Path(question["folder"]).mkdir(parents=True, exist_ok=True)
        try:
            write({"answer": answer(question, lambda done: write({"rows": done}))})
        except Refused as problem:
            write({"refused": problem.args})


if __name__ == "__main__":
    _main()
