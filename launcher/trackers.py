"""W&B, Comet and MLflow: whether what they need is here, and whether W&B knows the key."""

from __future__ import annotations

import base64
import contextlib
import json
import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

WANDB, COMET, MLFLOW = "wandb", "comet", "mlflow"
PACKAGES = {WANDB: "wandb", COMET: "comet_ml", MLFLOW: "mlflow"}
TITLES = {WANDB: "Weights & Biases", COMET: "Comet", MLFLOW: "MLflow"}
WANDB_API = "https://api.wandb.ai"


@dataclass(frozen=True)
class Tracker:
    """``key``: whether one is set, ``valid`` whether the service knows it (none: not asked)."""

    name: str
    installed: bool
    key: bool = False
    valid: bool | None = None
    why: str = ""


def wanted(settings: Mapping[str, Any]) -> list[str]:
    """Return the trackers that a recipe switches on (axolotl/utils/wandb_.py, comet_.py,
    mlflow_.py: the name of a project does).
    """
    projects = {
        WANDB: "wandb_project",
        COMET: "comet_project_name",
        MLFLOW: "mlflow_experiment_name",
    }
    return [
        name for name, key in projects.items() if settings.get(key) or settings.get(f"use_{name}")
    ]


def needs_key(name: str, settings: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Return whether a tracker talks to a service that asks who one is."""
    if name == WANDB:
        mode = settings.get("wandb_mode") or environ.get("WANDB_MODE")
        return mode not in ("offline", "disabled", "dryrun")
    return name == COMET and settings.get("comet_online") is not False


def look(name: str, environ: Mapping[str, str], *, online: bool, seconds: float) -> Tracker:
    """Return what is here for a tracker; with ``online`` W&B is asked whether it knows the key."""
    installed = find_spec(PACKAGES[name]) is not None
    if name == COMET:
        config = Path(environ.get("COMET_CONFIG") or "~/.comet.config").expanduser()
        return Tracker(name, installed, bool(environ.get("COMET_API_KEY")) or config.is_file())
    if name == MLFLOW:
        return Tracker(name, installed)
    base = (environ.get("WANDB_BASE_URL") or WANDB_API).rstrip("/")
    key = environ.get("WANDB_API_KEY") or _from_netrc(urlsplit(base).hostname or "", environ)
    if not key or not online:
        return Tracker(name, installed, bool(key), None, "" if key else "no key")
    valid, why = _known_to_wandb(base, key, seconds)
    return Tracker(name, installed, True, valid, why)


def _from_netrc(host: str, environ: Mapping[str, str]) -> str:
    """Return the key that `wandb login` wrote down."""
    file = Path(environ.get("NETRC") or os.path.join(environ.get("HOME") or "~", ".netrc"))
    with contextlib.suppress(OSError, netrc.NetrcParseError, UnicodeDecodeError):
        found = netrc.netrc(str(file.expanduser())).authenticators(host)
        return found[2] or "" if found else ""
    return ""


def _known_to_wandb(base: str, key: str, seconds: float) -> tuple[bool | None, str]:
    """Ask who the key belongs to (wandb's own query, sdk/internal/internal_api.py, viewer)."""
    login = base64.b64encode(f"api:{key}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
    body = json.dumps({"query": "query Viewer { viewer { id } }"}).encode()
    try:
        request = Request(f"{base}/graphql", data=body, headers=headers)
        with urlopen(request, timeout=seconds) as answer:
            told = json.loads(answer.read(2**16))
    except HTTPError as problem:
        problem.close()
        return (False, "") if problem.code in (401, 403) else (None, f"HTTP {problem.code}")
    except (URLError, HTTPException, OSError, ValueError) as problem:
        why = problem.reason if isinstance(problem, URLError) else problem
        return None, str(why)[:200]
    data = told.get("data") if isinstance(told, dict) else None
    if not isinstance(data, dict) or "viewer" not in data:
        return None, "what answers is not W&B"
    return bool(data["viewer"]), ""
