"""axolotl's own verdict on a recipe: its validation, run in a child process for a GPU that need not
be there. A verdict is kept, by all that it depends on: asked again, it takes no child.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from launcher.children import alone
from launcher.diagnostics import LauncherError
from launcher.files import read
from launcher.hardware import Gpu, find
from launcher.recipe import Recipe
from launcher.redact import redact

VERSION = "0.19.0"
TORCH = "2.13.0"
MAX_FILE = 2**20  # bytes; a file that axolotl reads while it validates is a config of its own

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """A config, and the machine that axolotl is to believe in."""

    config: Config
    gpu: Gpu = field(default_factory=lambda: find("a100-80gb"))
    gpus: int = 1


@dataclass(frozen=True)
class Complaint:
    """An error of axolotl's: the path that it points at, as far as it does, and its words."""

    where: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Verdict:
    """What axolotl says of one config: no errors mean that it passes. ``dropped`` are the keys that
    it loses on the way, dotted.
    """

    errors: tuple[Complaint, ...] = ()
    warnings: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def question(recipe: Recipe, gpu: Gpu | None = None) -> Question:
    """Return the question of a recipe on this kind of GPU, or on those that it says it needs."""
    needs = recipe.block.get("needs") or {}
    own = needs.get("gpu")
    gpu = gpu or find(own if own and own != "none" else "a100-80gb")
    return Question(recipe.settings, gpu, needs.get("gpus") or 1)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder that keeps verdicts: below ``AXR_CACHE``, or the user's cache folder."""
    user = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(environ.get("AXR_CACHE") or Path(user) / "axolotl-recipes") / "upstream"


def verdicts(
    questions: Sequence[Question],
    cache: Path | None = None,
    begin: Callable[[int], None] = lambda count: None,
) -> list[Verdict]:
    """Return axolotl's verdict on each config. What is not in ``cache`` yet goes to one child, and
    ``begin`` is told how many those are. The plugins that a config lists are imported: the caller
    has to trust them.

    Raises ``LauncherError`` where axolotl is not installed, is another version, or breaks.
    """
    known = {number: _kept(one, cache) for number, one in enumerate(questions)}
    missing = [number for number, verdict in known.items() if verdict is None]
    if missing:
        _check_installed()
        begin(len(missing))
        answers = _ask([questions[number] for number in missing])
        for number, answer in zip(missing, answers, strict=True):
            _keep(questions[number], cache, answer)
            known[number] = _verdict(json.loads(answer))
    return [verdict for verdict in known.values() if verdict]


def capabilities(gpu: Gpu, gpus: int) -> dict[str, Any]:
    """Return what axolotl would find on a machine: ``gpu_capabilities`` (cli/config.py)."""
    major, minor = gpu.capability
    return {
        "bf16": gpu.bf16,
        "tf32": gpu.bf16,
        "fp8": gpu.capability >= (9, 0),
        "compute_capability": f"sm_{major}{minor}",
        "n_gpu": gpus,
        "n_node": 1,
    }


def _check_installed() -> None:
    if not find_spec("axolotl"):
        raise LauncherError("axolotl is not installed here", "make setup")
    found = version("axolotl")
    if found != VERSION:
        fact = f"axolotl {found} is installed; the recipes are made for {VERSION}"
        raise LauncherError(fact, "make setup")


def _ask(questions: Sequence[Question]) -> list[str]:
    """Return the child's answer to each question."""
    asked = {
        "torch": TORCH,
        "questions": [
            {"config": _plain(one.config), "capabilities": capabilities(one.gpu, one.gpus)}
            for one in questions
        ],
    }
    environ = {**os.environ, "AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    if not any(question.config.get("plugins") for question in questions):
        environ = alone(environ)
    command = [sys.executable, "-m", "launcher.upstream.judge"]
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, env=environ
    )
    if done.returncode:
        last = done.stderr.strip().split("\n")[-1]
        raise LauncherError(f"axolotl's own validation did not run: {redact(last)}", "make setup")
    answers = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    return [answers[str(number)] for number in range(len(questions))]


def _name(question: Question) -> str:
    """Return the name of a verdict's file: a digest of all that the verdict depends on."""
    asked = [capabilities(question.gpu, question.gpus), TORCH]
    parts = (_plain(question.config), asked, _files(question.config), _stack())
    text = json.dumps(parts, sort_keys=True)
    return f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def _kept(question: Question, cache: Path | None) -> Verdict | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        if cache:
            return _verdict(json.loads((cache / _name(question)).read_text(encoding="utf-8")))
    return None


def _keep(question: Question, cache: Path | None, answer: str) -> None:
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        if cache:
            cache.mkdir(parents=True, exist_ok=True)
            temporary = cache / f"{os.getpid()}.part"
            temporary.write_text(redact(answer), encoding="utf-8")
            temporary.replace(cache / _name(question))


def _files(value: Any) -> list[str]:
    """Return a digest of every small file that a config names: axolotl may read it."""
    if isinstance(value, Mapping):
        return [digest for child in value.values() for digest in _files(child)]
    if isinstance(value, list):
        return [digest for child in value for digest in _files(child)]
    data = read(value, MAX_FILE) if isinstance(value, str) and "\n" not in value else None
    return [] if data is None else [hashlib.sha256(data).hexdigest()]


@lru_cache(maxsize=1)
def _stack() -> list[str]:
    """Return what is installed, by name and version, and the code that asks."""
    folder = Path(sysconfig.get_path("purelib"))
    own = hashlib.sha256((Path(__file__).parent / "judge.py").read_bytes()).hexdigest()
    return [own, *sorted(path.name for path in folder.glob("*.dist-info"))]


def _verdict(answer: Any) -> Verdict:
    """Return the verdict in an answer. Raises ``ValueError`` and the like where it is none."""
    errors = tuple(
        Complaint(_all_text(where), *_all_text([words])) for where, words in answer["errors"]
    )
    return Verdict(errors, _all_text(answer["warnings"]), _all_text(answer["dropped"]))


def _all_text(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("not a list of texts")
    return tuple(values)


def _plain(value: Any) -> Any:
    """Return a config as JSON can hold it: keys are text, dates and the like, too."""
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(child) for child in value]
    return value if isinstance(value, str | int | float | None) else str(value)
