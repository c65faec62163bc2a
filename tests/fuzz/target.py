"""What the fuzzer calls, and what must hold for any file that is given to ``axr validate``.

Reading, all checks and all renderings of a file end without an exception and within ``SECONDS``;
every place lies in the text; what is printed is lines of printable UTF-8; the same file gives the
same problems; and no file is opened but those that ``may_open`` names.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from launcher import recipe, source
from launcher.diagnostics import BREAK, FORMATS, Diagnostic, Span
from launcher.recipe import Recipe, located
from launcher.validate import validate

SECONDS = 2.0  # of processor time, for one file of any content up to the size limit, shown once
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
CHECKPOINT_FILES = ("adapter_config.json", "trainer_state.json")


def examine(data: bytes, folder: Path) -> list[Diagnostic]:
    """Validate the bytes as the file ``fuzzed.yaml`` of a folder, the working directory; return the
    problems. Raises ``AssertionError`` where something above does not hold.
    """
    file = folder / "fuzzed.yaml"
    file.write_bytes(data)
    begin = time.process_time()
    with opened() as files:
        read = recipe.load(file)
        problems = validate(read)
        checked = time.process_time()
        lines = {form: [show(p, read.texts) for p in problems] for form, show in FORMATS.items()}
    shown = (time.process_time() - checked) / len(FORMATS)
    assert (took := checked - begin + shown) < SECONDS, f"{took:.1f} s"
    assert not (outside := files - may_open(read) - {str(file)}), f"opened {outside}"
    widths = [len(line) for line in BREAK.split(read.texts[str(file)])]
    for problem in problems:
        for span in (problem.span, *(related.span for related in problem.related)):
            assert lies_within(span, widths), span
    lines["text"] = [line for text in lines["text"] for line in text.split("\n")]
    for line in chain.from_iterable(lines.values()):
        assert not CONTROL.search(line), repr(line)
        line.encode("utf-8")
    assert all(isinstance(json.loads(line), dict) for line in lines["json"])
    assert problems == validate(recipe.load(file))
    return problems


def lies_within(span: Span, widths: list[int]) -> bool:
    """Whether a place is in the text whose lines have these lengths; an empty value stands one past
    the end of its line. Of bytes that are no text nothing is kept, and any place will do.
    """
    if widths == [0]:
        return True
    if not 1 <= span.line <= len(widths):
        return False
    width = widths[span.line - 1]
    return 1 <= span.column <= width + 1 and span.column <= span.end_column <= width + 2


def may_open(read: Recipe) -> set[str]:
    """Return the files that a recipe lets ``axr validate`` open: its DeepSpeed config and two of
    its checkpoint. Of all else that it names only the existence is looked at.
    """
    config, checkpoint = read.value.get("deepspeed"), read.value.get("resume_from_checkpoint")
    files = {str(Path(located(config)))} if isinstance(config, str) else set()
    if isinstance(checkpoint, str):
        files |= {str(Path(checkpoint) / name) for name in CHECKPOINT_FILES}
    return files


_files: set[str] | None = None  # what was opened, while somebody asks


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _files is not None and event == "open" and not isinstance(arguments[0], int):
        name = os.fsdecode(arguments[0])
        if not name.endswith(".pyc"):  # code that Python loads when it first needs it
            _files.add(name)


sys.addaudithook(_hook)


@contextmanager
def opened() -> Iterator[set[str]]:
    """Give a set to which the name of every file is added that is opened meanwhile."""
    global _files
    _files = files = set()
    try:
        yield files
    finally:
        _files = None


def furnish(folder: Path) -> None:
    """Put into a folder what a recipe may name to do harm: what never ends, blocks, or loops."""
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "wide.json").write_text("9" * 100_000)
    (folder / "latin.json").write_bytes(b'{"a": "\xe9"}')
    (folder / "odd.json").write_text(json.dumps({"zero_optimization": [3], "fp16": 1, "bf16": {}}))
    with (folder / "huge.json").open("wb") as huge:
        huge.truncate(2**34)  # 16 GiB without a block on the disk
    for name in ("checkpoint", "odd"):
        (folder / name).mkdir()
    for name in CHECKPOINT_FILES:
        odd = {"r": [1], "global_step": "nan", "epoch": {"a": 1}}
        (folder / "odd" / name).write_text(json.dumps(odd))
        os.mkfifo(folder / "checkpoint" / name)


def warm_up() -> None:
    """Load what is loaded once: the schema, the facts, and modules imported late."""
    for file in recipe.shipped():
        validate(recipe.from_document(source.read(file)))
