"""Every shipped recipe rehearsed for real, without a network; recipes that break, and how."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher import recipe as recipes
from launcher import runs
from launcher.dataset.sample import Sample
from launcher.demo import prepared_model
from launcher.rehearse import events
from launcher.rehearse import rehearsal as rehearsing
from launcher.rehearse.follow import environment
from launcher.rehearse.outcome import losses
from launcher.rehearse.overrides import Length
from launcher.rehearse.rehearsal import Rehearsal, Report
from launcher.runs.folder import RunFolder
from launcher.supervise.processes import descendants

# Some of what torch and transformers import warns.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

NAMES = [path.stem for path in recipes.shipped()]
OFFLINE = {"HF_HUB_OFFLINE": "1"}
PAIRS = [name for name in NAMES if "dpo" in name]

# What is known of the pinned axolotl: merging a QLoRA rounds the embedding and the head, and a run
# that packs goes on with other rows.
KNOWN = {
    "llama31-dpo-qlora": {"L226"},
    "llama31-sft-lora": {"L228"},
    "llama31-sft-qlora": {"L226", "L228"},
}

# recipe, overrides, the stage that breaks (none: all run), the code, what the message says, the
# line's text in the recipe or on the command line, what the hint says
BROKEN: dict[str, tuple[str, tuple[str, ...], str | None, str, str, str, str]] = {
    "lora-target-regex": (
        "llama31-dpo-lora",
        ("lora_target_modules=[c_attn]",),
        "load",
        "L212",
        "Target modules {'c_attn'} not found in the base model",
        "[c_attn]",
        "q_proj, k_proj, v_proj, o_proj",
    ),
    "lora-no-grad": (
        "smollm2-dpo",
        ("adapter=null", "unfrozen_parameters=[attention]"),
        "train",
        "L221",
        "no weight of the model is trained",
        "[attention]",
        "from its beginning",
    ),
    "lora-no-grad, without a word": (  # axolotl trains on to the end
        "qwen25-dpo",
        ("unfrozen_parameters=[embed_tokens]",),
        None,
        "L221",
        "no weight of the model is trained",
        "[embed_tokens]",
        "from its beginning",
    ),
    "columns": (
        "llama31-dpo-lora",
        ("datasets.0.type.field_prompt=question",),
        "tokenise",
        "L211",
        "KeyError: 'question'",
        "question",
        "the rows have the columns prompt, chosen, rejected",
    ),
    "deepspeed-json": (
        "qwen25-sft",
        ("deepspeed=stage7.json",),
        None,
        "L225",
        "Input should be 0, 1, 2, 3 or 3",
        "stage7.json",
        "recipes/deepspeed/zero2.json",
    ),
    "merge": (
        "phi3-sft-lora",
        ("peft_init_lora_weights=pissa",),
        "merge",
        "L217",
        "only supports standard LoRA",
        "pissa",
        "merge_method: legacy",
    ),
    "final-save-crash": (
        "llama31-dpo-lora",
        ("peft_layer_replication=[[0,4],[2,5]]",),
        "save",
        "L215",
        "shared tensors",
        "[[0,4],[2,5]]",
        "",
    ),
}


@dataclass(frozen=True)
class Rehearsed:
    plan: Rehearsal
    report: Report

    @property
    def codes(self) -> set[str]:
        return {problem.code for problem in self.report.problems}

    @property
    def states(self) -> dict[str, str]:
        return {stage.name: stage.state for stage in self.report.stages}

    def losses(self, run: str) -> dict[int, float]:
        return losses(runs.read_metrics(RunFolder(self.plan.folder / run)))


def planned(name: str, folder: Path, *overrides: str) -> Rehearsal:
    recipe = recipes.load(recipes.find(name), overrides)
    samples = rehearsing.rows(recipe, OFFLINE)
    assert rehearsing.obstacles(recipe, samples) == []
    folder.mkdir()
    ready = [one for one in samples if isinstance(one, Sample)]
    return rehearsing.plan(recipe, ready, OFFLINE, folder, Length())


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rehearsed]:
    """All of them by one child: its imports are made once, each part runs in a fork."""
    root = tmp_path_factory.mktemp("rehearsals")
    stage7 = {"zero_optimization": {"stage": 7}, "train_micro_batch_size_per_gpu": "auto"}
    (root / "stage7.json").write_text(json.dumps(stage7))
    plans = {name: planned(name, root / name) for name in NAMES}
    before = os.getcwd()
    os.chdir(root)
    try:
        for case, (name, overrides, *_) in BROKEN.items():
            plans[case] = planned(name, root / case.replace(" ", "-"), *overrides)
    finally:
        os.chdir(before)
    child = [sys.executable, "-m", "launcher.rehearse.child"]
    work = root / "work"
    work.mkdir()
    (work / "stage7.json").write_text(json.dumps(stage7))
    with (root / "log").open("w") as log:
        subprocess.run(
            [*child, *(str(plan.folder) for plan in plans.values())],
            cwd=work,
            env=environment(os.environ, root, 1),
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=550,
            check=False,
        )
    assert [path.name for path in work.iterdir()] == ["stage7.json"]  # nothing is written here
    found = {}
    for name, plan in plans.items():
        told, _ = events.read(plan.folder / rehearsing.EVENTS, 0)
        found[name] = Rehearsed(plan, rehearsing.report(plan, told, 1.0))
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_runs_from_the_rows_to_the_result(
    rehearsed: dict[str, Rehearsed], name: str
) -> None:
    found = rehearsed[name]
    settings = found.plan.recipe.settings
    left_out = {
        *(() if settings.get("adapter") else ("merge",)),
        *(() if settings.get("evals_per_epoch") or settings.get("eval_steps") else ("evaluate",)),
    }
    expected = {stage: "left out" if stage in left_out else "done" for stage in found.states}
    assert found.states == expected, found.report.problems
    assert found.codes == KNOWN.get(name, set())
    assert set(found.losses("first")) == {1, 2, 3}
    assert set(found.losses("again")) == {3}
    assert all(math.isfinite(loss) for loss in found.losses("first").values())


def test_all_shipped_recipes_are_among_them() -> None:
    assert len(NAMES) == 9


@pytest.mark.parametrize("name", PAIRS)
def test_a_preference_starts_from_itself(rehearsed: dict[str, Rehearsed], name: str) -> None:
    metrics = runs.read_metrics(RunFolder(rehearsed[name].plan.folder / "first"))
    first = next(line for line in metrics if "loss" in line)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
    if name != "smollm2-dpo":  # it adds the supervised loss
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if "L228" not in KNOWN.get(name, set())])
def test_a_resumed_run_goes_on_where_the_first_was(
    rehearsed: dict[str, Rehearsed], name: str
) -> None:
    first, again = (rehearsed[name].losses(run) for run in ("first", "again"))
    assert again[3] == pytest.approx(first[3], rel=1e-5)


def test_a_packed_run_goes_on_with_other_rows(rehearsed: dict[str, Rehearsed]) -> None:
    first, again = (rehearsed["llama31-sft-lora"].losses(run) for run in ("first", "again"))
    assert abs(again[3] - first[3]) > 1e-4


def test_merging_a_qlora_rounds_what_training_left_alone(rehearsed: dict[str, Rehearsed]) -> None:
    (told,) = [one for one in rehearsed["llama31-dpo-qlora"].report.problems if one.code == "L226"]
    assert "lm_head.weight, model.embed_tokens.weight" in told.message
    assert "merge_method: legacy" in told.hint


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_is_told_at_its_line(rehearsed: dict[str, Rehearsed], case: str) -> None:
    _, _, stage, code, words, written, hint = BROKEN[case]
    found = rehearsed[case]
    failed = [name for name, state in found.states.items() if state == "failed"]
    assert failed == ([stage] if stage else []), found.states
    (told,) = [one for one in found.report.problems if one.code == code]
    assert words in told.message
    assert found.plan.recipe.written(told.span) == written
    assert hint in told.hint
    if stage:
        after = list(found.states.values())[list(found.states).index(stage) + 1 :]
        assert set(after) <= {"not reached", "left out"}


def test_the_libraries_warnings_are_told_once(rehearsed: dict[str, Rehearsed]) -> None:
    found = rehearsed["qwen25-sft"].report.remarks
    assert len({(one.logger, one.text) for one in found}) == len(found)
    theirs = [one for one in found if not one.ours]
    assert any("axolotl preprocess" in one.text and one.count == 2 for one in theirs)
    assert any("pin_memory" in one.text for one in found if one.ours)


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for temporary files, of a short name: sockets stand in it."""
    return tmp_path_factory.mktemp("t")


