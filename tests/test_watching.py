"""What a person sees of a run: real processes, on a terminal and without one.

The training is a small script that writes what the plugin would, the launcher a process of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stand_in_nvml
from conftest import Axr
from stand_in_nvml import UUIDS, a100, described

from launcher import runs
from launcher.runs.folder import RunFolder

# Stands for `axr train`: the same view around the same call.
DRIVER = """
import os, sys
from pathlib import Path
from launcher import runs, supervise
from launcher.cli import watching
from launcher.cli.console import say
from launcher.launch import Launch
from launcher.runs.folder import RunFolder
command = (sys.executable, "-S", *sys.argv[2:])
launch = Launch("t", command, {}, {}, (), 1, RunFolder(Path(sys.argv[1])))
raw = "RAW" in os.environ
with runs.held(launch.folder), watching.view(launch.folder, raw=raw) as view:
    view.say("a word of the launcher")
    code = supervise.execute(launch, dict(os.environ), view=view).exit_code
say("after it")
sys.exit(code)
"""

# Writes what the plugin writes in a training, then waits for the file `go`.
TRAINER = """
import json, os, pathlib, sys, time
run = pathlib.Path("run")
def say(phase, step, **more):
    said = {"phase": phase, "step": step, "max_steps": 50, "time": time.time(), **more}
    (run / ".p").write_text(json.dumps(said))
    (run / ".p").replace(run / "progress.json")
def record(step, **more):
    line = {"step": step, "time": time.time(), "loss": 1 / step, "rewards/margins": step / 10}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({**line, "rewards/accuracies": 0.75, **more}) + chr(10))
def wait_for(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.01)
print("a line of the training, \\x1b[31min red", flush=True)
for step in range(1, 13):
    record(step)
say("train", 12)
"""


class Screen:
    """A terminal, as far as rich draws on it: lines that are written again in place."""

    def __init__(self) -> None:
        self.lines: list[str] = [""]
        self.x = self.y = 0
        self.cursor = True

    def feed(self, text: str) -> None:
        for part in re.split(r"(\x1b\[[?0-9;]*[A-Za-z]|[\r\n])", text):
            if part == "\r":
                self.x = 0
            elif part == "\n":
                self.y += 1
            elif part.startswith("\x1b"):
                self._obey(part[2:-1], part[-1])
            elif part:
                line = self._line().ljust(self.x)
                self.lines[self.y] = line[: self.x] + part + line[self.x + len(part) :]
                self.x += len(part)

    def _line(self) -> str:
        self.lines += [""] * (self.y + 1 - len(self.lines))
        return self.lines[self.y]

    def _obey(self, number: str, letter: str) -> None:
        if letter == "A":
            self.y = max(0, self.y - int(number or 1))
        elif letter == "K":
            self._line()
            self.lines[self.y] = ""
        elif number == "?25":
            self.cursor = letter == "h"
        else:
            assert letter == "m", f"{number}{letter}"

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines)


class Terminal:
    """A process on a pseudo-terminal."""

    def __init__(self, command: list[str], folder: Path, columns: int = 80, **env: str) -> None:
        self.screen, self.raw = Screen(), ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(command[0], command, {**os.environ, "TERM": "xterm-256color", **env})
        self.resize(columns)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def until(self, condition: Callable[[], object]) -> None:
        """Read on until a condition holds; the test fails where the process ends before."""
        while not condition():
            assert self._read(), self.screen.text

    def end(self) -> int:
        """Read to the end and return the exit code."""
        while self._read():
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        try:
            text = os.read(self.fd, 65536).decode("utf-8", errors="replace")
        except OSError:
            return False
        self.raw += text
        self.screen.feed(text)
        return bool(text)

    def shows(self, text: str) -> Callable[[], bool]:
        return lambda: text in self.screen.text


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with a run in it."""
    folder = RunFolder(tmp_path / "run")
    with runs.held(folder):
        runs.create(folder, runs.Start("", {}, "", {}))
    price = {"usd_an_hour": 2.0, "price": "somewhere, 2026-11-09", "peak_gib": 50.0}
    folder.plan.write_text(json.dumps(price))
    yield tmp_path
    (tmp_path / "go").touch()


