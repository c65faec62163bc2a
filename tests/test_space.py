"""Checkpoints on a disk that is too small: real axolotl on a small file system of its own."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_train import TWO_RANKS, Trained, command, environment, sft

from launcher.checkpoints import checkpoints, rotated
from launcher.runs.folder import RunFolder

# Some of what torch and axolotl import warns.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

WHOLE = 1_860_000  # bytes of a checkpoint of `sft`, about: a third of it the weights
MORE = 250_000  # bytes of all else in a run folder, about
Small = Callable[[float], Path]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    """Return a folder on a disk with room for so many checkpoints, and for all else."""
    place = tmp_path / "disk"
    place.mkdir()

    def made(rooms: float) -> Path:
        options = f"size={int(WHOLE * rooms + MORE)}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("no file system can be mounted here: " + done.stderr.decode())
        return place

    yield made
    subprocess.run(["umount", "-l", place], capture_output=True, check=False)


def train(folder: Path, disk: Path, *args: object) -> Trained:
    done = subprocess.run(
        command(*args, "--skip-doctor"),
        cwd=folder,
        env={**environment(folder), "AXR_RUNS": str(disk)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )
    (made,) = (one for one in disk.iterdir() if one.is_dir())
    return Trained(done.returncode, done.stdout, RunFolder(made))


def steps(run: RunFolder) -> list[int]:
    """Return the steps of the checkpoints, the newest first; all of them are whole."""
    found = checkpoints(run.model)
    assert [one.fault for one in found] == [""] * len(found)
    return [one.step for one in found]


def wait_for(text: str, said: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while text not in said.read_text():
        assert process.poll() is None, said.read_text()[-4000:]
        assert time.monotonic() < deadline, said.read_text()[-4000:]
        time.sleep(0.1)


def fill(disk: Path) -> Path:
    """Take all that is left of a disk."""
    file = disk / "filler"
    with file.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))
    return file


def test_a_disk_that_is_full_ends_no_run_and_takes_no_checkpoint(
    tmp_path: Path, small: Small
) -> None:
    disk, said = small(2.5), tmp_path / "said"
    recipe = sft(tmp_path, num_epochs=1000, save_strategy="steps", save_steps=1, save_total_limit=2)
    with said.open("w") as stream:
        process = subprocess.Popen(
            command(recipe, "--skip-doctor"),
            cwd=tmp_path,
            env={**environment(tmp_path), "AXR_RUNS": str(disk)},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    wait_for("checkpoint-2 is deleted before the next one is saved", said, process)
    (run,) = map(RunFolder, disk.iterdir())
    filler = fill(disk)
    wait_for("is left out: it takes", said, process)
    wait_for("metrics.jsonl misses steps: No space left on device", said, process)
    before = steps(run)
    assert before
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=150) == 143, said.read_text()[-4000:]
    assert steps(run) == before
    assert f"next: axr train --resume {run.root}" in said.read_text()
    filler.unlink()
    for step in before[1:]:
        shutil.rmtree(run.model / f"checkpoint-{step}")
    filler.write_bytes(bytes(WHOLE))  # room for one and a half is left
    words = ["--resume", "save_total_limit=1", f"max_steps={before[0] + 3}"]
    done = train(tmp_path, disk, *words)
    assert done.code == 0, done.said[-4000:]
    assert "left out for lack of space" in done.said
    assert steps(run) == before[:1]  # the only whole one is never given for the next
    assert (run.model / "model.safetensors").exists()


FILLER = """
import contextlib, os
from pathlib import Path
from axolotl.integrations.base import BasePlugin
from transformers import TrainerCallback

FILE = Path(os.environ["AXR_RUN_DIR"], "filler")

class Empty(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        FILE.unlink(missing_ok=True)

class Filler(BasePlugin):
    def add_callbacks_pre_trainer(self, cfg, model):
        return [Empty()]

    def post_trainer_create(self, cfg, trainer):
        save = trainer.model.save_pretrained
        def filled(*args, **kwargs):
            if trainer.state.global_step == 2:
                with FILE.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
                    while True:
                        stream.write(bytes(4096))
            return save(*args, **kwargs)
        trainer.model.save_pretrained = filled
"""


def test_a_save_that_fails_on_two_ranks_leaves_nothing_behind(tmp_path: Path, small: Small) -> None:
    """While the weights are written, another process fills the disk; the other rank waits for them,
    as there is a best model.
    """
    (tmp_path / "filler.py").write_text(FILLER)
    recipe = sft(
        tmp_path,
        plugins=["filler.Filler"],
        save_strategy="steps",
        save_steps=1,
        save_total_limit=3,
        val_set_size=0.25,
        eval_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
    )
    run = RunFolder(small(4.5) / "run")
    done = subprocess.run(
        [sys.executable, "-c", TWO_RANKS, str(recipe), str(run.root)],
        cwd=tmp_path,
        env=environment(tmp_path) | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert steps(run) == [3, 1]
    assert "checkpoint-2 is left out: OSError: [Errno 28]" in done.stdout
    said = json.loads(run.left_out.read_text())  # once the disk took it
    assert (said["count"], said["step"]) == (1, 2)


@pytest.mark.parametrize("limit", [None, 0, 1, 2, 3, 5])
@pytest.mark.parametrize("best", [None, 1, 2, 3])
def test_what_transformers_would_delete_is_known_before(
    tmp_path: Path, limit: int | None, best: int | None
) -> None:
    from transformers.trainer_utils import rotate_checkpoints

    folders = [tmp_path / f"checkpoint-{step}" for step in (1, 2, 3, 4)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        os.utime(folder, (1000 * number, 1000 * number))
    kept = folders[best - 1] if best else None
    before = rotated(folders[:3], limit=limit, best=kept)
    rotate_checkpoints(str(tmp_path), limit, str(kept) if kept else None, use_mtime=True)
    assert before == [folder for folder in folders if not folder.exists()]


def test_which_errors_say_that_a_disk_is_full() -> None:
    from launcher.plugin.space import full

    wrapped = RuntimeError("cannot save")
    wrapped.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    torch = "[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"
    rust = "Error while serializing: I/O error: No space left on device (os error 28)"
    for problem in (wrapped, RuntimeError(torch), OSError(errno.ENOSPC, "x"), Exception(rust)):
        assert full(problem)
    for other in (OSError(errno.EACCES, "x"), RuntimeError("CUDA out of memory"), ValueError()):
        assert not full(other)
