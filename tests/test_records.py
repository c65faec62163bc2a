"""What a run folder tells of a run: where each value is from, the machine, the code, what came of
it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stand_in_nvml as nvml

from launcher import outcome, repeat, resume, runs, source
from launcher import recipe as recipes
from launcher.dataset.digest import digests
from launcher.launch import build
from launcher.node import Gpu, Machine, Node
from launcher.runs import Start, git, revisions, starts
from launcher.runs.folder import RunFolder
from launcher.runs.machine import machine
from launcher.runs.origins import origins

TEXT = """\
base_model: a/b
# where the rows are
datasets:
  - path: rows.jsonl
    type: alpaca
deepspeed: recipes/deepspeed/zero2.json
output_dir: out
learning_rate: 1.0e-5
special_tokens: {}
micro_batch_size: 1
"""


def told(*overrides: str, given: tuple[str, ...] | None = None) -> dict[str, str]:
    found = recipes.override(recipes.from_document(source.parse(TEXT, "my.yaml")), overrides)
    launch = build(found, Machine(1, on_cpu=False), RunFolder(Path("runs/x")), {})
    reasons = {change.key: change.reason for change in launch.changes}
    return origins(found, launch.resolved, reasons, overrides if given is None else given)


def test_every_value_has_an_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # outside the checkout, as who installed the wheel is
    assert told("learning_rate=3.0e-5", "datasets.0.path=b.jsonl", "lora_r=8") == {
        "base_model": "my.yaml:1",
        "datasets.0.path": "override datasets.0.path=b.jsonl",
        "datasets.0.type": "my.yaml:5",
        "deepspeed": "my.yaml:6, made absolute, as it is shipped",
        "learning_rate": "override learning_rate=3.0e-5",
        "special_tokens": "my.yaml:9",
        "micro_batch_size": "my.yaml:10",
        "lora_r": "override lora_r=8",
        "output_dir": "launcher: so that no run writes into another's result; was out (my.yaml:7)",
        "dataset_prepared_path": (
            "launcher: so that data prepared from other rows is never trained on"
        ),
        "plugins.0": "launcher: what records the run, and stops it with a checkpoint",
    }


def test_an_override_of_a_whole_list_is_the_origin_of_all_in_it() -> None:
    text = "datasets=[{path: c.jsonl, type: alpaca}]"
    found = told(text)
    assert found["datasets.0.path"] == found["datasets.0.type"] == f"override {text}"


def test_what_a_resumption_sets_is_not_called_typed() -> None:
    found = told("resume_from_checkpoint=runs/x/model/checkpoint-4", given=())
    assert found["resume_from_checkpoint"] == ("launcher: the checkpoint that the run goes on from")


def test_no_secret_is_in_an_origin_and_each_is_one_line() -> None:
    token = "hf_" + "q1W2" * 8
    found = told(f"hub_token={token}", "default_system_message='a\n\n  b'")
    assert token not in json.dumps(found)
    assert "\n" not in "".join(found.values())


def test_the_machine_is_known_by_its_serial_numbers(tmp_path: Path) -> None:
    text = nvml.described(nvml.a100(0), nvml.a100(1, serial=""), nvml.a100(2))
    environ = {**os.environ, **nvml.environment(tmp_path, text)}
    code = (
        "import json, os; from launcher import node; from launcher.runs.machine import machine;"
        "print(json.dumps(machine(node.probe(os.environ), 2)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    first, second = found["gpus"]
    assert first == {
        "index": 0,
        "name": nvml.A100,
        "uuid": nvml.UUIDS[0],
        "serial": "1320123000000",
        "memory_gib": 80.0,
    }
    assert "serial" not in second  # this card does not say
    assert (found["driver"], found["cuda"]) == ("550.54.15", "12.4")
    assert found["memory_gib"] > 0


def test_on_a_cpu_no_gpu_is_recorded_though_there_is_one() -> None:
    found = machine(Node(gpus=(Gpu("NVIDIA A100", 80.0),), cpus=4), 0)
    assert "gpus" not in found
    assert found["cores"] == 4


def run_git(folder: Path, *words: str) -> None:
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *name, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "my.yaml").write_text("base_model: a/b\n")
    run_git(folder, "init", "-q", "-b", "trunk")
    run_git(folder, "add", ".")
    run_git(folder, "commit", "-q", "-m", "one")
    return folder


def test_the_state_of_the_recipes_repository(repository: Path) -> None:
    recipe = repository / "recipes" / "my.yaml"
    clean = git.states(recipe, os.environ)["recipe"]
    assert clean.pop("folder") == str(repository.resolve())
    assert len(clean.pop("commit")) == 40
    assert clean == {"branch": "trunk", "dirty": False}
    digests = []
    for value in ("1", "2"):
        recipe.write_text(f"base_model: a/b\nhub_token: secret{value}\n")
        changed = git.states(recipe, os.environ)["recipe"]
        assert changed["dirty"] is True
        assert "secret" not in json.dumps(changed)
        digests.append(changed["diff"])
    assert len({*digests}) == 2


def test_no_program_that_a_repository_names_is_run(repository: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    (repository / ".git" / "hooks").mkdir(exist_ok=True)
    (repository / ".git" / "hooks" / "post-index-change").symlink_to(trap)
    for key in ("core.fsmonitor", "diff.external", "diff.x.textconv", "diff.x.command"):
        run_git(repository, "config", key, str(trap))
    (repository / ".gitattributes").write_text("* diff=x\n")
    (repository / "recipes" / "my.yaml").write_text("base_model: c/d\n")
    found = git.state(repository, os.environ)
    assert found["dirty"] is True
    run_git(repository, "config", "filter.y.clean", str(trap))
    (repository / ".gitattributes").write_text("* filter=y\n")
    found = git.state(repository, os.environ)
    assert "dirty" not in found
    assert found["branch"] == "trunk"
    assert not (tmp_path / "sprung").exists()


def test_without_a_repository_a_commit_or_git_there_is_nothing(tmp_path: Path) -> None:
    assert git.state(tmp_path, os.environ) == {}
    run_git(tmp_path, "init", "-q")
    assert git.state(tmp_path, os.environ) == {}
    assert git.state(tmp_path, {"PATH": "/nonexistent"}) == {}
    assert git.state(tmp_path / "none", os.environ) == {}


def test_what_git_was_told_by_the_environment_is_not_heard(repository: Path) -> None:
    other = {**os.environ, "GIT_DIR": "/nonexistent", "GIT_WORK_TREE": "/"}
    assert git.state(repository, other)["branch"] == "trunk"


def create(folder: RunFolder, **known: Any) -> None:
    with runs.held(folder):
        runs.create(folder, replace(Start("", {}, "", {}), **known))


def status(folder: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.status.read_text())
    return found


def test_a_run_is_the_sum_of_its_starts(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    create(folder)
    runs.write_json(folder.plan, {"usd_an_hour": 12.0})
    rate = "tokens/train_per_sec_per_gpu"
    lines = [
        {"step": 1, "time": 1.0, "loss": 3.0, "peak_allocated_gib": 50.5, rate: 900},
        {"step": 4, "time": 2.0, "loss": 2.0, "peak_allocated_gib": 60.25, rate: 900},
        {"step": 5, "time": 4e9, "loss": 2.5, "peak_allocated_gib": 40.0, rate: 100},
        {"step": 8, "time": 4e9, "loss": None, "nonfinite": ["loss"], rate: 300},
        {"step": 8, "eval_loss": 1.5},
        {"step": 8, "train_runtime": 9.0},
    ]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines[:2]))
    runs.update_status(folder, **outcome.ended(folder, "preempted", 143, 10.0))
    create(folder, step=4)
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs.update_status(folder, **outcome.ended(folder, "done", 0, 5.5))
    found = status(folder)
    assert [(one["state"], one["minutes"], one["from_step"]) for one in found["starts"]] == [
        ("preempted", 10.0, 0),
        ("done", 5.5, 4),
    ]
    wanted = {"state": "done", "exit_code": 0, "minutes": 15.5, "usd": 3.1, "step": 8}
    wanted |= {"loss": 2.5, "eval_loss": 1.5, "peak_gib": 60.25, "tokens_per_second": 200.0}
    assert {name: found[name] for name in wanted} == wanted


def test_without_a_price_or_records_nothing_is_made_up(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    create(folder)
    found = outcome.ended(folder, "failed", 1, 0.5)
    assert {"usd", "loss", "peak_gib", "step", "tokens_per_second"} & found.keys() == set()


def test_a_start_that_was_killed_ended_at_its_last_sign(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    create(folder)
    began = 1_760_000_000
    first = {"started": "2025-10-09T08:53:20+00:00", "from_step": 0}
    runs.update_status(folder, starts=[first])
    folder.log.touch()
    os.utime(folder.log, (began + 600, began + 600))
    create(folder, step=20)
    killed, now = status(folder)["starts"]
    assert killed == first | {
        "ended": "2025-10-09T09:03:20+00:00",
        "minutes": 10.0,
        "state": "lost",
    }
    assert now["from_step"] == 20
    assert outcome.ended(folder, "done", 0, 2.0)["minutes"] == 12.0


def test_a_start_that_was_killed_before_it_wrote_took_no_time_back(tmp_path: Path) -> None:
    """What its log holds is of the start before."""
    status = {"starts": [{"minutes": 9.0, "ended": "x"}, {"started": "2025-10-09T08:53:20+00:00"}]}
    known = starts.begun(status, runs.now(), None, 1_760_000_000 - 3600)
    assert starts.minutes(known) == 9.0


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"starts": 5},
        {"starts": [7]},
        {"starts": [{}]},
        {"starts": [{"started": 5, "minutes": 10**400}, {"minutes": math.inf}]},
    ],
)
def test_a_status_of_any_form_keeps_no_run_from_ending(
    tmp_path: Path, broken: dict[str, Any]
) -> None:
    folder = RunFolder(tmp_path)
    runs.write_json(folder.status, broken)
    folder.metrics.write_text(
        '[1]\n{"step": null}\n{"step": "x", "loss": {}}\n'
        + "[" * 100_000  # deeper than Python reads
        + f'\n{{"step": {"9" * 5000}}}\n{{"loss": {"9" * 400}, "time": "x"}}\n'
    )
    for price in ("cheap", 10**400, math.nan):
        runs.write_json(folder.plan, {"usd_an_hour": price})
        found = outcome.ended(folder, "done", 0, 1.0)
        assert (found["minutes"], found.get("usd"), found.get("loss")) == (1.0, None, None)
    assert starts.begun(broken, runs.now(), None, None)[-1]["from_step"] == 0


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that was started in the folder ``then`` with rows beside its recipe."""
    then = tmp_path / "then"
    then.mkdir()
    monkeypatch.chdir(then)
    (then / "rows.jsonl").write_text("{}\n")
    folder = RunFolder(tmp_path / "runs" / "my-20261122-185502-kqzt")
    create(folder, recipe=TEXT, data=digests(recipes.from_document(source.parse(TEXT, "my.yaml"))))
    return folder


