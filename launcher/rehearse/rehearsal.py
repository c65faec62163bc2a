"""A rehearsal before and after it runs: what is gathered and written, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import models, runs
from launcher.cpu import Change
from launcher.dataset.sample import Missing, Sample, first_rows
from launcher.diagnostics import Diagnostic, LauncherError
from launcher.launch import all_located
from launcher.recipe import Recipe
from launcher.rehearse import deepspeed, entries, overrides, unrehearsed
from launcher.rehearse.codes import CANNOT
from launcher.rehearse.gather import Source, gather
from launcher.rehearse.judge import problems
from launcher.rehearse.outcome import Events, Stage, stages
from launcher.rehearse.overrides import Length, Standing
from launcher.rehearse.remarks import Remark, collect
from launcher.rehearse.task import AGAIN, FIRST, Task
from launcher.rules.batch import whole
from launcher.runs.folder import RunFolder
from launcher.standin.tokenizer import VOCABULARY

ROWS = 64  # of each entry of the data
LOG = "rehearsal.log"
EVENTS = "events.jsonl"


@dataclass(frozen=True)
class Rehearsal:
    """All that is known before the start: what stands in for what, and what is set."""

    recipe: Recipe
    folder: Path
    source: Source
    samples: tuple[Sample, ...]
    changes: tuple[Change, ...]
    left_out: tuple[str, ...]
    stages_left_out: Mapping[str, str]
    ranks: int = 1

    @property
    def log(self) -> Path:
        """All that the processes print."""
        return self.folder / LOG


@dataclass(frozen=True)
class Report:
    """What a rehearsal found. ``interrupted``: the signal that ended it, 0 for none."""

    stages: tuple[Stage, ...]
    problems: tuple[Diagnostic, ...]
    remarks: tuple[Remark, ...]
    seconds: float
    interrupted: int = 0


def obstacles(recipe: Recipe, samples: Sequence[Sample | Missing]) -> list[Diagnostic]:
    """Return what makes a rehearsal impossible: a method, rows that cannot be had."""
    return [
        *unrehearsed.impossible(recipe),
        *(
            CANNOT.at(
                recipe.value_span(one.key, str(one.index), "path"),
                f'no rows of "{one.name}" can be had: {one.why}',
                f"name a file with some rows: {one.key}.{one.index}.path=rows.jsonl",
            )
            for one in samples
            if isinstance(one, Missing)
        ),
    ]


def rows(recipe: Recipe, environ: Mapping[str, str]) -> list[Sample | Missing]:
    """Return the first rows of all data of a recipe."""
    keys = ("datasets", "test_datasets")
    return [one for key in keys for one in first_rows(recipe, environ, most=ROWS, key=key)]


def plan(
    recipe: Recipe,
    samples: Sequence[Sample],
    environ: Mapping[str, str],
    folder: Path,
    length: Length,
) -> Rehearsal:
    """Write everything that the child needs into ``folder``. Raises ``LauncherError`` where the
    model's shape is not known here.
    """
    source = gather(recipe, environ, folder / "source")
    settings = all_located(recipe.settings)
    vocabulary = whole(source.config.get("vocab_size")) or VOCABULARY
    standing = Standing(
        folder / "small",
        _written(samples, folder / "rows", settings),
        folder,
        vocabulary if source.tokenizer else VOCABULARY,
    )
    made = overrides.changes(settings, standing, length)
    evaluates, saves = overrides.evaluates(settings), overrides.saves(settings)
    _write_configs(folder, overrides.applied(settings, made))
    Task(
        recipe=str(Path(recipe.file).absolute()),
        overrides=recipe.overrides,
        own_tokenizer=bool(source.tokenizer),
        all_layers=overrides.names_layers(settings),
        adapter=unrehearsed.merges(settings),
        quantized=bool(settings.get("load_in_4bit")),
        again=saves,
        ranks=length.ranks,
        deepspeed=deepspeed.asked(settings, _gpus(recipe)),
    ).write(folder)
    return Rehearsal(
        recipe,
        folder,
        source,
        tuple(samples),
        tuple(made),
        tuple(unrehearsed.left_out(recipe, length.ranks)),
        unrehearsed.missing_stages(settings, evaluates=evaluates, saves=saves),
        length.ranks,
    )


def _gpus(recipe: Recipe) -> int:
    return whole((recipe.block.get("needs") or {}).get("gpus"))


def _written(
    samples: Sequence[Sample], folder: Path, settings: Mapping[str, Any]
) -> dict[tuple[str, int], tuple[Path, int]]:
    """Write the rows of each entry to a file, as often as packing needs them; return the files, and
    how many rows are in each.
    """
    folder.mkdir()
    found = {}
    for one in samples:
        file = folder / f"{one.key}-{one.index}.jsonl"
        lines = [json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in one.rows]
        lines *= entries.repeats(settings, one.key, sum(map(len, lines)))
        file.write_text("".join(lines), encoding="utf-8")
        found[one.key, one.index] = (file, len(lines))
    return found


def _write_configs(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the config of the first training, and of the one that goes on from its checkpoint."""
    point = folder / "model" / f"checkpoint-{overrides.EVERY}"
    apart = {"output_dir": str(folder / "again" / "model"), "resume_from_checkpoint": str(point)}
    for name, config in ((FIRST, settings), (AGAIN, {**settings, **apart})):
        (folder / name).write_text(runs.dump(config), encoding="utf-8")
        (folder / Path(name).stem).mkdir()


def report(rehearsal: Rehearsal, known: Events, seconds: float, *, interrupted: int = 0) -> Report:
    """Return what the events and the metrics of a rehearsal say."""
    first, again = (
        runs.read_metrics(RunFolder(rehearsal.folder / Path(name).stem)) for name in (FIRST, AGAIN)
    )
    columns = {one.key: list(one.rows[0]) for one in reversed(rehearsal.samples) if one.rows}
    found = problems(rehearsal.recipe, known, first, again, columns, _layers(rehearsal))
    return Report(
        tuple(stages(known, first, again, rehearsal.stages_left_out)),
        tuple(found) if not interrupted else (),
        tuple(collect(known)),
        seconds,
        interrupted,
    )


def _layers(rehearsal: Rehearsal) -> list[str]:
    """Return the names of the model's linear layers, where its shape has formulas."""
    try:
        facts = models.from_config("", rehearsal.source.config)
    except LauncherError:
        return []
    return list(dict.fromkeys(linear.name for linear in facts.linears))
