"""Asks the child that renders rows, and where the model's tokenizer is to come from."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from launcher import hub_cache, models, upstream
from launcher.children import alone
from launcher.dataset.sample import Sample
from launcher.diagnostics import LauncherError
from launcher.files import is_folder
from launcher.network import hub, unreachable
from launcher.preview.rendering import Rendering, rendering
from launcher.recipe import Recipe, located
from launcher.redact import redact

LIMIT = 600.0  # seconds for a question: the imports, a download of a tokenizer, 200 long rows
# Seconds; the library's own would be tried again for a minute.
PATIENCE = {"HF_HUB_ETAG_TIMEOUT": "8", "HF_HUB_DOWNLOAD_TIMEOUT": "15"}
FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")


@dataclass(frozen=True)
class Source:
    """Where the model's tokenizer comes from: over the network, or not; then ``why`` tells what is
    in the way, nothing where it is on this machine.
    """

    online: bool
    why: str = ""


def source(recipe: Recipe, environ: Mapping[str, str]) -> Source:
    """Return where the tokenizer is to come from. The Hub is asked for the model's config.json
    first, once: the libraries would try again for minutes.
    """
    name, model = tokenizer_name(recipe), str(recipe.value.get("base_model"))
    revision = str(recipe.value.get("revision_of_model") or "main")

    def here(repository: str, files: Sequence[str]) -> bool:
        return is_folder(located(repository)) or any(
            hub_cache.find("models", repository, file, environ, revision=revision) for file in files
        )

    if here(model, ["config.json"]) and here(name, FILES):
        return Source(online=False)
    if why := unreachable(hub(environ), environ):
        return Source(online=False, why=why)
    try:
        models.fetch_config(model, environ, revision=revision)
    except LauncherError as problem:
        return Source(online=False, why=problem.message)
    return Source(online=True)


def tokenizer_name(recipe: Recipe) -> str:
    """Return the model, or the folder, whose tokenizer is used."""
    return str(recipe.value.get("tokenizer_config") or recipe.value.get("base_model"))


def installed() -> str:
    """Return why rows cannot be rendered here; nothing where they can."""
    if not find_spec("axolotl"):
        return "axolotl is not installed here"
    return ""


class Renderer:
    """A child process that renders the rows of one recipe after another. ``foreign``: it may import
    from the working directory.
    """

    def __init__(
        self, environ: Mapping[str, str], source: Source, *, foreign: bool = False
    ) -> None:
        quiet = {"AXOLOTL_DO_NOT_TRACK": "1", "CUDA_VISIBLE_DEVICES": "", "WORLD_SIZE": "1"}
        network = PATIENCE if source.online else {"HF_HUB_OFFLINE": "1"}
        self._why = source.why
        self._open = ExitStack()
        self._folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="axr-"))
        self._errors = Path(self._folder) / "errors"
        with self._errors.open("wb") as errors:
            given = {**environ, **quiet, **network}
            self._child = _child(given if foreign else alone(given), errors)
        self._asked, self._late = 0, False

    def __enter__(self) -> Renderer:
        """Return itself: the child is there already."""
        return self

    def __exit__(self, *problem: object) -> None:
        """End the child, and delete what it has written."""
        self._child.kill()
        self._child.communicate()
        self._open.close()

    def ask(
        self,
        recipe: Recipe,
        samples: Sequence[Sample],
        *,
        draw: int,
        told: Callable[[int], None] = lambda rows: None,
    ) -> Rendering:
        """Return the rows as axolotl renders them; of the first ``draw`` of an entry the tokens,
        too. ``told`` hears how many are done.

        Raises ``LauncherError`` where axolotl refuses the recipe, or breaks.
        """
        self._asked += 1
        question = _question(recipe, samples) | {
            "draw": draw,
            "why": self._why,
            "seconds": math.ceil(LIMIT) + 1,
            "folder": str(Path(self._folder) / str(self._asked)),
        }
        timer = threading.Timer(LIMIT, self._end)
        timer.start()
        try:
            return self._answer(question, told)
        finally:
            timer.cancel()

    def _answer(self, question: Mapping[str, Any], told: Callable[[int], None]) -> Rendering:
        assert self._child.stdin
        assert self._child.stdout
        try:
            self._child.stdin.write(json.dumps(question, default=str) + "\n")
            self._child.stdin.flush()
        except OSError:
            raise self._broken() from None
        for line in self._child.stdout:
            found = json.loads(line)
            if "answer" in found:
                return rendering(found["answer"])
            if "refused" in found:
                fact, hint = map(redact, found["refused"])
                raise LauncherError(fact, hint, exit_code=1)
            told(found["rows"])
        raise self._broken()

    def _end(self) -> None:
        self._late = True
        self._child.kill()

    def _broken(self) -> LauncherError:
        self._child.wait()
        if self._late:
            return LauncherError(f"rendering took longer than {LIMIT:.0f} s", "--rows 50")
        lines = self._errors.read_text("utf-8", errors="replace").strip().split("\n")
        return LauncherError(f"rendering through axolotl broke: {redact(lines[-1])}", "make setup")


def _child(environ: Mapping[str, str], errors: IO[bytes]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "launcher.preview.render"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environ,
        text=True,
        encoding="utf-8",
    )


def _question(recipe: Recipe, samples: Sequence[Sample]) -> dict[str, Any]:
    asked = upstream.question(recipe)
    return {
        "config": asked.config,
        "capabilities": upstream.capabilities(asked.gpu, asked.gpus),
        "torch": upstream.TORCH,
        "entries": [
            {"key": one.key, "index": one.index, "rows": list(one.rows)} for one in samples
        ],
        "local": is_folder(located(tokenizer_name(recipe))),
        "shape": _shape(recipe),
    }


def _shape(recipe: Recipe) -> dict[str, Any]:
    """Return the config.json of the model as far as it is known here; else one of its kind."""
    revision = str(recipe.value.get("revision_of_model") or "main")
    try:
        found, _ = models.config(str(recipe.value.get("base_model")), {}, revision=revision)
    except LauncherError:
        return {"model_type": "llama"}
    return dict(found)
