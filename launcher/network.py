"""Whether a host answers: asked before a library that would try again for minutes."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

TIMEOUT = 5.0  # seconds
HUB = "https://huggingface.co"


def hub(environ: Mapping[str, str]) -> str:
    """Return the address of the Hub that this environment uses, without a slash at its end."""
    return (environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def offline(environ: Mapping[str, str]) -> bool:
    """Whether huggingface_hub is told to ask for nothing (huggingface_hub/constants.py)."""
    return environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def unreachable(url: str, environ: Mapping[str, str], timeout: float = TIMEOUT) -> str:
    """Return why the host of an address cannot be reached, nothing where it can: one connection,
    which is closed at once. Behind a proxy, the proxy has to answer.
    """
    if offline(environ):
        return "HF_HUB_OFFLINE is set"
    host = url
    try:
        target = urlsplit(_proxied(url) or url)
        host = target.hostname or url
        port = target.port or {"http": 80}.get(target.scheme, 443)
        socket.create_connection((target.hostname or "", port), timeout).close()
    except (OSError, ValueError) as problem:  # also a name that no host, an address that none has
        reason = getattr(problem, "strerror", None) or problem
        return f"no network: {host} does not answer ({reason})"
    return ""


def _proxied(url: str) -> str | None:
    """Return the address of the proxy that this process's environment names for a host."""
    host = urlsplit(url).hostname or ""
    if proxy_bypass(host):
        return None
    found = getproxies().get(urlsplit(url).scheme)
    return found if not found or "://" in found else f"http://{found}"
