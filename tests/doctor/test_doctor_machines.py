"""What the doctor says of whole machines, word for word; and where it knows nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Golden
from machine import MACHINES, codes, machine, said, shipped, verdicts, written

from launcher.cli.doctor import text_lines
from launcher.doctor.judge import SUBJECTS
from launcher.doctor.line import Verdict, failed
from launcher.node.record import from_data, to_data
from launcher.recipe import Recipe, load
from launcher.recipe import shipped as recipes
from launcher.survey import Facts

GOLDEN = Path(__file__).parents[1] / "golden" / "doctor"
NAMES = sorted(file.stem for file in MACHINES.glob("*.json"))
FULL = "base_model: Qwen/Qwen2.5-7B\nmicro_batch_size: 1\nlearning_rate: 1.0e-5\nbf16: true\n"
RUNS = [
    ("8-a100", "qwen25-sft", None),
    ("8-h100", "llama31-dpo-qlora", None),
    ("laptop", "qwen25-dpo", None),
    ("laptop", None, None),
    ("old-driver", "qwen25-dpo", None),
    ("busy-and-faulty", "llama31-dpo-lora", None),
    ("mig", "qwen25-dpo", None),
    ("t4", "phi3-sft-lora", None),
    ("2-v100", "gpt2-sft-alpaca", None),
    ("docker-64mb", "llama31-sft-qlora", None),
]


@pytest.mark.parametrize(("name", "recipe", "gpus"), RUNS)
def test_what_is_said_of_a_machine(
    golden: Golden, name: str, recipe: str | None, gpus: int | None
) -> None:
    found = said(shipped(recipe) if recipe else None, machine(name), gpus=gpus)
    golden(GOLDEN / f"{name}-{recipe or 'alone'}.txt", "".join(f"{t}\n" for t in text_lines(found)))


def test_every_machine_is_judged() -> None:
    assert {name for name, *_ in RUNS} == {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_machine_in_a_file_is_the_machine(name: str) -> None:
    facts = machine(name)
    assert from_data(Facts, json.loads(json.dumps(to_data(facts)))) == facts


@pytest.mark.parametrize("recipe", [None, written(FULL), shipped("llama31-dpo-qlora")])
def test_what_was_not_found_out_is_said_and_is_no_error(recipe: Recipe | None) -> None:
    lines = said(recipe, Facts())
    assert codes(lines) <= {"N101"}  # there being no GPU is known
    assert "software" in verdicts(lines, Verdict.UNCHECKED)
    assert "Hub" in verdicts(lines, Verdict.UNCHECKED)
    assert all(line.words for line in lines)


CASES = sorted((Path(__file__).parents[1] / "cases" / "ok").glob("*.yaml"))


@pytest.mark.parametrize("name", ["8-a100", "laptop"])
def test_any_recipe_is_judged(name: str) -> None:
    facts = machine(name)
    for recipe in (*map(load, CASES), *map(load, recipes())):
        assert said(recipe, facts), recipe.file
    odd = "base_model: 7\nplugins: liger\ndeepspeed: [1]\nx-recipe: {needs: 3}\n"
    assert said(written(f"{odd}datasets: 5\nhub_model_id: [a]\noptimizer: {{}}\n"), facts)


def test_the_good_machines_are_good() -> None:
    for name in ("8-a100", "8-h100"):
        assert not failed(said(None, machine(name)))
        assert codes(said(written(FULL), machine(name), gpus=8)) <= {"N105"}


def test_codes_are_numbered_by_subject() -> None:
    for module in SUBJECTS:
        for code in (one.code for one in vars(module).values() if hasattr(one, "severity")):
            assert code[0] == "N"
            assert code[1] in "1234"
