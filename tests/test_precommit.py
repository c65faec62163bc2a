"""The pre-commit hooks: the real pre-commit installs them from this checkout and runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PRIVATE

import launcher
from launcher.recipe import shipped

ROOT = Path(launcher.__file__).parent.parent
MANIFEST = ROOT / ".pre-commit-hooks.yaml"
GOOD = shipped()[0].read_text(encoding="utf-8")
BAD = GOOD.replace("learning_rate:", "learnig_rate:")
WORKFLOW = "on: push\njobs: {}\n"


def run(*command: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {key: text for key, text in os.environ.items() if not key.startswith(PRIVATE)}
    for key in ("PYTHONPATH", "VIRTUAL_ENV"):
        clean.pop(key, None)
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**clean, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def git(*args: object, cwd: Path) -> str:
    person = ("-c", "user.name=axr", "-c", "user.email=axr@localhost")
    done = run("git", *person, *args, cwd=cwd)
    assert done.returncode == 0, done.stdout
    return done.stdout


PRE_COMMIT = (sys.executable, "-m", "pre_commit")


def test_the_manifest_is_accepted(tmp_path: Path) -> None:
    done = run(*PRE_COMMIT, "validate-manifest", MANIFEST, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_readme_names_hooks_that_there_are() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    hooks = {hook["id"] for hook in yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))}
    assert set(re.findall(r"\bid: ([\w-]+)", text)) == hooks


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout with what is not committed yet, as a repository that hooks are taken from."""
    folder = tmp_path_factory.mktemp("source")
    listed = git("ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git("init", "--quiet", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "--quiet", "--no-verify", "--message", "now", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pre-commit keeps what it installs, once for all tests here."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Another project's repository: two recipes, and what is none."""
    files = {
        "recipes/good.yaml": GOOD,
        "recipes/a blank/bad.yml": BAD,
        "recipes/README.md": "no YAML",
        ".github/workflows/ci.yaml": WORKFLOW,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    git("init", "--quiet", cwd=tmp_path)
    return tmp_path


@pytest.fixture
def hook(source: Path, cache: Path, repository: Path):
    """Run one hook with these settings of the user's configuration, on some files or on all."""

    def check(name: str, *files: str, **settings: str) -> subprocess.CompletedProcess[str]:
        revision = git("rev-parse", "HEAD", cwd=source).strip()
        hooks: list[Mapping[str, Any]] = [{"id": name, **settings}]
        known = {"repos": [{"repo": str(source), "rev": revision, "hooks": hooks}]}
        config = repository / ".pre-commit-config.yaml"
        config.write_text(yaml.safe_dump(known), encoding="utf-8")
        git("add", ".", cwd=repository)
        chosen = ("--files", *files) if files else ("--all-files",)
        return run(*PRE_COMMIT, "run", *chosen, cwd=repository, PRE_COMMIT_HOME=str(cache))

    return check


@pytest.mark.slow
def test_only_recipes_are_checked_and_problems_fail(hook) -> None:
    done = hook("axr-validate")
    assert done.returncode == 1
    assert "recipes/a blank/bad.yml:" in done.stdout
    assert 'unknown key "learnig_rate"' in done.stdout
    assert "1 error in 2 recipes" in done.stdout
    assert "ci.yaml" not in done.stdout


@pytest.mark.slow
def test_a_recipe_without_problems_passes(hook) -> None:
    done = hook("axr-validate", "recipes/good.yaml")
    assert done.returncode == 0, done.stdout
    assert "Passed" in done.stdout


@pytest.mark.slow
def test_what_is_no_recipe_is_skipped(hook) -> None:
    done = hook("axr-validate", "recipes/README.md", ".github/workflows/ci.yaml")
    assert done.returncode == 0
    assert "Skipped" in done.stdout


@pytest.mark.slow
def test_a_repository_says_itself_where_its_recipes_are(hook, repository: Path) -> None:
    (repository / "recipes").rename(repository / "experiments")
    assert "Skipped" in hook("axr-validate").stdout
    done = hook("axr-validate", files="^experiments/")
    assert done.returncode == 1
    assert "experiments/a blank/bad.yml:" in done.stdout
    assert "1 error in 2 recipes" in done.stdout


@pytest.mark.slow
def test_a_certain_mistake_is_mended_and_has_to_be_staged(hook, repository: Path) -> None:
    done = hook("axr-fix")
    assert done.returncode == 1
    assert "files were modified by this hook" in done.stdout
    assert (repository / "recipes/a blank/bad.yml").read_text(encoding="utf-8") == GOOD
    assert hook("axr-fix").returncode == 0
