"""Every case under cases/: a file of ok/ is silent, one of err/ gives the lines of its .out file.

A new case is a .yaml file; `pytest --update` writes its .out file, and the diff is reviewed.
"""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import Golden

from launcher import recipe
from launcher.diagnostics import render_concise
from launcher.rules import RULES
from launcher.upstream import Question, verdicts
from launcher.validate import validate

ROOT = Path(__file__).parent.parent
CASES = ROOT / "tests" / "cases"
OK = sorted((CASES / "ok").glob("*.yaml"))
ERR = sorted((CASES / "err").glob("*.yaml"))
# What no text file can show; test_source.py does.
ELSEWHERE = {"Y105", "Y106"}


def concise(path: Path) -> list[str]:
    read = recipe.load(path)
    return [render_concise(problem, read.texts) for problem in validate(read)]


def codes() -> set[str]:
    """Every code of those that say something of a recipe alone: of a rule, or defined by a module.
    The latter are read from the source: some modules take seconds to import.
    """
    found = {rule.code.code for rule in RULES}
    for module in (ROOT / "launcher").rglob("*.py"):
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            value = getattr(node, "value", None)
            if (
                isinstance(value, ast.Call)
                and value.args
                and ast.unparse(value.func).endswith("Code")
            ):
                found.add(ast.literal_eval(value.args[0]))
    return {code for code in found if code[0] in "YSR"}


@pytest.mark.parametrize("path", OK, ids=lambda path: path.stem)
def test_a_good_recipe_is_silent(path: Path) -> None:
    assert concise(path) == []


@pytest.mark.parametrize("path", ERR, ids=lambda path: path.stem)
def test_a_bad_recipe_is_told(path: Path, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    lines = concise(Path(path.name))
    golden(path.with_suffix(".out"), "".join(f"{line}\n" for line in lines))
    code = path.stem.split("-")[0]
    assert any(f"[{code} " in line for line in lines), f"{path.stem} shows no {code}"


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("axolotl"), reason="axolotl is not installed")
def test_axolotl_passes_the_good_recipes_and_drops_none_of_their_keys() -> None:
    found = verdicts([Question(recipe.load(path).settings) for path in OK])
    assert {path.stem: verdict.errors for path, verdict in zip(OK, found, strict=True)} == {
        path.stem: () for path in OK
    }
    dropped = {key for verdict in found for key in verdict.dropped}
    assert {key for key in dropped if ".fsdp_" not in key} == set()  # it strips the prefix


def test_every_code_has_a_case() -> None:
    shown = {path.stem.split("-")[0] for path in ERR} | ELSEWHERE
    assert codes() == shown


def test_no_case_is_left_out() -> None:
    outputs = {path.stem for path in (CASES / "err").glob("*.out")}
    assert outputs == {path.stem for path in ERR}
    assert all(re.fullmatch(r"[YSR]\d{3}-[a-z0-9-]+", path.stem) for path in ERR)
    assert len(OK) >= 15
    assert len(ERR) >= 60
