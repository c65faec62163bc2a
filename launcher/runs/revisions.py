"""The repositories on the Hub that a run reads, and their commits: ``main`` moves, a commit does
not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from launcher import hub_cache
from launcher.files import exists
from launcher.hub import Repository
from launcher.recipe import located

MAIN = "main"
LISTS = ("datasets", "test_datasets")
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def repositories(settings: Mapping[str, Any]) -> list[Repository]:
    """Return what a config reads from the Hub: its base model, another tokenizer, its data."""
    revision = settings.get("revision_of_model")
    found = [_repository("model", settings.get("base_model"), revision)]
    found += [_repository("model", settings.get("tokenizer_config"), revision)]
    found += [
        _repository("dataset", one.get("path"), one.get("revision")) for one in data(settings)
    ]
    return [*dict.fromkeys(one for one in found if one)]


def data(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of the lists of data."""
    for key in LISTS:
        listed = settings.get(key)
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, Mapping):
                yield one


def used(
    settings: Mapping[str, Any], environ: Mapping[str, str]
) -> dict[str, list[dict[str, str]]]:
    """Return what ``revisions.json`` holds after a run: the commit of each repository, as the Hub's
    cache has it from the run's own downloads. One that it has not is left out.
    """
    found: dict[str, list[dict[str, str]]] = {}
    for one in repositories(settings):
        if commit := hub_cache.commit(f"{one.kind}s", one.name, environ, revision=one.revision):
            facts = {"name": one.name, "revision": one.revision, "commit": commit}
            found.setdefault(f"{one.kind}s", []).append(facts)
    return found


def _repository(kind: str, name: Any, revision: Any) -> Repository | None:
    """Return a repository of this name; none where it is a file, an address or nothing."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or exists(located(name)):
        return None
    return Repository(kind, name, str(revision or MAIN))
