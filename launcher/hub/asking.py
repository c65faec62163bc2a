"""The child that asks the Hub: each question in a thread, each answer a line as it comes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from launcher.hub import CLOSED, EXPIRED, GATED, MISSING, NONE, OPEN, REFUSED, TIMEOUT, VALID, named

FOREIGN = "what answers is not the Hub"
SAMPLE, SAMPLE_SECONDS = 16 * 2**20, 1.5  # of a download, to measure it


def main() -> None:
    """Print what the Hub answers, as it comes."""
    asked = json.load(sys.stdin)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import httpx
    from huggingface_hub import HfApi, get_token, set_client_factory

    set_client_factory(lambda: httpx.Client(timeout=TIMEOUT, follow_redirects=True))
    api = HfApi()
    jobs: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("endpoint", lambda: _endpoint(api, asked["reads"])),
        ("account", lambda: _account(api, bool(get_token()))),
    ]
    for one in asked["reads"]:
        jobs.append((named("reads", one), partial(_readable, api, one)))
    for one in asked["writes"]:
        jobs.append((named("writes", one), partial(_writable, api, one)))
    threads = [threading.Thread(target=_say, args=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _say(about: str, question: Callable[[], dict[str, Any]]) -> None:
    """Print an answer; what is none, as a portal's or a proxy's page, is said to be none."""
    import httpx

    try:
        facts = question()
    except (ValueError, TypeError, AttributeError, LookupError):
        facts = {"why": FOREIGN}
    except httpx.InvalidURL as problem:
        facts = {"why": _words(problem)}
    line = json.dumps({"about": about, "facts": facts}) + "\n"
    os.write(sys.stdout.fileno(), line.encode())


def _endpoint(api: Any, reads: list[dict[str, str]]) -> dict[str, Any]:
    """Return how fast the Hub answers, and sends the first model's weights."""
    import httpx
    from huggingface_hub import get_session

    begin = time.monotonic()
    try:
        answer = get_session().head(api.endpoint, timeout=TIMEOUT)
    except httpx.HTTPError as problem:
        return {"why": _words(problem)}
    found: dict[str, Any] = {"answered": True, "seconds": round(time.monotonic() - begin, 3)}
    if answer.status_code == 429 or answer.status_code >= 500:
        found |= {"answered": False, "why": f"HTTP {answer.status_code}"}
    with contextlib.suppress(ValueError):
        date = parsedate_to_datetime(answer.headers.get("Date", ""))
        found["ahead"] = round(date.timestamp() - time.time(), 1)
    model = next((one for one in reads if one["kind"] == "model"), None)
    return {**found, **(_speed(api, model) if model and found["answered"] else {})}


def _speed(api: Any, model: Mapping[str, str]) -> dict[str, Any]:
    """Return the bytes a second of the first moment of a download; nothing where there is none to
    be had.
    """
    import httpx
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        files = api.model_info(model["name"], timeout=TIMEOUT).siblings or []
        weights = [one.rfilename for one in files if one.rfilename.endswith(".safetensors")]
        if not weights:
            return {}
        url = hf_hub_url(model["name"], weights[0], endpoint=api.endpoint)
        headers = {**api._build_hf_headers(), "Range": f"bytes=0-{SAMPLE - 1}"}
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as answer:
            if answer.status_code not in (200, 206):
                return {}
            begin, size = time.monotonic(), 0
            for piece in answer.iter_raw(2**16):
                size += len(piece)
                if time.monotonic() - begin > SAMPLE_SECONDS or size >= SAMPLE:
                    break
            spent = time.monotonic() - begin
    except (httpx.HTTPError, HfHubHTTPError, ValueError, TypeError, AttributeError, LookupError):
        return {}
    return {"speed": round(size / spent)} if size >= 2**20 or spent > 1 else {}


