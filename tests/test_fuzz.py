"""What the fuzzer holds against ``axr validate`` (fuzz/target.py), for the inputs that are known:
all recipes and cases, what once failed (fuzz/found), and the first thousand mutations of them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import mutate, target
from fuzz.slow import SLOW, START

from launcher import recipe
from launcher.diagnostics import Diagnostic
from launcher.source import MAX_BYTES
from launcher.validate import validate

ROOT = Path(__file__).parent.parent
FOUND = sorted((ROOT / "tests" / "fuzz" / "found").glob("*.yaml"))
SEEDS = [*recipe.shipped(), *sorted((ROOT / "tests" / "cases").glob("*/*.yaml")), *FOUND]

Examine = Callable[[bytes], list[Diagnostic]]


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examine:
    monkeypatch.chdir(tmp_path)
    target.furnish(tmp_path)
    target.warm_up()
    # How long a file takes on a machine that does other things says nothing.
    return lambda data: target.examine(data, tmp_path, seconds=math.inf)


@pytest.mark.timeout(20)  # one that waits for a pipe waits for ever
@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_what_once_failed(examine: Examine, path: Path) -> None:
    examine(path.read_bytes())


def test_all_recipes_and_cases(examine: Examine) -> None:
    for path in SEEDS:
        examine(path.read_bytes())
    assert len(SEEDS) > 150
    assert len(FOUND) >= 15


def test_mutations(examine: Examine) -> None:
    """The same in every run, so that a failure can be looked at."""
    chance = random.Random(1)
    codes = set()
    for number in range(1000):
        data = mutate.mutate(SEEDS[number % len(SEEDS)].read_bytes(), chance)
        codes |= {problem.code for problem in examine(data)}
    assert len(codes) > 40, "too few rules are reached"


@pytest.mark.parametrize("name", [*mutate.PATHS, *mutate.TEXTS])
@pytest.mark.timeout(20)
def test_any_name_of_a_file(examine: Examine, name: str) -> None:
    """Nothing hangs or fails, whatever the keys that hold file names are given."""
    quoted = '"' + name.encode("unicode_escape").decode().replace('"', '\\"') + '"'
    entry = f"- path: {quoted}\n  type: {quoted}"
    for lines in (
        f"deepspeed: {quoted}",
        f"resume_from_checkpoint: {quoted}\nadapter: lora\nlora_r: 8",
        f"datasets:\n{entry}\ntest_datasets:\n{entry}\npretraining_dataset:\n{entry}",
        f"plugins: [{quoted}]\nbase_model_config: {quoted}\noutput_dir: {quoted}",
    ):
        problems = examine(f"{START}{lines}\n".encode())
        assert not [p for p in problems if p.code == "Y101"], problems


@pytest.mark.timeout(60)  # what took minutes once; tests/benchmarks/bench_hostile.py says how long
@pytest.mark.parametrize("name", SLOW)
def test_files_that_take_long(examine: Examine, tmp_path: Path, name: str) -> None:
    """A problem for every line is the worst; a megabyte is not even parsed."""
    assert len(SLOW[name]) <= MAX_BYTES
    examine(SLOW[name].encode())
    (tmp_path / "large.yaml").write_text(SLOW[name] * 9)
    read = recipe.load(tmp_path / "large.yaml")
    assert [problem.code for problem in validate(read)] == ["Y107"]
    assert read.texts == {str(tmp_path / "large.yaml"): ""}
