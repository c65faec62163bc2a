"""What axolotl says: asked for real, put at its line, kept."""

from __future__ import annotations

import datetime
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import Axr, hidden

from launcher import hardware, recipe, upstream
from launcher.diagnostics import Diagnostic
from launcher.recipe import Recipe
from launcher.source import parse
from launcher.upstream import Complaint, Question, Verdict
from launcher.upstream.place import diagnostics

needs_axolotl = pytest.mark.skipif(not find_spec("axolotl"), reason="axolotl is not installed")
GOOD = """\
base_model: a/b
learning_rate: 1.0e-5
micro_batch_size: 1
datasets:
  - path: tatsu-lab/alpaca
    type: alpaca
"""


def loaded(text: str) -> Recipe:
    return recipe.from_document(parse(text, "my.yaml"))


def placed(
    text: str, verdict: Verdict, known: tuple[Diagnostic, ...] = ()
) -> list[tuple[Any, ...]]:
    found = diagnostics(loaded(text), verdict, known)
    return [(p.code, p.span.line, p.span.column, p.message) for p in found]


@pytest.mark.parametrize(
    ("complaint", "line", "column"),
    [
        (Complaint(("warmup_steps",), "Input should be a valid integer"), 3, 15),
        (Complaint(("datasets", "shards"), "Input should be a valid integer"), 8, 13),
        (Complaint(("datasets", "0", "SFTDataset", "path"), "bad"), 5, 11),
        (Complaint(("datasets", "split"), "Field required"), 4, 1),
        (Complaint((), "FSDP2 not compatible with adamw_bnb_8bit, use `adamw_torch_8bit`"), 2, 12),
        (Complaint((), "the type of run: `warmup_steps` are needed"), 3, 1),
        (Complaint((), "either this or that is required"), 1, 1),
        (Complaint((), "set shards to 1"), 8, 5),
    ],
)
def test_a_complaint_stands_where_axolotl_means(
    complaint: Complaint, line: int, column: int
) -> None:
    text = (
        "base_model: a/b\noptimizer: adamw_bnb_8bit\nwarmup_steps: 0.1\ndatasets:\n"
        "  - path: a/b\n    type: alpaca\n  - path: c/d\n    shards: few\n"
    )
    ((code, *place, message),) = placed(text, Verdict((complaint,)))
    assert (code, place) == ("U101", [line, column])
    assert complaint.words.split()[0] in message


def test_long_words_become_a_fact_and_a_hint() -> None:
    words = "SwanLab is not set up.\n\nSolutions:\n  1. Add 'x'\n  2. Or y"
    (problem,) = diagnostics(loaded(GOOD), Verdict((Complaint((), words),)))
    assert problem.message == "axolotl: SwanLab is not set up."
    assert problem.hint == "Solutions:\n1. Add 'x'\n2. Or y"


def test_what_is_known_already_is_not_told_twice() -> None:
    text = GOOD + "qqq: 1\nflash_attention: true\n"
    verdict = Verdict((), ("`flash_attention: true` is deprecated",), ("qqq",))
    assert [row[:3] for row in placed(text, verdict)] == [("U102", 7, 1), ("U103", 8, 1)]
    known = tuple(diagnostics(loaded(text), verdict))
    assert placed(text, verdict, known) == []


def test_a_prefix_that_axolotl_strips_is_no_loss() -> None:
    verdict = Verdict((), (), ("fsdp_config.fsdp_offload_params",))
    assert placed(GOOD + "fsdp_config: {fsdp_offload_params: true}\n", verdict) == []


def test_the_machine_is_that_of_the_recipe_or_of_the_flag() -> None:
    mine = loaded("x-recipe:\n  needs: {gpu: h100-80gb, gpus: 4, disk: 1}\n" + GOOD)
    assert (upstream.question(mine).gpu.name, upstream.question(mine).gpus) == ("h100-80gb", 4)
    assert upstream.question(mine, hardware.find("t4")).gpu.name == "t4-16gb"
    assert upstream.question(loaded(GOOD)).gpu.name == "a100-80gb"
    assert upstream.capabilities(hardware.find("h100"), 4)["fp8"] is True
    assert upstream.capabilities(hardware.find("a100"), 4)["fp8"] is False
    assert upstream.capabilities(hardware.find("t4"), 1)["bf16"] is False