def driver(folder: Path, body: str) -> list[str]:
    (folder / "trainer.py").write_text(TRAINER + body)
    return [sys.executable, "-c", DRIVER, "run", "trainer.py"]


def environment(**more: str) -> dict[str, str]:
    dropped = {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"}
    return {name: value for name, value in os.environ.items() if name not in dropped} | more


def test_a_panel_moves_in_place_and_leaves_its_end(place: Path) -> None:
    shown = Terminal(driver(place, "wait_for('go'); say('save', 50)"), place)
    shown.until(shown.shows("step 12 of 50"))
    shown.until(shown.shows("a line of the training, \\u001b[31min red"))
    assert not shown.screen.cursor
    (place / "go").touch()
    assert shown.end() == 0
    text = shown.screen.text
    assert shown.screen.cursor
    assert text.index("a word of the launcher") < text.index("run       done")
    assert text.rstrip().endswith("after it")
    assert re.search(r"^save +█+ +100%  step 50 of 50$", text, re.MULTILINE)
    assert re.search(r"^margin +1.2 +▁.*█  accuracy 75%$", text, re.MULTILINE)
    assert "somewhere, 2026-11-09" in text
    assert text.count("run       ") == 1  # drawn again and again, in one place
    assert "a line of the training" in (place / "run" / "train.log").read_text()


def test_ctrl_c_is_said_above_the_panel_and_gives_the_cursor_back(place: Path) -> None:
    shown = Terminal(driver(place, "wait_for('never')"), place)
    shown.until(shown.shows("step 12 of 50"))
    os.write(shown.fd, b"\x03")
    assert shown.end() == 130
    assert shown.screen.cursor
    assert "stopping: nothing is trained yet" in shown.screen.text
    assert "run       stopped" in shown.screen.text


@pytest.mark.parametrize(
    ("columns", "env"),
    [(60, {}), (80, {"NO_COLOR": "1"}), (80, {"PYTHONIOENCODING": "ascii"}), (20, {})],
)
def test_every_terminal_is_drawn_on(place: Path, columns: int, env: dict[str, str]) -> None:
    shown = Terminal(driver(place, "wait_for('go')"), place, columns, **env)
    shown.until(shown.shows("train     "))
    shown.resize(columns - 5)
    shown.resize(columns + 30)
    (place / "go").touch()
    assert shown.end() == 0
    if "NO_COLOR" in env:
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown.raw)
    if "PYTHONIOENCODING" in env:
        assert shown.raw.isascii()
        assert "Traceback" not in shown.raw


def test_a_dumb_terminal_gets_lines(place: Path) -> None:
    shown = Terminal(driver(place, ""), place, TERM="dumb")
    assert shown.end() == 0
    assert "\x1b[1A" not in shown.raw
    assert "state=done phase=train step=12/50" in shown.raw


