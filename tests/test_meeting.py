"""Nodes of a run are real processes here, and lose each other for real."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

# A node: meets, says what it got, and then each trouble; a line on stdin makes it leave.
NODE = """
import json, sys, threading, time
from launcher import meeting
from launcher.cluster import Cluster
from launcher.diagnostics import LauncherError
meeting.BEAT, meeting.SILENCE, meeting.AGAIN = 0.2, 2.0, 1.0
host, nodes, rank, port, facts, timeout = json.loads(sys.argv[1])
def say(kind, text):
    print(json.dumps([kind, text]), flush=True)
try:
    met = meeting.meet(Cluster(nodes, rank, host, port), facts, f"run-of-{rank}",
                       show=lambda text: say("show", text), timeout=timeout)
except LauncherError as problem:
    say("error", problem.message)
    sys.exit(1)
say("run", met.run)
words = []
threading.Thread(target=lambda: words.append(sys.stdin.readline().strip()), daemon=True).start()
while not words and not met.trouble():
    time.sleep(0.02)
if met.trouble():
    say("trouble", met.trouble())
met.leave(words[0] if words else "another node is gone")
"""
FACTS = {"recipe": "sha256 1234", "axolotl": "0.19.0"}


class Node:
    """One node's process."""

    def __init__(self, *asked: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NODE, json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> list[str]:
        """Return the next that it says, remarks left out."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            kind, text = json.loads(line)
            if kind != "show":
                return [kind, text]
        return []

    def shows(self) -> str:
        assert self.process.stdout is not None
        return str(json.loads(self.process.stdout.readline())[1])

    def leave(self, words: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()


class Nodes:
    """Starts nodes on one free port."""

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.started: list[Node] = []

    def start(self, rank: int, nodes: int = 2, facts: Any = FACTS, timeout: float = 30) -> Node:
        self.started.append(Node(self.host, nodes, rank, self.port, facts, timeout))
        return self.started[-1]


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    for node in made.started:
        node.process.kill()
        node.process.wait()
        for stream in (node.process.stdin, node.process.stdout):
            if stream:
                stream.close()


def met(nodes: Nodes, count: int) -> list[Node]:
    found = [nodes.start(rank, count) for rank in range(count)]
    for node in found:
        assert node.says() == ["run", "run-of-0"]
    return found


def test_all_get_the_run_of_the_head_in_whatever_order_they_come(nodes: Nodes) -> None:
    late = nodes.start(1)
    assert "waiting for the head, 127.0.0.1:" in late.shows()
    head = nodes.start(0)
    for node in (late, head):
        assert node.says() == ["run", "run-of-0"]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_a_cluster_may_have_the_new_addresses_alone(nodes: Nodes) -> None:
    nodes.host = "::1"
    met(nodes, 2)


def test_an_end_without_trouble_is_none(nodes: Nodes) -> None:
    for node in met(nodes, 3):
        node.leave()
        time.sleep(0.1)
    for node in nodes.started:
        assert node.says() == []
        assert node.process.wait(10) == 0


def test_a_difference_is_told_on_both_sides(nodes: Nodes) -> None:
    head, other = nodes.start(0), nodes.start(1, facts=FACTS | {"axolotl": "0.18.0"})
    host = socket.gethostname()
    words = f"axolotl: 0.19.0 on node 0 ({host}), 0.18.0 on node 1 ({host})"
    assert head.says() == other.says() == ["error", words]


def test_two_that_say_they_are_one(nodes: Nodes) -> None:
    found = [nodes.start(0, 3), nodes.start(1, 3), nodes.start(1, 3)]
    said = [node.says() for node in found]
    assert said[0][1].startswith("two nodes say that they are node 1")
    assert said[0] in said[1:]


def test_one_that_is_started_anew_while_it_waits(nodes: Nodes) -> None:
    head, first = nodes.start(0, 3), nodes.start(1, 3)
    while "waiting for node 2" not in head.shows():
        pass
    first.process.kill()
    first.process.wait()
    for node in (head, nodes.start(1, 3), nodes.start(2, 3)):
        assert node.says() == ["run", "run-of-0"]


def test_one_that_does_not_come_is_named(nodes: Nodes) -> None:
    head = nodes.start(0, 3, timeout=3)
    other = nodes.start(2, 3)
    assert head.says() == other.says() == ["error", "node 1 did not come"]


def test_a_head_that_is_not_there(nodes: Nodes) -> None:
    node = nodes.start(1, timeout=1)
    kind, words = node.says()
    assert kind == "error"
    assert words == f"the head, 127.0.0.1:{nodes.port}, cannot be reached: Connection refused"


def test_a_port_that_is_taken(nodes: Nodes) -> None:
    with socket.create_server(("", nodes.port)):
        kind, words = nodes.start(0).says()
    assert (kind, words) == ("error", f"cannot listen on port {nodes.port}: Address already in use")


@pytest.mark.parametrize("lost", [0, 1])
def test_one_that_is_killed_is_named_by_all_others(nodes: Nodes, lost: int) -> None:
    found = met(nodes, 3)
    found[lost].process.kill()
    for node in found[:lost] + found[lost + 1 :]:
        kind, words = node.says()
        assert kind == "trouble"
        assert words.startswith(f"node {lost} (")


def test_so_is_one_that_says_nothing_any_more(nodes: Nodes) -> None:
    found = met(nodes, 2)
    found[1].process.send_signal(signal.SIGSTOP)
    kind, words = found[0].says()
    assert (kind, words.startswith("node 1 (")) == ("trouble", True)
    assert "was lost: timed out" in words
    found[1].process.send_signal(signal.SIGCONT)


def test_what_went_wrong_on_one_is_told_to_all(nodes: Nodes) -> None:
    found = met(nodes, 3)
    found[2].leave("the training failed with exit code 1")
    for node in found[:2]:
        kind, words = node.says()
        assert kind == "trouble"
        assert words.endswith(" stopped: the training failed with exit code 1")


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"{}\n", b"\x00" * 3_000_000, b""]
)
def test_who_speaks_something_else_is_passed_over(nodes: Nodes, garbage: bytes) -> None:
    head = nodes.start(0)
    deadline = time.monotonic() + 20
    while True:
        try:
            stranger = socket.create_connection(("127.0.0.1", nodes.port), timeout=5)
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with stranger:
        threading.Thread(target=_send, args=(stranger, garbage), daemon=True).start()
        other = nodes.start(1)
        assert other.says() == head.says() == ["run", "run-of-0"]


def _send(stranger: socket.socket, garbage: bytes) -> None:
    try:
        stranger.sendall(garbage)
    except OSError:
        return
