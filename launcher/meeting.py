"""The nodes of a run meet before anything starts, and hear of each other until it ends.

Node 0, the head, listens; the others connect and say what they would run. Where all say the same,
each gets the run's name; then the connections stay, and one that closes without a word, or is
silent, is a node that was lost: NCCL alone would say so after half an hour, if at all. Lines of
JSON; whoever says anything else is not one of us.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.cluster import Cluster
from launcher.diagnostics import LauncherError

TIMEOUT = 600.0  # seconds; machines of one cluster may be ready minutes apart
BEAT = 5.0  # seconds between two signs of life
SILENCE = 30.0  # seconds without one: lost
LONGEST = 2**20  # bytes of a line
AGAIN = 10.0  # seconds between two remarks on who is missing


class Gone(Exception):
    """The other side closed the connection, is silent, or speaks something else."""


@dataclass
class Link:
    """A connection to another node. ``host``: its name for people."""

    socket: socket.socket
    rank: int = 0
    host: str = ""
    left: bool = False
    _rest: bytes = b""
    _sending: threading.Lock = field(default_factory=threading.Lock)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; what cannot be sent is noticed by who listens."""
        with self._sending, contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float) -> dict[str, Any]:
        """Return the next message. Raises `Gone`."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._rest:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                part = self.socket.recv(65_536)
            except OSError as problem:  # a time-out is one
                raise Gone(str(problem)) from None
            self._rest += part
            if not part or len(self._rest) > LONGEST or time.monotonic() > deadline:
                raise Gone("it closed the connection")
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise Gone("it speaks something else") from None
        if not isinstance(found, dict):
            raise Gone("it speaks something else")
        return found

    def is_gone(self) -> bool:
        """Whether the other side has closed the connection, before it was ever answered."""
        self.socket.settimeout(0.0)
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def __str__(self) -> str:
        """Return for instance "node 1 (gpu-02)"."""
        return f"node {self.rank} ({self.host})"


class Meeting:
    """All nodes of a run, as one of them sees it. ``run``: the name that the head gave it;
    ``address``: of this node, towards the others.
    """

    def __init__(self, links: list[Link], run: str, address: str, *, head: bool) -> None:
        """Listen to every link, and give signs of life, until `leave`."""
        self.links, self.run, self.address = links, run, address
        self._head, self._over, self._trouble = head, threading.Event(), ""
        for link in links:
            threading.Thread(target=self._listen, args=(link,), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def trouble(self) -> str:
        """Return what happened to another node, nothing where all is well."""
        return self._trouble

    def leave(self, words: str = "") -> None:
        """Say goodbye: done, or with what went wrong here."""
        self._over.set()
        for link in self.links:
            link.send({"left": words})
            with contextlib.suppress(OSError):
                link.socket.shutdown(socket.SHUT_WR)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            for link in self.links:
                link.send({})

    def _listen(self, link: Link) -> None:
        try:
            while not link.left:
                self._hear(link, link.receive(SILENCE))
        except Gone as gone:
            if not self._over.is_set():
                self._tell(f"{link} was lost: {gone}")
        finally:
            link.socket.close()

    def _hear(self, link: Link, message: Mapping[str, Any]) -> None:
        if "left" in message:
            link.left = True
            if message["left"]:
                self._tell(f"{link} stopped: {message['left']}")
        elif message.get("trouble"):
            self._tell(str(message["trouble"]))

    def _tell(self, words: str) -> None:
        """Keep the first trouble; the head passes it on."""
        if not self._trouble:
            self._trouble = words
            for link in self.links if self._head else ():
                link.send({"trouble": words})


def meet(
    cluster: Cluster,
    facts: Mapping[str, str],
    run: str,
    *,
    show: Callable[[str], None],
    timeout: float = TIMEOUT,
) -> Meeting:
    """Wait for all nodes and compare ``facts``: names and what has to be the same everywhere.
    ``run`` is the name that the head proposes. Raises ``LauncherError`` on every node, with the
    difference, or with who did not come.
    """
    mine = {"rank": cluster.rank, "host": socket.gethostname(), "facts": dict(facts)}
    deadline = time.monotonic() + timeout
    if cluster.rank:
        return _join(cluster, mine, deadline, show)
    return _gather(cluster, mine, run, deadline, show)


def _gather(
    cluster: Cluster,
    mine: Mapping[str, Any],
    run: str,
    deadline: float,
    show: Callable[[str], None],
) -> Meeting:
    links: dict[int, Link] = {}
    problem = ""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_server(cluster.port))
        for link, message in _arrivals(server, deadline, lambda: _missing(cluster, links, show)):
            for rank in [rank for rank, one in links.items() if one.is_gone()]:
                del links[rank]  # who was started anew, as it waited, comes again
            problem = _objection(cluster, links, link, mine, message)
            links.setdefault(link.rank, link)
            if problem or len(links) == cluster.nodes - 1:
                break
    if not problem and len(links) < cluster.nodes - 1:
        problem = f"{_absent(cluster, links)} did not come"
    answer = {"error": problem} if problem else {"run": run, "host": mine["host"]}
    for link in links.values():
        link.send(answer)
    if problem:
        raise LauncherError(problem, "the same command on every node, with its own --node-rank")
    address = next(iter(links.values())).socket.getsockname()[0]
    return Meeting(list(links.values()), run, address, head=True)


def _server(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, backlog=64, dualstack_ipv6=both)
    except OSError as problem:
        fact = f"cannot listen on port {port}: {os.strerror(problem.errno or 0)}"
        hint = f"name another one on every node: --head HOST:{port - 100}"
        raise LauncherError(fact, hint) from None


def _arrivals(
    server: socket.socket, deadline: float, waiting: Callable[[], None]
) -> Iterator[tuple[Link, dict[str, Any]]]:
    """Yield each that connects and says what it is, until the deadline."""
    while (left := deadline - time.monotonic()) > 0:
        server.settimeout(min(left, AGAIN))
        try:
            link = Link(server.accept()[0])
        except OSError:
            waiting()
            continue
        with contextlib.suppress(Gone):
            message = link.receive(BEAT)
            if isinstance(message.get("rank"), int) and isinstance(message.get("facts"), dict):
                link.rank, link.host = message["rank"], str(message.get("host"))
                yield link, message
                continue
        link.socket.close()


def _objection(
    cluster: Cluster,
    known: Mapping[int, Link],
    link: Link,
    mine: Mapping[str, Any],
    message: Mapping[str, Any],
) -> str:
    """Return what keeps a node from taking part, nothing where it may."""
    if not 0 < link.rank < cluster.nodes:
        return f"{link} came, and there are {cluster.nodes} nodes, 0 to {cluster.nodes - 1}"
    if link.rank in known:
        return f"two nodes say that they are node {link.rank}: {known[link.rank].host}, {link.host}"
    here, there = mine["facts"], message["facts"]
    for name in sorted({*here, *there}):
        if here.get(name) != there.get(name):
            return (
                f"{name}: {here.get(name, 'none')} on node 0 ({mine['host']}), "
                f"{there.get(name, 'none')} on {link}"
            )
    return ""


def _missing(cluster: Cluster, known: Mapping[int, Link], show: Callable[[str], None]) -> None:
    show(f"waiting for {_absent(cluster, known)} on port {cluster.port}")


def _absent(cluster: Cluster, known: Mapping[int, Link]) -> str:
    absent = [str(rank) for rank in range(1, cluster.nodes) if rank not in known]
    return f"node{'s' * (len(absent) > 1)} {', '.join(absent)}"


def _join(
    cluster: Cluster, mine: Mapping[str, Any], deadline: float, show: Callable[[str], None]
) -> Meeting:
    link = Link(_connected(cluster, deadline, show), 0, cluster.host)
    link.send(mine)
    try:
        answer = link.receive(max(BEAT, deadline - time.monotonic()))
    except Gone as gone:
        fact = f"the head, {cluster.host}:{cluster.port}, did not answer: {gone}"
        raise LauncherError(fact, "its own output says why") from None
    if "run" not in answer:
        hint = "the same command on every node, with its own --node-rank"
        raise LauncherError(str(answer.get("error")), hint)
    link.host = str(answer.get("host"))
    return Meeting([link], str(answer["run"]), link.socket.getsockname()[0], head=False)


def _connected(cluster: Cluster, deadline: float, show: Callable[[str], None]) -> socket.socket:
    said, place = 0.0, f"{cluster.host}:{cluster.port}"
    while True:
        try:
            return socket.create_connection((cluster.host, cluster.port), timeout=BEAT)
        except OSError as problem:
            why = problem.strerror or str(problem)
        if time.monotonic() > deadline:
            hint = f"is it the head, and is port {cluster.port} open between the nodes?"
            raise LauncherError(f"the head, {place}, cannot be reached: {why}", hint)
        if time.monotonic() - said > AGAIN:
            said = time.monotonic()
            show(f"waiting for the head, {place}: {why}")
        time.sleep(0.5)