def test_a_terminal_that_goes_away_ends_the_run_and_nothing_hangs(place: Path) -> None:
    shown = Terminal(driver(place, "wait_for('never')"), place)
    shown.until(shown.shows("step 12 of 50"))
    os.close(shown.fd)
    assert os.waitstatus_to_exitcode(os.waitpid(shown.pid, 0)[1]) == 129
    status = json.loads((place / "run" / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("stopped", 129)


def test_without_a_terminal_there_are_lines_for_grep(place: Path) -> None:
    body = "record(13, eval_loss=0.5); say('evaluate', 13, done=1, of=3); raise SystemExit(3)"
    done = subprocess.run(
        driver(place, body),
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    told = done.stdout.splitlines()
    assert all(re.fullmatch(r"axr \d\d:\d\d:\d\d( [a-z_]+=[^ =]+)+", line) for line in told)
    last = told[-1].split(" ", 2)[2]
    assert last.startswith(
        "state=failed phase=evaluate step=13/50 batch=1/3 loss=0.08333 margin=1.2"
    )
    assert "eval_loss=0.5" in last
    assert done.stderr == "a word of the launcher\nafter it\n"


def test_raw_is_all_that_the_training_prints(place: Path) -> None:
    command = driver(place, "print('the end')")
    done = subprocess.run(command, cwd=place, env=environment(RAW="1"), capture_output=True)
    assert done.stdout == b"a line of the training, \x1b[31min red\nthe end\n"


def test_raw_measures_a_run_that_goes_on_from_its_new_steps(place: Path) -> None:
    before = ({"step": n, "time": time.time() - 9000 + n, "loss": 1.0} for n in range(1, 13))
    metrics = place / "run" / "metrics.jsonl"
    metrics.write_text("".join(f"{json.dumps(one)}\n" for one in before))
    body = "[record(n, max_steps=50) for n in range(13, 15)]; wait_for('go')"
    (place / "trainer.py").write_text(TRAINER.replace("range(1, 13)", "()") + body)
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, "run", "trainer.py"],
        cwd=place,
        env=environment(RAW="1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as said:
        measured = next(line for line in said if line.startswith("measured"))
        (place / "go").touch()
    assert measured.startswith("measured at step 14: ")
    assert process.wait(timeout=60) == 0


def test_nobody_has_to_read_the_lines(place: Path) -> None:
    command = driver(place, "wait_for('go')")
    process = subprocess.Popen(
        command, cwd=place, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"axr ")
    process.stdout.close()
    (place / "go").touch()
    assert process.wait(timeout=60) == 0


# --- GPUs ---

SAMPLE = """
import sys, time
from launcher.watch.gpus import Sampler
sampler = Sampler(sys.argv[1:])
while not sampler.latest:
    time.sleep(0.02)
print([(one.percent, one.used_gib, one.total_gib) for one in sampler.latest])
sampler.close()
sampler.process.wait()
"""


def test_the_gpus_are_asked_and_the_asking_ends(tmp_path: Path) -> None:
    text = described(a100(0, busy=97, free=81920 - 1024), a100(1, busy=-1))
    env = environment(**stand_in_nvml.environment(tmp_path, text))
    for wanted, seen in (
        ((), "[(97, 1.0, 80.0), (None, 0.5078125, 80.0)]"),
        (UUIDS[:1], "[(97, 1.0, 80.0)]"),
    ):
        command = [sys.executable, "-c", SAMPLE, *wanted]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
        assert (done.stdout.strip(), done.stderr) == (seen, "")


def test_a_driver_that_hangs_holds_nothing(tmp_path: Path, place: Path) -> None:
    env = stand_in_nvml.environment(tmp_path, "init hang\n")
    shown = Terminal(driver(place, ""), place, **env)
    assert shown.end() == 0
    assert "run       done" in shown.screen.text
    assert "GPU" not in shown.screen.text


# --- axr runs ---


def made(root: Path, name: str, seconds: float, **status: Any) -> RunFolder:
    """Make a run that ended."""
    folder = RunFolder(root / name)
    with runs.held(folder):
        runs.create(folder, runs.Start("", {}, "", {}))
    folder.plan.write_text(json.dumps({"usd_an_hour": 2.0}))
    line = {"step": 9, "time": time.time(), "loss": 0.25, "max_steps": 9}
    folder.metrics.write_text("\n".join([json.dumps(line)] * 200))
    folder.progress.write_text(json.dumps({"phase": "finish", "step": 9, "max_steps": 9}))
    folder.log.write_text("the last line\n")
    runs.update_status(folder, minutes=seconds / 60, **status)
    return folder


def test_runs_are_listed_the_newest_first(axr: Axr, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    made(root, "b-dpo-20260101-120000-aaaa", 1800, state="done")
    made(root, "a-sft-20260102-120000-bbbb", 60, state="failed")
    gone = made(root, "a-sft-20260103-120000-cccc", 60, state="running", started=runs.now())
    torn = made(root, "b-dpo-20260104-120000-dddd", 60)
    torn.status.write_text('{"state": "run')
    (root / "notes").mkdir()
    with runs.held(made(root, "c-20260105-120000-eeee", 60, state="running", started=runs.now())):
        done = axr("runs")
        data = axr("runs", "--json")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:2] for row in rows] == [
        ["run", "state"],
        ["c-20260105-120000-eeee", "running"],
        ["b-dpo-20260104-120000-dddd", "?"],
        ["a-sft-20260103-120000-cccc", "lost"],
        ["a-sft-20260102-120000-bbbb", "failed"],
        ["b-dpo-20260101-120000-aaaa", "done"],
    ]
    assert rows[-1][-6:] == ["9/9", "0.25", "30", "min", "1.00", "USD"]
    assert done.stderr.splitlines()[-1] == "next: axr runs tail runs/c-20260105-120000-eeee"
    found = [json.loads(line) for line in data.stdout.splitlines()]
    assert [one["run"] for one in found] == [row[0] for row in rows[1:]]
    expected = {"state": "done", "step": 9, "steps": 9, "loss": 0.25, "hours": 0.5, "usd": 1.0}
    assert expected.items() <= found[-1].items()
    assert found[2]["folder"] == str(Path("runs") / gone.root.name)


@pytest.mark.parametrize("words", [(), ("--root", "file")])
def test_no_runs_is_a_sentence_and_the_next_command(
    axr: Axr, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").touch()
    done = axr("runs", *words)
    assert done.returncode == 0
    assert done.stdout == f"no runs in {words[-1] if words else 'runs'}\n"
    assert done.stderr == "next: axr train qwen25-dpo\n"
    tail = axr("runs", *words, "tail")
    assert (tail.returncode, "error: no runs in" in tail.stderr) == (2, True)


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ((), "b-20260103-120000-cccc"),
        (("aaaa",), "a-20260101-120000-aaaa"),
        (("a-2026",), "a-20260102-120000-bbbb"),
        (("runs/a-20260101-120000-aaaa",), "a-20260101-120000-aaaa"),
        (("a-20260101-120000-aaaa/",), "a-20260101-120000-aaaa"),
    ],
)
def test_a_run_is_named_by_folder_name_or_part(
    axr: Axr, tmp_path: Path, run: tuple[str, ...], name: str
) -> None:
    for one in ("a-20260101-120000-aaaa", "a-20260102-120000-bbbb", "b-20260103-120000-cccc"):
        made(tmp_path / "runs", one, 60, state="done")
    done = axr("runs", "tail", *run)
    assert done.returncode == 0
    assert " state=done phase=finish step=9/9 loss=0.25" in done.stdout
    assert done.stderr == f"next: tail -n 50 runs/{name}/train.log\n"


def test_what_is_no_run_is_said(axr: Axr, tmp_path: Path) -> None:
    made(tmp_path / "runs", "a-20260101-120000-aaaa", 60, state="done")
    (tmp_path / "other").mkdir()
    assert axr("runs", "tail", "--log").stdout == "the last line\n"
    with (tmp_path / "runs" / "a-20260101-120000-aaaa" / "train.log").open("a") as log:
        log.write("Killed")  # and nobody ended the line
    assert axr("runs", "tail", "--log").stdout == "the last line\nKilled\n"
    done = axr("runs", "tail", "zzz")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'error: no run in runs has "zzz" in its name\n  help: axr runs\n'
    assert '"other" is not the folder of a run' in axr("runs", "tail", "other").stderr
    long = axr("runs", "tail", "a" * 300)
    assert (long.returncode, long.stderr.count("\n")) == (2, 2)  # no file can have this name


def axr_tail(*words: str) -> list[str]:
    return [sys.executable, "-m", "launcher", "runs", "tail", *words]


@pytest.mark.parametrize("words", [(), ("--log",)])
def test_a_run_is_followed_from_another_shell_to_its_end(
    place: Path, words: tuple[str, ...]
) -> None:
    command = driver(place, "wait_for('go'); print('last words', flush=True); raise SystemExit(5)")
    (place / "go").unlink(missing_ok=True)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=place, env=environment(), **quiet)
    while not (place / "run" / "progress.json").exists():
        time.sleep(0.02)
    shown = Terminal(axr_tail("run", *words), place)
    shown.until(shown.shows("a line of the training" if words else "step 12 of 50"))
    (place / "go").touch()
    assert shown.end() == 0
    assert process.wait(timeout=30) == 5
    assert shown.screen.cursor
    assert "last words" in shown.screen.text
    assert ("run       failed" in shown.screen.text) == (not words)


def test_ctrl_c_ends_the_looking_alone(place: Path) -> None:
    folder = RunFolder(place / "run")
    with runs.held(folder):
        shown = Terminal(axr_tail("run"), place)
        shown.until(shown.shows("starting"))
        os.kill(shown.pid, signal.SIGINT)
        assert shown.end() == 130
    assert shown.screen.cursor
    assert json.loads(folder.status.read_text())["state"] == "starting"
