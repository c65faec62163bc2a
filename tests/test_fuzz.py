"""What the fuzzer holds against ``axr validate`` (fuzz/target.py), for the inputs that are known:
all recipes and cases, what once failed (fuzz/found), and the first thousand mutations of them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import mutate, target

from launcher import recipe
from launcher.diagnostics import Diagnostic
from launcher.source import MAX_BYTES
from launcher.validate import validate

ROOT = Path(__file__).parent.parent
FOUND = sorted((ROOT / "tests" / "fuzz" / "found").glob("*.yaml"))
SEEDS = [*recipe.shipped(), *sorted((ROOT / "tests" / "cases").glob("*/*.yaml")), *FOUND]

START = "base_model: a\nlearning_rate: 1.0e-5\n"

Examine = Callable[[bytes], list[Diagnostic]]


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examine:
    monkeypatch.chdir(tmp_path)
    target.furnish(tmp_path)
    target.warm_up()
    return lambda data: target.examine(data, tmp_path)


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


def filled(unit: str, head: str = START) -> str:
    """Repeat a line with a number in it until the file is as large as one may be."""
    count = (MAX_BYTES - len(head)) // len(unit.format(10000))
    return head + "".join(unit.format(10000 + number) for number in range(count))


SLOW = {
    "misspelt keys": filled("lora_r_{}: 1\n"),
    "one long key": f"{START}? {'lora_r' * 20000}\n: 1\n",
    "data sets": filled(" - path: x{}.json\n", f"{START}rl: dpo\ntest_datasets:\n"),
    "keys of a data set": filled("   k{}: 1\n", f"{START}datasets:\n - path: a\n   type: alpaca\n"),
    "plugins": filled("- a.b{}\n", f"{START}plugins:\n"),
    "secrets": filled("hub_token{}: abcdefghij\n"),
    "tokens": f"{START}seed: {'hf_aaaaaaaaaaaaaaa ' * 6000}",
    "assignments": f"{START}seed: '{'token= ' * 17000}'",
    "aliases of a long text": f"{START}x: &a {'${HOME}' * 7000}\ny: [{'*a,' * 20000}]",
    "aliases of a data set": f"{START}a: &a {{path: b}}\ndatasets: [{'*a,' * 40000}]",
    "base 60": f"{START}seed: 1{':00' * 40000}",
    "base 16": f"{START}base_model: 0x{'f' * 120000}",
}


@pytest.mark.parametrize("name", SLOW)
def test_files_that_take_long(examine: Examine, tmp_path: Path, name: str) -> None:
    """``examine`` holds the time; a problem for every line is the worst."""
    assert len(SLOW[name]) <= MAX_BYTES
    examine(SLOW[name].encode())
    (tmp_path / "large.yaml").write_text(SLOW[name] * 9)  # a megabyte is not even parsed
    begin = time.process_time()
    validate(recipe.load(tmp_path / "large.yaml"))
    assert time.process_time() - begin < 0.5
