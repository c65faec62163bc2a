"""A rehearsal from a recipe to what is known afterwards: gather, write the task, start, follow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import models, runs, supervise
from launcher.cpu import Change
from launcher.dataset.sample import Missing, Sample, first_rows
from launcher.diagnostics import Diagnostic, LauncherError
from launcher.launch import all_located
from launcher.recipe import Recipe
from launcher.redact import is_secret_name, redact
from launcher.rehearse import deepspeed, events, overrides, unrehearsed
from launcher.rehearse.child import AGAIN, FIRST, Task
from launcher.rehearse.codes import CANNOT
from launcher.rehearse.gather import Source, gather
from launcher.rehearse.judge import problems
from launcher.rehearse.outcome import Events, Stage, stages
from launcher.rehearse.overrides import Length, Standing
from launcher.rehearse.remarks import Remark, collect
from launcher.rules.batch import whole
from launcher.runs import RunFolder
from launcher.standin.tokenizer import VOCABULARY

ROWS = 64  # of each entry of the data
LOG = "rehearsal.log"
EVENTS = "events.jsonl"

Tell = Callable[[Mapping[str, Any]], None]


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
    saves = saves and length.steps > overrides.EVERY
    _write_configs(folder, overrides.applied(settings, made))
    Task(
        recipe=recipe.file,
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
        lines *= overrides.repeats(settings, one.key, sum(map(len, lines)))
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


def run(rehearsal: Rehearsal, environ: Mapping[str, str], tell: Tell) -> Report:
    """Rehearse, and tell each event as it comes. Leaves no process behind, however it ends.

    Raises ``LauncherError`` where the child does not even begin.
    """
    started = time.monotonic()
    supervise.become_subreaper()
    known: list[dict[str, Any]] = []
    with supervise.received_signals() as received:
        with rehearsal.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "launcher.rehearse.child", str(rehearsal.folder)],
                env=environment(environ, rehearsal.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            offset = 0
            while True:
                ended = process.poll() is not None or bool(received.signals)
                new, offset = events.read(rehearsal.folder / EVENTS, offset)
                known += new
                for event in new:
                    tell(event)
                if ended:
                    break
                time.sleep(0.05)
        finally:
            supervise.end_all(lambda text: tell({"remark": text}))
    signals = received.signals
    if not known and not signals:
        raise LauncherError(f"the rehearsal did not begin: {last_lines(rehearsal.log, 1)}")
    seconds = time.monotonic() - started
    return report(rehearsal, known, seconds, interrupted=signals[0] if signals else 0)


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


def environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the child's environment: no network, no GPU, no secret, and every cache in ``folder``.

    Half of the cores would stand idle with one thread, and two ranks share them.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not is_secret_name(name) and not name.startswith(("ACCELERATE_", "AXR_"))
    }
    (folder / "tmp").mkdir(exist_ok=True)
    caches = {
        name: str(folder / "cache" / name.lower())
        for name in ("HF_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
    }
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN_PATH"):
        kept.pop(name, None)
    return {
        **kept,
        **caches,
        "TMPDIR": str(folder / "tmp"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "AXOLOTL_DO_NOT_TRACK": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "1",
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // 2)),
        "TORCHAO_FORCE_SKIP_LOADING_SO_FILES": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def last_lines(log: Path, count: int) -> str:
    """Return the last lines of a log, secrets hidden."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return redact("\n".join(lines[-count:]))