def differences(folder: RunFolder, *overrides: str, **environ: str) -> list[tuple[str, str, str]]:
    found = resume.recorded(str(folder.root), overrides)
    assert found is not None
    problems = repeat.check(folder, found, {**os.environ, **environ}, resumed=False)
    return [(one.code, one.message, one.hint) for one in problems]


def test_a_run_again_where_all_is_as_it_was(past: RunFolder) -> None:
    assert differences(past) == []


def test_other_rows_than_then_are_told(past: RunFolder) -> None:
    Path("rows.jsonl").write_text("{}\n{}\n")
    ((code, fact, _),) = differences(past)
    assert (code, fact) == ("L311", '"rows.jsonl" has changed since the run')
    found = resume.recorded(str(past.root), ())
    assert found is not None
    assert repeat.check(past, found, os.environ, resumed=True) == []  # L302 tells of it
    Path("others.jsonl").write_text("{}\n")
    assert differences(past, "datasets.0.path=others.jsonl") == []


def test_from_another_folder_it_says_where_the_rows_are(
    past: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ((code, fact, hint),) = differences(past)
    assert (code, hint) == ("L312", f"cd {tmp_path}/then && axr train {past.root}")
    assert fact == f'"rows.jsonl" is not here; the run was started in {tmp_path}/then'
    (tmp_path / "then" / "rows.jsonl").unlink()
    ((code, fact, hint),) = differences(past)
    assert (code, hint) == ("L312", "name it: datasets.0.path=PATH")


def test_other_versions_and_code_than_then_are_told(past: RunFolder, repository: Path) -> None:
    versions = json.loads(past.versions.read_text())
    runs.write_json(past.versions, versions | {"axolotl": "0.18.0", "flash-attn": "2.8.3"})
    runs.write_json(past.git, {"recipe": git.state(repository, os.environ)})
    (repository / "recipes" / "my.yaml").write_text("base_model: c/d\n")
    told = {fact: hint for _, fact, hint in differences(past)}
    assert told == {
        f"axolotl is {versions['axolotl']} here, and was 0.18.0": "uv pip install axolotl==0.18.0",
        "flash-attn is not installed here, and was 2.8.3": "uv pip install flash-attn==2.8.3",
        f"the repository {repository} has other changes that are not committed than it had": "",
    }
    run_git(repository, "commit", "-q", "-a", "-m", "two")
    assert any(" is at " in fact for _, fact, _ in differences(past))


def cached(hub: Path, kind: str, name: str, commit: str) -> None:
    ref = hub / f"{kind}--{name.replace('/', '--')}" / "refs" / "main"
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)


