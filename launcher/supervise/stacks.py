"""Where every rank of a run stands: its stacks, and one sentence on them."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.redact import redact
from launcher.runs.folder import RunFolder
from launcher.supervise import processes
from launcher.supervise.frames import Frame, Thread, dumped, place, spied

LOOKING_SECONDS = 10.0  # py-spy takes less than one; a process that the kernel holds, for ever
ANSWER_SECONDS = 1.0  # faulthandler writes within milliseconds
MOST = 4  # places that a sentence names


@dataclass(frozen=True)
class Standing:
    """Where one rank stands, its main thread first. ``how``: what found that out, or why nothing
    did.
    """

    who: str
    process: int
    threads: Sequence[Thread]
    how: str


def standings(folder: RunFolder) -> list[Standing]:
    """Ask every rank of this node where it stands; before there are ranks, every process."""
    program = _py_spy()
    asked = _ranks(folder)
    looking = {pid: _look(program, pid) for pid in asked.values()} if program else {}
    until = time.monotonic() + LOOKING_SECONDS  # all look at once
    return [
        _standing(folder, who, pid, looking.get(pid), until)
        for who, pid in sorted(asked.items(), key=lambda one: (len(one[0]), one[0]))
    ]


def sentence(found: Sequence[Standing]) -> str:
    """Return which ranks stand where, for instance "7 of 8 ranks wait in all_reduce, rank 3 is in
    tokenize_row (trl/trainer/dpo_trainer.py:712)".
    """
    places = {one.who: place(one.threads[0].frames) for one in found if one.threads}
    if not places:
        return "no rank says where it stands"
    many = Counter(where.group for where in places.values())
    parts = []
    for group, count in many.most_common(MOST):
        who, where = next((who, where) for who, where in places.items() if where.group == group)
        if count > 1:
            verb = "wait" if where.waits else "are"
            parts.append(f"{count} of {len(found)} ranks {verb} in {where.function}")
        else:
            verb = "waits" if where.waits else "is"
            parts.append(f"{who} {verb} in {where.function} ({where.position})")
    more = ["others stand elsewhere"] if len(many) > MOST else []
    silent = len(found) - len(places)
    return ", ".join([*parts, *more, *([f"{silent} did not answer"] if silent else [])])


def report(title: str, found: Sequence[Standing]) -> str:
    """Return all stacks as text, below a title."""
    lines = [f"== {title}", sentence(found)]
    for one in found:
        lines += ["", f"{one.who}, process {one.process} ({one.how})"]
        for thread in one.threads:
            lines += [f"  {thread.name}", *(f"    {_shown(frame)}" for frame in thread.frames)]
    return redact("\n".join(lines) + "\n\n")


def _shown(frame: Frame) -> str:
    return f"{frame.function} ({frame.file}:{frame.line})"


def _ranks(folder: RunFolder) -> Mapping[str, int]:
    """Return the process of every rank that lives; as long as there is none, all processes."""
    below = processes.descendants()
    found = {}
    for file in folder.ranks.glob("stack-*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(file.read_text(encoding="utf-8", errors="replace").splitlines()[0])
            if pid in below:
                found[f"rank {file.name.removeprefix('stack-')}"] = pid
    return found or {f"process {pid}": pid for pid in below if not processes.is_keeper(pid)}


def _py_spy() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _look(program: str, pid: int) -> subprocess.Popen[str]:
    """Start to look at a process, which is not paused: it stands still anyway, and one that the
    kernel holds could not be. Values of variables are not shown.
    """
    return subprocess.Popen(
        [program, "dump", "--nonblocking", "--json", "--pid", str(pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def _standing(
    folder: RunFolder, who: str, pid: int, looking: subprocess.Popen[str] | None, until: float
) -> Standing:
    why = "py-spy is not installed"
    if looking:
        try:
            out, said = looking.communicate(timeout=max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            looking.kill()  # not waited for: the kernel may hold it, too
            out, said = "", f"no answer in {LOOKING_SECONDS:.0f} s"
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):  # its JSON
            return Standing(who, pid, spied(json.loads(out), pid), "py-spy")
        why = f"py-spy may not look: {' '.join(said.split())[:100]}"
    return Standing(who, pid, _asked(folder, who, pid), f"faulthandler; {why}")


def _asked(folder: RunFolder, who: str, pid: int) -> list[Thread]:
    """Have a rank write its own stacks; one that has not said that it can would die of that."""
    file = folder.ranks / f"stack-{who.removeprefix('rank ')}"
    if not file.is_file():
        return []
    before = file.stat().st_size
    processes.send([pid], signal.SIGUSR2)
    deadline = time.monotonic() + ANSWER_SECONDS
    text = ""
    while not text.endswith("\n") and time.monotonic() < deadline:
        time.sleep(0.1)
        text = file.read_bytes()[before:].decode("utf-8", errors="replace")
    return dumped(text)
