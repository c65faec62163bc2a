"""Where a model's config.json comes from: a folder, the Hub's cache on this machine, the shipped
table; from the Hub itself only where that is asked for (`fetch`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

from launcher import hub_cache
from launcher.diagnostics import LauncherError
from launcher.files import is_file, read_mapping
from launcher.models.facts import ModelFacts, from_config
from launcher.network import HUB, hub
from launcher.recipe import pack_folder

TIMEOUT = 10.0  # seconds
LARGEST = 4 * 2**20  # bytes; a config.json has some kilobytes


def find(name: str, environ: Mapping[str, str], *, revision: str = "main") -> ModelFacts:
    """Return the facts of the model that ``base_model: name`` loads, without a network.

    Raises ``LauncherError`` where nothing here knows it, ``UnsupportedModel`` where it is known and
    has no formulas.
    """
    found, source = config(name, environ, revision=revision)
    return from_config(name, found, source)


def config(
    name: str, environ: Mapping[str, str], *, revision: str = "main"
) -> tuple[dict[str, Any], str]:
    """Return a model's config.json, or its essentials, and where they were found. Raises
    ``LauncherError`` where nothing here knows it.
    """
    for found, source in (
        _in_folder(Path(name)),
        _in_cache(name, revision, environ),
        (shipped().get(name), "shipped table"),
        (shipped("refused").get(name), "shipped table"),
    ):
        if found is not None:
            return found, source
    hint = "ask the Hub with --fetch, or name the folder of a copy as base_model"
    raise LauncherError(f'the shape of the model "{name}" is not known here', hint, exit_code=1)


@lru_cache(maxsize=2)
def shipped(part: str = "families") -> dict[str, dict[str, Any]]:
    """Return the config.json essentials that ship with the package, by model name: of the models
    with formulas, or of those that are ``refused`` what says why.
    """
    text = (pack_folder("schemas") / "models.json").read_text(encoding="utf-8")
    return {name: entry["config"] for entry in json.loads(text)[part] for name in entry["names"]}


def _in_folder(folder: Path) -> tuple[dict[str, Any] | None, str]:
    file = folder / "config.json"
    return (_read(file), f"{file}") if is_file(file) else (None, "")


def _in_cache(
    name: str, revision: str, environ: Mapping[str, str]
) -> tuple[dict[str, Any] | None, str]:
    file = hub_cache.find("models", name, "config.json", environ, revision=revision)
    return (_read(file), f"Hub cache, commit {file.parent.name[:7]}") if file else (None, "")


def _read(file: Path) -> dict[str, Any]:
    found = read_mapping(file, LARGEST)
    if found is None:
        raise LauncherError(f"{file} cannot be read as JSON", exit_code=1)
    return found


def _mapping(data: bytes, place: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise LauncherError(f"{place} is not JSON", exit_code=1) from None
    if not isinstance(value, dict):
        raise LauncherError(f"{place} is not a JSON object", exit_code=1)
    return value


def fetch(
    name: str, environ: Mapping[str, str], *, revision: str = "main", timeout: float = TIMEOUT
) -> ModelFacts:
    """Return the facts of a model from the Hub's own config.json, over the network. Raises what
    `fetch_config` does, and where the model is none that is known.
    """
    found, url = fetch_config(name, environ, revision=revision, timeout=timeout)
    return from_config(name, found, url)


def fetch_config(
    name: str, environ: Mapping[str, str], *, revision: str = "main", timeout: float = TIMEOUT
) -> tuple[dict[str, Any], str]:
    """Return a model's config.json from the Hub, over the network, and its address.

    Uses ``HF_TOKEN`` and ``HF_ENDPOINT`` of ``environ``. Raises ``LauncherError`` saying what went
    wrong: no such model, no access, no network within ``timeout`` seconds.
    """
    url = _url(name, "config.json", environ, revision)
    data = download(name, "config.json", environ, revision=revision, timeout=timeout)
    return _mapping(data, url), url


def download(
    name: str,
    file: str,
    environ: Mapping[str, str],
    *,
    revision: str = "main",
    timeout: float = TIMEOUT,
    limit: int = LARGEST,
) -> bytes:
    """Return a file of at most ``limit`` bytes of a model on the Hub, as `fetch` does."""
    request = Request(
        _url(name, file, environ, revision), headers={"User-Agent": "axolotl-recipes"}
    )
    if token := environ.get("HF_TOKEN"):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with build_opener(_Redirects).open(request, timeout=timeout) as answer:
            data: bytes = answer.read(limit + 1)
    except HTTPError as problem:
        problem.close()
        raise _refused(name, file, problem.code, bool(token)) from None
    except (TimeoutError, URLError, HTTPException, OSError) as problem:
        why = problem.reason if isinstance(problem, URLError) else problem
        raise LauncherError(f"{hub(environ)} does not answer: {why}", exit_code=3) from None
    if len(data) > limit:
        fact = f"{request.full_url} is no {file}: over {limit >> 20} MiB"
        raise LauncherError(fact, exit_code=1)
    return data


def _url(name: str, file: str, environ: Mapping[str, str], revision: str) -> str:
    return f"{hub(environ)}/{quote(name)}/resolve/{quote(revision, safe='')}/{quote(file)}"


class _Redirects(HTTPRedirectHandler):
    """Follows to https alone, or stays with the scheme that was asked for."""

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req, fp, code, msg, headers, newurl
    ):
        """Return the next request; refuse to leave https."""
        if req.type == "https" and not newurl.startswith("https:"):
            raise URLError(f"redirected from https to {newurl.partition(':')[0]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refused(name: str, file: str, status: int, with_token: bool) -> LauncherError:
    """Return the error for an HTTP status: the Hub answers 401 for what does not exist, too."""
    if status in (401, 403):
        hint = (
            f"accept the model's licence at {HUB}/{name} with the account of HF_TOKEN"
            if with_token
            else "set HF_TOKEN if the model is gated or private, or correct the name"
        )
        return LauncherError(f'the Hub gives no access to "{name}" (HTTP {status})', hint)
    if status == 404:
        return LauncherError(f'the Hub has no {file} of "{name}" (HTTP 404)', exit_code=1)
    return LauncherError(f'the Hub answered HTTP {status} for "{name}"', "try again later")
