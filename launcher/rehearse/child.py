"""The process that rehearses: ``python -m launcher.rehearse.child FOLDER...``.

A folder holds ``task.json``. axolotl's imports take seconds, so they are made once; each part of a
rehearsal then runs in a fork of its own, as it would run in a process of its own: what the first
run leaves behind in memory, the resumed one never sees.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from launcher.rehearse import events
from launcher.rehearse.task import AGAIN, FIRST, Task

# What every fork would import for itself, seconds each time.
SHARED = (
    "axolotl.cli.merge_lora",
    "axolotl.cli.train",
    "axolotl.core.builders",
    "axolotl.train",
    "axolotl.processing_strategies",
    "trl.trainer.dpo_trainer",
    "deepspeed",
)


def main(folders: list[str]) -> int:
    """Rehearse each folder's task; return 1 if one of them failed."""
    for name in SHARED:
        with contextlib.suppress(ImportError):  # DeepSpeed need not be here
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    return int(any([rehearse(Path(folder)) for folder in folders]))


def rehearse(folder: Path) -> bool:
    """Go through the parts of one rehearsal; stop at one that fails. Returns whether one did."""
    from launcher.rehearse import parts

    task = Task.read(folder)
    os.environ[events.FILE] = str(folder / "events.jsonl")
    todo: list[tuple[str, str, Callable[[], None]]] = [
        ("prepare", "", lambda: parts.prepare(folder, task)),
        ("config", "", lambda: _train(folder, FIRST, task)),
        ("resume", "resume", lambda: _train(folder, AGAIN, task)),
        ("reload", "", lambda: parts.finish(folder, task)),
    ]
    for stage, whole, part in todo:
        if stage == "resume" and not task.again:
            continue
        if not _in_a_fork(stage, whole, part):
            return True
    return False


def _in_a_fork(stage: str, whole: str, part: Callable[[], None]) -> bool:
    """Run a part in a process of its own; return whether it came to its end."""
    if whole:
        events.begin(whole)
        os.environ[events.WHOLE] = whole
    fork = os.fork()
    if not fork:
        os._exit(_run(part))
    _, status = os.waitpid(fork, 0)
    os.environ.pop(events.WHOLE, None)
    code = os.waitstatus_to_exitcode(status)
    if code:
        events.tell(state="over", stage=stage, code=code)
    elif whole:
        events.end(whole)
    return code == 0


def _run(part: Callable[[], None]) -> int:
    """Run a part and return its exit code. Whatever it raises is what the rehearsal looks for."""
    code = 0
    try:
        part()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException as problem:
        import traceback

        events.failed(problem)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _train(folder: Path, config: str, task: Task) -> None:
    """Train as the command line of axolotl does; with several ranks, by that command line."""
    events.begin("config")
    os.environ["AXR_RUN_DIR"] = str(folder / Path(config).stem)
    if task.ranks > 1:
        code = subprocess.run(launched(folder / config, task.ranks)).returncode
        if code:
            sys.exit(code)
        return
    from axolotl.cli.train import do_cli

    sys.argv = ["axolotl.cli.train"]
    do_cli(config=str(folder / config))


def launched(config: Path, ranks: int) -> list[str]:
    """Return the command that trains on so many processes of the CPU, joined by gloo.

    With ``--cpu`` accelerate would silently start one.
    """
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"),
        *("--config_file", str(Path(__file__).parents[1] / "accelerate.yaml")),
        *("--num_machines", "1", "--num_processes", str(ranks), "--main_process_port", "0"),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
        *("--num_cpu_threads_per_process", os.environ.get("OMP_NUM_THREADS", "1")),
        *("-m", "axolotl.cli.train", str(config)),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