def start(temporary: Path, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "launcher", "rehearse", *map(str, args)],
        env={**os.environ, **OFFLINE, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_ranks_with_the_real_tokenizer_go_through_the_command_line(temporary: Path) -> None:
    words = ["smollm2-dpo", f"base_model={prepared_model()}", "--ranks", 2, "--json"]
    process = start(temporary, *words)
    out, said = process.communicate(timeout=500)
    assert process.returncode == 0, said
    found: dict[str, Any] = json.loads(out)
    assert found["ok"]
    assert found["model"]["tokenizer"] == str(prepared_model())
    assert found["log"] is None
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert [stage for stage, one in stages.items() if one["state"] == "left out"] == ["evaluate"]
    weights = int(stages["prepare"]["note"].split()[0].replace(",", ""))
    assert 49_152 * 32 < weights < 10_000_000  # the real vocabulary
    assert {"bf16", "base_model", "max_steps"} <= {change["key"] for change in found["set"]}
    assert list(temporary.iterdir()) == []


def test_ctrl_c_leaves_no_process_and_no_folder(temporary: Path) -> None:
    process = start(temporary, "smollm2-dpo", "--steps", 100)
    assert process.stderr is not None
    for line in process.stderr:
        if "train..." in line:
            break
    below = descendants(process.pid)
    assert below
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "stopped by signal 2" in said
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{number}").exists() for number in below):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert list(temporary.iterdir()) == []