def _account(api: Any, has_token: bool) -> dict[str, Any]:
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    if not has_token:
        return {"state": NONE}
    try:
        told = api.whoami()
    except HfHubHTTPError as problem:
        return _no_account(problem)
    except httpx.HTTPError as problem:
        return {"why": _words(problem)}
    token = (told.get("auth") or {}).get("accessToken") or {}
    scoped = (token.get("fineGrained") or {}).get("scoped") or []
    return {
        "state": VALID,
        "name": str(told.get("name") or ""),
        "role": str(token.get("role") or ""),
        "orgs": [
            str(one["name"])
            for one in told.get("orgs") or []
            if one.get("roleInOrg") in (None, "admin", "write", "contributor")
        ],
        "writes": [
            str(one["entity"].get("name") or "")
            for one in scoped
            if "repo.write" in (one.get("permissions") or [])
        ],
    }


def _no_account(problem: Any) -> dict[str, Any]:
    status = problem.response.status_code
    if status not in (401, 403):
        return {"why": f"HTTP {status}"}
    # huggingface_hub puts words of its own in the place of the Hub's
    words = f"{problem.response.headers.get('X-Error-Message')} {problem.response.text}".lower()
    return {"state": EXPIRED if "expired" in words else REFUSED}


def _readable(api: Any, one: Mapping[str, str]) -> dict[str, Any]:
    """Return whether files of a repository can be had, and the splits of a dataset's card."""
    found = _asked(one, lambda: api.auth_check(one["name"], repo_type=one["kind"]))
    if found["state"] != OPEN:
        return found
    info = api.model_info if one["kind"] == "model" else api.dataset_info
    told: list[Any] = []
    seen = _asked(
        one, lambda: told.append(info(one["name"], revision=one["revision"], timeout=TIMEOUT))
    )
    return {**seen, "splits": _splits(told[0].card_data) if told else []}


def _writable(api: Any, one: Mapping[str, str]) -> dict[str, Any]:
    """Return whether there is such a repository, and whether the token may write it."""
    found = _asked(one, lambda: api.auth_check(one["name"], repo_type=one["kind"], write=True))
    return {**found, "write": {OPEN: True, CLOSED: False}.get(found["state"])}


def _asked(one: Mapping[str, str], question: Callable[[], Any]) -> dict[str, Any]:
    """Return what came of a question on a repository."""
    import httpx
    from huggingface_hub import errors

    facts: dict[str, Any] = {"kind": one["kind"], "name": one["name"]}
    try:
        question()
        return {**facts, "state": OPEN}
    except errors.GatedRepoError:
        return {**facts, "state": GATED}
    except errors.RevisionNotFoundError:
        return {**facts, "state": MISSING, "why": f"it has no revision {one['revision']}"}
    except errors.RepositoryNotFoundError as problem:
        bad = "credentials" in str(problem.server_message or "")
        return {**facts, **({"why": "the token is refused"} if bad else {"state": MISSING})}
    except errors.HFValidationError:
        return {**facts, "state": MISSING, "why": "no name on the Hub"}
    except errors.HfHubHTTPError as problem:
        return {**facts, **_closed(problem)}
    except httpx.HTTPError as problem:
        return {**facts, "why": _words(problem)}


def _closed(problem: Any) -> dict[str, Any]:
    status = problem.response.status_code
    if status == 403:
        said = str(problem.server_message or "").strip().splitlines()
        return {"state": CLOSED, "why": said[0][:200] if said else "HTTP 403"}
    return {"why": "the token is refused" if status == 401 else f"HTTP {status}"}


def _splits(card: Any) -> list[str]:
    """Return the splits that a dataset's card lists, of all its configurations."""
    given = card.to_dict() if card is not None else {}
    found: list[Any] = []
    for config in _listed(given.get("configs")):
        files = config.get("data_files")
        found += [one.get("split") for one in _listed(files)]
    for info in _listed(given.get("dataset_info")):
        found += [one.get("name") for one in _listed(info.get("splits"))]
    return sorted({name for name in found if isinstance(name, str)})


def _listed(value: Any) -> list[dict[str, Any]]:
    entries = value if isinstance(value, list) else [value]
    return [one for one in entries if isinstance(one, dict)]


def _words(problem: BaseException) -> str:
    """Return why there was no answer, without the address, which may hold a password."""
    name = type(problem).__name__
    kinds = {"ConnectTimeout": "no connection within", "ReadTimeout": "no answer within"}
    if name in kinds:
        return f"{kinds[name]} {TIMEOUT:g} s"
    return (str(problem).splitlines() or [name])[0][:200]


if __name__ == "__main__":
    main()