def test_without_axolotl_it_says_so(axr: Axr, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(GOOD)
    env = {"AXR_CACHE": str(tmp_path), **hidden(tmp_path / "site", "axolotl")}
    done = axr("validate", "my.yaml", "--upstream", env=env)
    assert done.returncode == 3
    assert "axolotl is not installed here" in done.stderr


@needs_axolotl
@pytest.mark.slow
def test_each_config_is_judged_for_itself_and_to_the_end(tmp_path: Path) -> None:
    good = loaded(GOOD).settings
    swanlab = ["axolotl.integrations.swanlab.SwanLabPlugin"]
    three = {**good, "micro_batch_size": "two", "warmup_steps": 0.5, "fp8": True, "bf16": False}
    asked = [
        Question({**good, "plugins": swanlab, "use_swanlab": True}),
        Question({**good, "use_swanlab": True}),  # the plugin of the other must not be asked
        Question({**good, "learnig_rate": 1}),
        Question(three),
        Question({**good, "fp8": True}, hardware.find("a100")),
        Question({**good, "fp8": True}, hardware.find("h100")),
        Question({**good, "save_strategy": "best", "max_packed_sequence_len": 1}),
    ]
    counts: list[int] = []
    found = upstream.verdicts(asked, tmp_path, counts.append)
    assert [bool(verdict.errors) for verdict in found] == [
        True,
        False,
        False,
        True,
        True,
        False,
        True,
    ]
    assert "swanlab_project" in found[0].errors[0].words
    assert found[2].dropped == ("learnig_rate",)
    named = " ".join(f"{one.where} {one.words}" for one in found[3].errors)
    assert all(name in named for name in ("micro_batch_size", "warmup_steps", "fp8"))
    words = [one.words for one in found[6].errors]
    assert any("max_packed_sequence_len" in one for one in words)
    assert any("metric_for_best_model" in one for one in words)
    assert upstream.verdicts(asked, tmp_path, counts.append) == found
    assert counts == [len(asked)]
    # A verdict that was cut off is asked for anew.
    for file in tmp_path.glob("*.json"):
        file.write_text(file.read_text()[:10])
    assert upstream.verdicts(asked[1:2], tmp_path, counts.append) == found[1:2]
    assert counts == [len(asked), 1]


@needs_axolotl
def test_a_verdict_is_kept_by_all_that_it_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    zero = tmp_path / "zero.json"
    zero.write_text("{}")
    config = {**loaded(GOOD).settings, "deepspeed": "zero.json"}
    names = {upstream._name(Question(config)), upstream._name(Question(dict(config)))}
    assert len(names) == 1
    names.add(upstream._name(Question(config, gpus=2)))
    names.add(upstream._name(Question(config, hardware.find("h100"))))
    names.add(upstream._name(Question({**config, "seed": 1})))
    zero.write_text('{"zero_optimization": {}}')
    names.add(upstream._name(Question(config)))
    assert len(names) == 5


@needs_axolotl
@pytest.mark.slow
def test_a_foreign_plugin_runs_only_when_trusted(axr: Axr, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nPath('ran').touch()\n"
        "from axolotl.integrations.base import BasePlugin\nclass Plugin(BasePlugin): pass\n"
    )
    (tmp_path / "my.yaml").write_text(GOOD + "plugins: [mine.Plugin]\nfp8: true\n")
    env = {"AXR_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    asked = ("validate", "my.yaml", "--upstream", "--format", "json")
    refused = axr(*asked, env=env)
    assert "U104" in refused.stdout
    assert refused.returncode == 1
    assert not (tmp_path / "ran").exists()
    trusted = axr(*asked, "--trust", env=env)
    codes = {json.loads(line)["code"] for line in trusted.stdout.splitlines()}
    assert {"U101", "R102"} <= codes
    assert (tmp_path / "ran").exists()


@needs_axolotl
def test_any_config_that_yaml_gives_has_a_name() -> None:
    """Keys that are no text are told apart, and dates are as good as their text."""
    config = {1: "x", "a": {None: 1, 2.5: 2}, "date": datetime.date(2026, 1, 2), "b": 3}
    name = upstream._name(Question(config))  # type: ignore[arg-type]
    assert name == upstream._name(Question({**config, "date": "2026-01-02"}))  # type: ignore[dict-item]
    assert name != upstream._name(Question({**config, 1: "y"}))  # type: ignore[dict-item]


@needs_axolotl
@pytest.mark.slow
def test_axolotl_is_asked_about_keys_that_are_no_text(tmp_path: Path) -> None:
    config = {**loaded(GOOD).settings, 1: "x", "seed": datetime.date(2026, 1, 2)}
    (found,) = upstream.verdicts([Question(config)], tmp_path)
    assert "seed" in str(found.errors) or "1" in found.dropped


@needs_axolotl
@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        "null",
        '{"errors": 3}',
        '{"errors": [3]}',
        '{"errors": [[3, "x"]]}',
        '{"errors": [[[], 3]], "warnings": [], "dropped": []}',
        '{"errors": [], "warnings": [3], "dropped": []}',
        '{"errors": [], "warnings": "ab"}',
        '{"errors": [], "warnings": [], "dropped": {"a": 1}}',
        "\udcff",
    ],
)
def test_a_damaged_verdict_is_no_verdict(tmp_path: Path, text: str) -> None:
    asked = Question(loaded(GOOD).settings)
    file = tmp_path / upstream._name(asked)
    file.write_bytes(text.encode(errors="surrogateescape"))
    assert upstream._kept(asked, tmp_path) is None
    file.write_text('{"errors": [[["a"], "no"]], "warnings": ["w"], "dropped": ["d"]}')
    assert upstream._kept(asked, tmp_path) == Verdict((Complaint(("a",), "no"),), ("w",), ("d",))


@pytest.mark.slow
def test_nothing_is_imported_from_the_working_directory(axr: Axr, tmp_path: Path) -> None:
    for name in ("torch", "pandas"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()")
    done = axr("validate", "--upstream", "smollm2-dpo", env={"AXR_CACHE": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
