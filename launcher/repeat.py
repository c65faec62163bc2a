"""A run made again from its folder, or gone on with: what is not as it was."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher import hub_cache, runs
from launcher.dataset.digest import digests
from launcher.diagnostics import Code, Diagnostic, Severity, Span
from launcher.recipe import Recipe, located
from launcher.runs import git
from launcher.runs.folder import RunFolder
from launcher.runs.revisions import LISTS, data

DIFFERS = Code(
    "L311",
    "not-as-recorded",
    Severity.NOTE,
    "The same recipe with other data, another version or other code may not come out the same.",
)
NOT_HERE = Code(
    "L312",
    "not-here",
    Severity.ERROR,
    "A run's recipe names files as seen from the folder that it was started in; from elsewhere "
    "they are not found, or taken for names on the Hub.",
)
_SHORT = 8  # letters of a commit


def check(
    folder: RunFolder, recipe: Recipe, environ: Mapping[str, str], *, resumed: bool
) -> list[Diagnostic]:
    """Return what is missing here of a recorded run, and what differs. Where it is ``resumed``, its
    data is compared elsewhere, and must be the same.
    """
    missing = [*_not_here(folder, recipe)]
    found = [
        *missing,
        *_versions(folder),
        *_code(folder, environ),
        *_commits(folder, recipe, environ),
    ]
    return found if resumed or missing else [*_data(folder, recipe), *found]


def _not_here(folder: RunFolder, recipe: Recipe) -> Iterator[Diagnostic]:
    """Yield the files that were there when the run was started, and are not found from here."""
    then = runs.read_mapping(folder.status).get("cwd")
    known = runs.read_mapping(folder.data)
    for name, path in _named(recipe):
        if os.path.isabs(name) or os.path.exists(located(name)):
            continue
        moved = isinstance(then, str) and os.path.exists(os.path.join(then, name))
        if not moved and name not in known:
            continue
        where = str(then or "another folder")
        fact = f'"{name}" is not here; the run was started in {where}'
        again = f"axr train {shlex.quote(str(folder.root.resolve()))}"
        hint = f"cd {shlex.quote(where)} && {again}" if moved else f"name it: {path}=PATH"
        yield NOT_HERE.at(recipe.value_span(*path.split(".")), fact, hint)


def _named(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield what may be the name of a file or folder, and the path of its key."""
    settings = recipe.settings
    for key in ("base_model", "tokenizer_config", "deepspeed", "lora_model_dir"):
        if isinstance(name := settings.get(key), str):
            yield name, key
    for key in LISTS:
        for index, entry in enumerate(data({key: settings.get(key)})):
            files = entry.get("data_files")
            for name in (entry.get("path"), *(files if isinstance(files, list) else [files])):
                if isinstance(name, str):
                    yield name, f"{key}.{index}.path"


def _data(folder: RunFolder, recipe: Recipe) -> Iterator[Diagnostic]:
    now = digests(recipe)
    for file, digest in runs.read_mapping(folder.data).items():
        if file in now and now[file] != digest:
            yield DIFFERS.at(
                recipe.value_span("datasets"),
                f'"{file}" has changed since the run',
                "put it back as it was to train the same again",
            )


def _versions(folder: RunFolder) -> Iterator[Diagnostic]:
    now = runs.versions()
    for name, before in runs.read_mapping(folder.versions).items():
        if now.get(name) != before:
            fact = f"{name} is {now.get(name, 'not installed')} here, and was {before}"
            hint = f"uv pip install {shlex.quote(f'{name}=={before}')}" if name != "python" else ""
            yield DIFFERS.at(Span(str(folder.versions)), fact, hint)


def _code(folder: RunFolder, environ: Mapping[str, str]) -> Iterator[Diagnostic]:
    for before in runs.read_mapping(folder.git).values():
        if not isinstance(before, dict) or not isinstance(before.get("folder"), str):
            continue
        place, now = before["folder"], git.state(Path(before["folder"]), environ)
        if fact := _moved(before, now):
            yield DIFFERS.at(Span(str(folder.git)), f"the repository {place} {fact}")


def _moved(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return how a repository differs; nothing where it does not, or that is not known."""
    then, here = str(before.get("commit")), str(now.get("commit"))
    if then != here and "commit" in now:
        return f"is at {here[:_SHORT]}, and was at {then[:_SHORT]}"
    if {"dirty"} <= before.keys() & now.keys() and before.get("diff") != now.get("diff"):
        return "has other changes that are not committed than it had"
    return ""


def _commits(folder: RunFolder, recipe: Recipe, environ: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Yield the repositories on the Hub that have moved, as far as the cache here knows."""
    for kind, listed in runs.read_mapping(folder.revisions).items():
        entries = listed if isinstance(listed, list) else []
        for one in (entry for entry in entries if isinstance(entry, dict)):
            name, revision, before = (str(one.get(key)) for key in ("name", "revision", "commit"))
            now = hub_cache.commit(kind, name, environ, revision=revision)
            if now and now != before:
                fact = f"{revision} of {name} is {now[:_SHORT]} now, and was {before[:_SHORT]}"
                yield DIFFERS.at(Span(str(folder.revisions)), fact, _pinned(recipe, name, before))


def _pinned(recipe: Recipe, name: str, commit: str) -> str:
    """Return the overrides that read a repository as it was."""
    keys = ["revision_of_model"] if recipe.settings.get("base_model") == name else []
    for key in LISTS:
        entries = enumerate(data({key: recipe.settings.get(key)}))
        keys += [f"{key}.{index}.revision" for index, one in entries if one.get("path") == name]
    return " ".join(f"{key}={commit}" for key in keys)
