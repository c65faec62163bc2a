"""``--on-finish``: what runs when a run is over, and when nothing does."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Axr

from launcher.cli import Terminated
from launcher.cli.finish import End, finishing
from launcher.runs.folder import RunFolder

TELL = 'echo "$AXR_STATE|$AXR_EXIT_CODE|$AXR_RUN" > told'


def test_where_nobody_sits_a_run_that_cannot_start_is_over_too(axr: Axr, tmp_path: Path) -> None:
    done = axr("train", "no-such-recipe", "--on-finish", TELL)
    assert done.returncode not in (0, 130)
    assert (tmp_path / "told").read_text() == f"failed|{done.returncode}|\n"
    assert f"on finish: {TELL}" in done.stderr


def test_somebody_at_the_terminal_who_misspells_a_name_keeps_the_machine(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "launcher", "train", "no-such-recipe", "--on-finish", TELL]
    done = subprocess.run(
        words, stdin=theirs, cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode != 0
    assert not (tmp_path / "told").exists()


def test_a_dry_run_finishes_nothing(axr: Axr, tmp_path: Path) -> None:
    assert axr("train", "smollm2-dpo", "--dry-run", "--on-finish", TELL).returncode == 0
    assert not (tmp_path / "told").exists()


def test_a_command_that_fails_is_told_and_changes_no_exit_code(axr: Axr) -> None:
    plain = axr("train", "no-such-recipe")
    done = axr("train", "no-such-recipe", "--on-finish", "exit 7")
    assert done.returncode == plain.returncode
    assert "on finish: the command failed with exit code 7" in done.stderr


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_after_ctrl_c_nothing_runs(here: Path) -> None:
    with pytest.raises(KeyboardInterrupt), finishing(TELL):
        raise KeyboardInterrupt
    with finishing(TELL) as end:
        end.code, end.folder = 130, RunFolder(here / "run")
    assert not (here / "told").exists()


def test_a_preemption_before_the_start_is_an_end(here: Path) -> None:
    with pytest.raises(Terminated), finishing(TELL):
        raise Terminated
    assert (here / "told").read_text() == "failed|143|\n"


@pytest.mark.parametrize("code", [0, 1, 4, 129, 143])
def test_after_any_other_end_it_does(here: Path, code: int) -> None:
    root = here / "runs" / "x"
    root.mkdir(parents=True)
    status = {"state": "told by the run", "minutes": 90, "usd": 3.5, "loss": 0.25}
    (root / "status.json").write_text(json.dumps(status))
    with finishing('echo "$AXR_STATE|$AXR_EXIT_CODE|$AXR_HOURS|$AXR_USD|$AXR_LOSS" > told') as end:
        end.code, end.folder = code, RunFolder(root)
    assert (here / "told").read_text() == f"told by the run|{code}|1.5|3.5|0.25\n"


def test_a_run_whose_records_are_gone_is_over_all_the_same(here: Path) -> None:
    with finishing(TELL) as end:
        end.code, end.folder = 1, RunFolder(here / "gone")
    assert (here / "told").read_text() == f"failed|1|{here / 'gone'}\n"


def test_a_defect_of_the_launcher_is_an_end_too(here: Path) -> None:
    with pytest.raises(ZeroDivisionError), finishing(TELL):
        raise ZeroDivisionError
    assert (here / "told").read_text().startswith("failed|3|")


def test_no_command_no_end(here: Path) -> None:
    with finishing(None) as end:
        end.code = 1
    assert end == End(1)
