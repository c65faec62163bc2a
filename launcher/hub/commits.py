"""The commit that a revision of a repository is now, asked of the Hub by plain HTTP: a run that
reads nothing newer needs to know what it would read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

from launcher import hub_cache
from launcher.files import read
from launcher.hub import TIMEOUT, Repository
from launcher.network import hub, offline

LARGEST = 4 * 2**20  # bytes of an answer; with its list of files it has some kilobytes


def commits(wanted: Sequence[Repository], environ: Mapping[str, str]) -> dict[Repository, str]:
    """Return the commit of each; nothing where the Hub does not say. Without a network, as the
    environment may wish it, what the cache has is what is read.
    """
    if not wanted:
        return {}
    with ThreadPoolExecutor(len(wanted)) as pool:
        return dict(zip(wanted, pool.map(lambda one: _commit(one, environ), wanted), strict=True))


def _commit(one: Repository, environ: Mapping[str, str]) -> str:
    if hub_cache.is_commit(one.revision) or offline(environ):
        return hub_cache.commit(f"{one.kind}s", one.name, environ, revision=one.revision)
    place = f"api/{one.kind}s/{quote(one.name)}/revision/{quote(one.revision, safe='')}"
    try:
        request = Request(f"{hub(environ)}/{place}?expand%5B%5D=sha")
        if token := _token(environ):
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        with build_opener(_NoRedirects).open(request, timeout=TIMEOUT) as answer:
            found = json.loads(answer.read(LARGEST))
    except (OSError, ValueError, HTTPException):  # no network, no access, no Hub, no address of one
        return ""
    commit = found.get("sha") if isinstance(found, dict) else None
    return commit if isinstance(commit, str) and hub_cache.is_commit(commit) else ""


def _token(environ: Mapping[str, str]) -> str:
    if environ.get("HF_TOKEN"):
        return environ["HF_TOKEN"]
    kept = read(Path(environ["HF_TOKEN_PATH"]), 1000) if environ.get("HF_TOKEN_PATH") else None
    return (kept or b"").decode("ascii", errors="replace").strip()


class _NoRedirects(HTTPRedirectHandler):
    """A repository that was renamed is asked for by its new name: then nothing is said of it."""

    def redirect_request(self, *args: object) -> None:
        """Follow nowhere."""