def test_the_commits_that_were_used_are_kept_and_compared(past: RunFolder, tmp_path: Path) -> None:
    environ = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    cached(tmp_path / "hub", "models", "a/b", "1" * 40)
    cached(tmp_path / "hub", "datasets", "c/d", "2" * 40)
    entries = [
        {"path": "c/d"},
        {"path": "e/f", "revision": "3" * 40},
        {"path": "g/h"},  # never downloaded
        {"path": "rows.jsonl"},
        {"path": "s3://x/y"},
        {"path": "../../etc"},
        {"path": None},
        "no entry",
    ]
    found = revisions.used({"base_model": "a/b", "datasets": entries}, environ)
    assert found == {
        "models": [{"name": "a/b", "revision": "main", "commit": "1" * 40}],
        "datasets": [
            {"name": "c/d", "revision": "main", "commit": "2" * 40},
            {"name": "e/f", "revision": "3" * 40, "commit": "3" * 40},
        ],
    }
    runs.write_json(past.revisions, found)
    cached(tmp_path / "hub", "models", "a/b", "4" * 40)
    assert differences(past, **environ) == [
        ("L311", "main of a/b is 44444444 now, and was 11111111", f"revision_of_model={'1' * 40}")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "\x00",
        '{"recipe": 5, "cwd": 7, "models": [1], "datasets": [{"name": []}], "starts": "x"}',
        '{"recipe": {"folder": "/nonexistent", "commit": 7}, "models": 5, "axolotl": []}',
    ],
)
def test_records_of_any_form_are_read(past: RunFolder, text: str) -> None:
    for file in (past.git, past.versions, past.revisions, past.data, past.status):
        file.write_text(text)
    differences(past)
