"""Whether the nodes of a run find each other: the head's port is free there, and reached from the
others.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Head:
    """The place where the nodes meet. ``rank`` is that of this node; ``ok`` that the port can be
    taken here (rank 0), or that the head's machine answers (any other).
    """

    host: str
    port: int
    rank: int = 0
    ok: bool = False
    listening: bool = False
    why: str = ""


def head(host: str, port: int, rank: int, seconds: float) -> Head:
    """Look at the meeting place, from the node of this rank."""
    return _own(host, port) if rank == 0 else _other(host, port, rank, seconds)


def _own(host: str, port: int) -> Head:
    """Take the port for a moment, on the address that the others will use."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except OSError as problem:
        words = {
            errno.EADDRNOTAVAIL: f"{host} is not an address of this machine",
            errno.EADDRINUSE: f"port {port} is taken",
        }
        number = problem.errno or 0
        return Head(host, port, why=words.get(number, problem.strerror or str(problem)))
    return Head(host, port, ok=True)


def _other(host: str, port: int, rank: int, seconds: float) -> Head:
    """Knock at the head's port. Refused means that the machine is reached and nothing listens yet,
    which is as it should be before the start.
    """
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return Head(host, port, rank, ok=True, listening=True)
    except ConnectionRefusedError:
        return Head(host, port, rank, ok=True)
    except OSError as problem:
        late = isinstance(problem, TimeoutError)
        words = f"no answer within {seconds:g} s" if late else problem.strerror or str(problem)
        return Head(host, port, rank, why=words)
