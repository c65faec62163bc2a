"""The GitHub Action: its steps are run by bash as a runner runs them, in another repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PRIVATE

import launcher
from launcher.recipe import shipped

ROOT = Path(launcher.__file__).parent.parent
ACTION = ROOT / "action.yml"
PARTS: dict[str, Any] = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
STEPS = PARTS["runs"]["steps"]
TOKEN = "hf_" + "Qq77" * 8
GOOD = shipped()[0].read_text(encoding="utf-8")
BAD = GOOD.replace("learning_rate:", "learnig_rate:")


@dataclass(frozen=True)
class Outcome:
    """What a step leaves behind."""

    code: int
    stdout: str
    stderr: str
    outputs: Mapping[str, str]
    summary: str


@dataclass(frozen=True)
class Runner:
    """A stand-in for GitHub's: it fills in expressions, and gives each step its variables."""

    temp: Path

    def step(self, name: str, cwd: Path, known: Mapping[str, str], **env: str) -> Outcome:
        step = next(one for one in STEPS if one["id"] == name)
        given = {key: filled(value, known) for key, value in step.get("env", {}).items()}
        files = {key: self.temp / key for key in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("", encoding="utf-8")
        script = self.temp / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        clean = {key: text for key, text in os.environ.items() if not key.startswith(PRIVATE)}
        for key in ("PYTHONPATH", "VIRTUAL_ENV"):
            clean.pop(key, None)
        paths = {key: str(file) for key, file in files.items()}
        paths |= {"RUNNER_TEMP": str(self.temp), "GITHUB_ACTION_PATH": str(ROOT)}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=cwd,
            env={**clean, **paths, **given, **env},
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        outputs = files["GITHUB_OUTPUT"].read_text(encoding="utf-8").splitlines()
        summary = files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
        pairs = dict(line.split("=", 1) for line in outputs)
        return Outcome(done.returncode, done.stdout, done.stderr, pairs, summary)


def filled(text: str, known: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{ (\S+) \}\}", lambda found: known[found[1]], text)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("runner temp"))


@pytest.fixture(scope="module")
def home(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The environment that the action's first step makes."""
    done = runner.step("install", tmp_path_factory.mktemp("empty"), {})
    assert done.code == 0, done.stderr
    return done.outputs["home"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Another project's repository: a good recipe, a bad one in a folder with a blank."""
    (tmp_path / "my recipes").mkdir()
    (tmp_path / "good.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "my recipes" / "bad.yaml").write_text(BAD, encoding="utf-8")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path


@pytest.fixture
def act(runner: Runner, home: str, repository: Path):
    """Run the second step with these inputs, the others by default."""

    def run(**given: str) -> Outcome:
        inputs = {name: one["default"] for name, one in PARTS["inputs"].items()}
        inputs |= {name.replace("_", "-"): value for name, value in given.items()}
        known = {f"inputs.{name}": value for name, value in inputs.items()}
        return runner.step("validate", repository, {**known, "steps.install.outputs.home": home})

    return run


# --- the file ---


def valid(file: Path) -> bool:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    done = subprocess.run(
        [*command, "vendor.github-actions", file], capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode == 0


def test_it_is_what_github_expects_of_an_action(tmp_path: Path) -> None:
    assert valid(ACTION)
    broken = tmp_path / "action.yml"
    broken.write_text(ACTION.read_text(encoding="utf-8").replace("shell: bash", "shall: bash"))
    assert not valid(broken)


def test_the_readme_uses_inputs_that_there_are() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    parsed = [yaml.safe_load(block) for block in blocks]
    steps = [step for one in parsed for step in (one["steps"] if isinstance(one, dict) else one)]
    used = [step for step in steps if "axolotl-recipes@" in step.get("uses", "")]
    assert len(used) == 2
    assert all(step["with"].keys() <= PARTS["inputs"].keys() for step in used)
    (upload,) = (step for step in steps if "upload-sarif@" in step.get("uses", ""))
    assert upload["with"]["sarif_file"] == PARTS["inputs"]["sarif-file"]["default"]


def test_inputs_never_become_code() -> None:
    assert all("${{" not in step["run"] for step in STEPS)
    assert all("uses" not in step for step in STEPS)  # nothing of a third party


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step["id"])
def test_its_scripts_are_clean(step: dict[str, Any]) -> None:
    checker = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [checker, "--shell=bash", "-"], input=step["run"], capture_output=True, text=True
    )
    assert done.stdout == ""


def test_the_lock_holds_what_the_project_needs_and_nothing_heavy() -> None:
    lock = (ROOT / "requirements" / "light.txt").read_text(encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[\n(.*?)^\]", pyproject, re.MULTILINE | re.DOTALL)
    assert block is not None
    needed = set(re.findall(r'"([\w-]+)', block[1]))
    locked = set(re.findall(r"^([\w-]+)==", lock, re.MULTILINE))
    assert needed <= locked
    assert len(locked) < 20
    assert not locked & {"torch", "axolotl", "numpy"}
    assert lock.count("--hash=") > len(locked)


# --- its steps ---


@pytest.mark.slow
def test_a_recipe_without_problems_passes(act) -> None:
    done = act(paths="good.yaml")
    assert (done.code, done.stdout) == (0, "")
    assert "no problems in 1 recipe" in done.summary


@pytest.mark.slow
def test_problems_are_annotations_and_fail_the_step(act) -> None:
    done = act()
    assert done.code == 1
    lines = done.stdout.splitlines()
    assert any(
        re.match(r"::error file=my recipes/bad\.yaml,line=\d+,col=\d+,", line)
        and "learnig_rate" in line
        for line in lines
    )
    assert not any("good.yaml" in line for line in lines)
    assert "my recipes/bad.yaml:" in done.summary
    assert re.search(r"^1 error in 2 recipes$", done.summary, re.MULTILINE)
    assert done.outputs == {}


@pytest.mark.slow
def test_paths_are_lines(act) -> None:
    done = act(paths="good.yaml\n\nmy recipes/bad.yaml\n")
    assert done.code == 1
    assert "in 2 recipes" in done.stderr
    assert act(paths="good.yaml my recipes/bad.yaml").code == 2  # a blank parts nothing


@pytest.mark.slow
@pytest.mark.parametrize("sarif_file", ["axr.sarif", "my reports/new/axr.sarif"])
def test_sarif_is_written_where_asked_for(act, repository: Path, sarif_file: str) -> None:
    (repository / "secret.yaml").write_text(f"{GOOD}hub_token: {TOKEN}\n", encoding="utf-8")
    done = act(format="sarif", sarif_file=sarif_file)
    assert done.code == 1
    assert done.outputs == {"sarif-file": sarif_file}
    text = (repository / sarif_file).read_text(encoding="utf-8")
    results = json.loads(text)["runs"][0]["results"]
    assert {one["ruleId"] for one in results} == {"S102", "R101"}
    places = {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in results}
    assert places == {"my%20recipes/bad.yaml", "secret.yaml"}
    assert TOKEN not in text + done.stdout + done.stderr + done.summary


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"paths": "gone.yaml"}, 'no file "gone.yaml"'),
        ({"paths": " \n"}, 'the input "paths" is empty'),
        ({"format": "xml"}, "xml"),
        ({"format": "sarif", "paths": "gone.yaml"}, 'no file "gone.yaml"'),
        ({"paths": "--help"}, 'no recipe "--help"'),
    ],
)
def test_wrong_usage_is_exit_code_2(act, repository: Path, given, words: str) -> None:
    done = act(**given)
    assert done.code == 2
    assert words in done.stdout + done.stderr
    assert not (repository / "axr.sarif").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS["inputs"])
@pytest.mark.parametrize("code", ["$(touch pwned)", '"; touch pwned; "', "`touch pwned`", "\\'"])
def test_code_in_an_input_does_not_run(act, repository: Path, name: str, code: str) -> None:
    given = {"format": "sarif"} if name == "sarif-file" else {}
    done = act(**given, **{name: code})
    assert done.code == (1 if name == "sarif-file" else 2)
    assert not list(repository.rglob("pwned"))


@pytest.mark.slow
def test_modules_of_the_repository_are_not_imported(act, repository: Path) -> None:
    for name in ("launcher", "yaml", "click"):
        (repository / f"{name}.py").write_text("raise SystemExit(9)\n", encoding="utf-8")
    assert act(paths="good.yaml").code == 0


@pytest.mark.slow
def test_an_old_python_is_named(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (tmp_path / "python3").chmod(0o755)
    done = runner.step("install", tmp_path, {}, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.code == 3
    assert "::error title=axr::needs Python 3.10" in done.stdout
