"""When a run that failed is started again by itself, and when not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher import runs
from launcher.causes import told
from launcher.cli import Terminated, attempts
from launcher.cli.attempts import Attempts, repeated
from launcher.diagnostics import LauncherError
from launcher.runs.folder import RunFolder
from launcher.supervise import STOP_AT, Ended
from launcher.watch.follow import Follower

AWAY = "ConnectionError: 503 Server Error"


def failed(line: str = AWAY, **changes: Any) -> Ended:
    known: dict[str, Any] = {"state": "failed", "exit_code": 1, "told": told([line])}
    return Ended(RunFolder(Path("runs/x")), **(known | changes))


def checkpoint(model: Path, step: int) -> None:
    import torch
    from safetensors.torch import save_file

    folder = model / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    for file in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"a": torch.ones(2)}, folder / file)
    (folder / "trainer_state.json").write_text(f'{{"global_step": {step}}}')


@pytest.mark.parametrize(
    ("ended", "why"),
    [
        (failed("torch.OutOfMemoryError: CUDA out of memory."), "a GPU ran out of memory, and"),
        (failed("DatasetGenerationError: An error"), "the rows of a file do not have the same"),
        (failed("ValueError: the moon is full"), "the cause is not known"),
        (
            failed(told=None, why="node 1 (b) stopped: its training ended with exit code 1"),
            "another node has stopped, and does not start again",
        ),
    ],
)
def test_what_would_fail_again_is_not_started_again(tmp_path: Path, ended: Ended, why: str) -> None:
    tries = Attempts(5)
    tries.judge(ended, tmp_path)
    assert tries.wait is None
    assert tries.why.startswith(f"not started again: {why}")
    assert tries.words(ended) == "its training ended with exit code 1"


@pytest.mark.parametrize("state", ["preempted", "stopped", "over budget", "done"])
def test_what_was_asked_for_is_not_undone(tmp_path: Path, state: str) -> None:
    tries = Attempts(5)
    tries.judge(failed(state=state), tmp_path)
    assert (tries.wait, tries.why) == (None, "")


def test_without_the_flag_no_word_is_said(tmp_path: Path) -> None:
    tries = Attempts(0)
    tries.judge(failed(), tmp_path)
    assert (tries.wait, tries.why) == (None, "")


@pytest.mark.parametrize(
    "why",
    [
        "node 1 (gpu-02) was lost: it closed the connection",
        "node 1 (gpu-02) stopped: its training ended with exit code 1; it starts again",
        "stalled: nothing has moved for 30 min",
    ],
)
def test_another_node_or_a_stall_may_pass(tmp_path: Path, why: str) -> None:
    ended = failed(why, why=why)
    tries = Attempts(1)
    tries.judge(ended, tmp_path)
    assert tries.why == "starts again in 10 s from its beginning, 1 of 1"
    assert tries.words(ended) == "its training ended with exit code 1; it starts again"


def test_waits_grow_until_there_is_progress(tmp_path: Path) -> None:
    tries = Attempts(3)
    said = []
    for step in (None, None, 6, None, None, None):
        if step:
            checkpoint(tmp_path, step)
        tries.judge(failed(), tmp_path)
        said.append(tries.why)
    assert said == [
        "starts again in 10 s from its beginning, 1 of 3",
        "starts again in 30 s from its beginning, 2 of 3",
        "starts again in 10 s from step 6, 1 of 3",
        "starts again in 30 s from step 6, 2 of 3",
        "starts again in 60 s from step 6, 3 of 3",
        "not started again: 3 restarts without a new checkpoint",
    ]


def test_the_hours_are_those_of_the_first_start(tmp_path: Path) -> None:
    tries = Attempts(3, {STOP_AT: f"{time.time() + attempts.WAITS[0] - 5:.0f}"})
    tries.judge(failed(), tmp_path)
    assert tries.why == "not started again: its hours are over"


@pytest.mark.parametrize(
    ("problem", "state"),
    [
        (LauncherError("node 1 did not come"), "failed"),
        (KeyboardInterrupt(), "stopped"),
        (Terminated(), "preempted"),
    ],
)
def test_a_run_that_could_not_start_again_does_not_say_that_it_starts(
    tmp_path: Path, problem: BaseException, state: str
) -> None:
    folder = RunFolder(tmp_path / "sft-20261122-185502-kqzt")
    folder.root.mkdir()
    runs.update_status(folder, state="starting")
    tries = Attempts(1, folder=folder)

    def attempt(begun: object) -> Ended:
        raise problem

    with pytest.raises(type(problem)):
        repeated(attempt, None, tries)
    status = json.loads(folder.status.read_text())
    assert status["state"] == state
    runs.update_status(folder, state="done")  # as the training itself has said
    with pytest.raises(type(problem)):
        repeated(attempt, None, tries)
    assert json.loads(folder.status.read_text())["state"] == "done"


WAITS = """
import sys
from pathlib import Path
from launcher.cli.attempts import Attempts, repeated
from launcher.causes import told
from launcher.runs.folder import RunFolder
from launcher.supervise import Ended
tries, folder = Attempts(1), RunFolder(Path(sys.argv[1]))
def attempt(begun):
    ended = Ended(folder, "failed", 1, told=told(["ConnectionError: 503"]))
    tries.judge(ended, folder.model)
    print(tries.why, flush=True)
    return ended
sys.exit(repeated(attempt, None, tries).exit_code)
"""


def test_while_it_waits_it_can_be_stopped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "sft-20261122-185502-kqzt")
    folder.root.mkdir()
    folder.recipe.write_text("base_model: x\n")
    folder.resolved.write_text("base_model: x\n")
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(folder.root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "starts again in 10 s from its beginning, 1 of 1\n"
    while not folder.status.exists():
        time.sleep(0.01)
    status = json.loads(folder.status.read_text())
    assert status["state"] == "starting"
    assert [(one["step"], one["cause"]) for one in status["restarts"]] == [(0, "hub-hiccup")]
    assert Follower(folder).read(time.time()).state == "starting"  # for who looks: not lost
    process.terminate()
    assert process.wait(8) == 143
    assert json.loads(folder.status.read_text())["state"] == "preempted"
