"""The state of a folder's git repository: commit, branch, and whether files differ from it.

What a repository's own configuration would have git run is not run: hooks, a monitor of the file
system, filters, diff programs, downloads. A recipe may have come with a repository of anybody's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import launcher

SECONDS = 5.0  # for all questions on one repository
_SAFE = ("--no-pager", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
_QUIET = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ALLOW_PROTOCOL": "none",  # a clone without its blobs would fetch them, by any program
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_DIFF = (
    "diff",
    "HEAD",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--full-index",
    "--ignore-submodules=dirty",
)
_OWNER = "dubious ownership"


class _Nothing(Exception):
    """There is no git, no repository, or no answer in time."""


def states(recipe: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``git.json`` holds: the state of the repository around a recipe's file, and of
    the launcher's own where it runs from a checkout. Empty where there is neither.
    """
    home = Path(launcher.__file__).resolve().parents[1]
    found = {"recipe": state(recipe.resolve().parent, environ)}
    if (home / ".git").exists():
        found["launcher"] = state(home, environ)
    return {name: one for name, one in found.items() if one}


def state(folder: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the repository's folder, commit, branch, whether files that git knows differ from the
    commit, and the digest of how they do: not the difference itself, which may hold secrets.
    Empty without a repository or a commit.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith("GIT_")}
    ask = partial(_ask, folder, {**kept, **_QUIET}, time.monotonic() + SECONDS)
    try:
        root, commit = ask("rev-parse", "--show-toplevel", "HEAD").splitlines()
    except (_Nothing, ValueError) as nothing:
        return {"trouble": _OWNER} if _OWNER in str(nothing) else {}
    found: dict[str, Any] = {"folder": root, "commit": commit}
    with contextlib.suppress(_Nothing):
        found["branch"] = ask("rev-parse", "--abbrev-ref", "HEAD").strip()
        if not _has_filters(ask("config", "--list", "--show-scope", "--name-only")):
            diff = ask(*_DIFF)
            found["dirty"] = bool(diff)
            found |= (
                {"diff": hashlib.sha256(diff.encode("utf-8", errors="surrogateescape")).hexdigest()}
                if diff
                else {}
            )
    return found


def _has_filters(settings: str) -> bool:
    """Whether the repository itself, not its user, has programs that git would run on a file to
    tell whether it differs.
    """
    lines = (line.split(None, 1) for line in settings.splitlines())
    return any(
        scope in ("local", "worktree") and key.startswith("filter.")
        for scope, key in (line for line in lines if len(line) == 2)
    )


def _ask(folder: Path, environ: Mapping[str, str], deadline: float, *words: str) -> str:
    """Return what git answers. Raises `_Nothing`, with git's words."""
    try:
        done = subprocess.run(
            ["git", *_SAFE, "-C", str(folder), *words],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(0.1, deadline - time.monotonic()),
            check=True,
        )
    except subprocess.CalledProcessError as problem:
        raise _Nothing(problem.stderr.decode("utf-8", errors="replace")) from None
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise _Nothing(str(problem)) from None
    return done.stdout.decode("utf-8", errors="surrogateescape")
