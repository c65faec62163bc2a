"""Two nodes train together for real: two launchers that meet, with ranks of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from test_resumed import PLUGIN, Training, command, losses

from launcher.runs.folder import RunFolder
from launcher.supervise.processes import descendants

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def ip(*words: str) -> bool:
    """Change the network of this machine; return whether that was possible."""
    if not shutil.which("ip"):
        return False
    return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0


class Wire:
    """Two network namespaces with a cable between them, as two machines have it."""

    def __init__(self) -> None:
        self.names = [f"axr{os.getpid()}-{rank}" for rank in (0, 1)]
        one, two = self.names
        self.works = (
            ip("netns", "add", one)
            and ip("netns", "add", two)
            and ip("-n", one, "link", "add", "cable", "type", "veth", "peer", "cable", "netns", two)
            and all(self._up(name, number) for number, name in enumerate(self.names, start=1))
        )

    def _up(self, name: str, number: int) -> bool:
        return (
            ip("-n", name, "address", "add", f"10.213.7.{number}/24", "dev", "cable")
            and ip("-n", name, "link", "set", "cable", "up")
            and ip("-n", name, "link", "set", "lo", "up")
        )

    def cut(self) -> None:
        """Pull the cable: nobody is told that a connection is gone."""
        assert ip("-n", self.names[1], "link", "set", "cable", "down")

    def close(self) -> None:
        for name in self.names:
            ip("netns", "delete", name)


class Pair(Training):
    """The training of test_resumed on two nodes, each with its own folder of runs: in network
    namespaces of their own, or where those cannot be made, on one machine.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.wire = Wire()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.started: list[subprocess.Popen[bytes]] = []
        self.files: list[IO[bytes]] = []

    def node(self, rank: int, *args: object) -> subprocess.Popen[bytes]:
        head = "10.213.7.1" if self.wire.works else "127.0.0.1"
        where = ["--nodes", 2, "--node-rank", rank, "--head", f"{head}:{self.port}"]
        inside = ["ip", "netns", "exec", self.wire.names[rank]] if self.wire.works else []
        env = self.env | {"AXR_RUNS": str(self.place / f"runs{rank}")}
        self.files.append((self.place / f"said{rank}").open("wb"))
        process = subprocess.Popen(
            [*inside, *command(*(args or ["sft.yaml"]), *where, "--skip-doctor")],
            cwd=self.place,
            env=env,
            stdout=self.files[-1],
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def steps(self, count: int) -> None:
        recipe = self.place / "sft.yaml"
        recipe.write_text(recipe.read_text().replace("max_steps: 12", f"max_steps: {count}"))

    def trust(self, name: str, plugin: str) -> None:
        """Have the recipe run code of the test."""
        (self.place / f"{name}.py").write_text(plugin)
        recipe = self.place / "sft.yaml"
        recipe.write_text(recipe.read_text() + f"plugins: [{name}.Plugin]\n")
        paths = [str(self.place), self.env.get("PYTHONPATH", "")]
        self.env["PYTHONPATH"] = os.pathsep.join(paths)

    def said(self, rank: int) -> str:
        return (self.place / f"said{rank}").read_text(errors="replace")

    def run(self, rank: int) -> RunFolder:
        [root] = (self.place / f"runs{rank}").glob("*-????????-??????-????")
        return RunFolder(root, rank)

    def until(self, file: Path, seconds: float = 200) -> None:
        deadline = time.monotonic() + seconds
        while not file.exists():
            assert time.monotonic() < deadline, self.said(0)[-3000:] + self.said(1)[-3000:]
            assert all(process.poll() is None for process in self.started), self.said(0)[-3000:]
            time.sleep(0.1)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    for process in made.started:
        for number in [process.pid, *descendants(process.pid)]:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
    for file in made.files:
        file.close()
    made.wire.close()


def status(run: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.status.read_text())
    return found


# Raises on the other node, once, after the first checkpoint.
AWAY = PLUGIN.replace(
    "state.global_step == 8", "(state.global_step, environ.get('RANK')) == (4, '1')"
)


def test_two_nodes_train_what_one_does_and_both_start_again(pair: Pair) -> None:
    """On a shared disk, which each node finds in another place."""
    pair.steps(5)
    pair.trust("away_plugin", f"from os import environ\n{AWAY}")
    (pair.place / "runs0").mkdir()
    (pair.place / "runs1").symlink_to("runs0")
    alone = pair.axr("sft.yaml", "--trust")
    assert alone.returncode == 0, alone.stdout[-3000:]
    expected = losses(RunFolder(pair.runs.pop()))
    both = [pair.node(rank, "sft.yaml", "--trust", "--auto-resume", 1) for rank in (1, 0)]
    assert [process.wait(280) for process in both] == [0, 0], pair.said(0)[-3000:]
    head, other = pair.run(0), pair.run(1)
    assert head.root.name == other.root.name
    for rank, run in enumerate((head, other)):
        assert "resume   goes on from step 3" in pair.said(rank)
        assert "is not this one" not in pair.said(rank)
        assert (status(run)["state"], status(run)["resumed"]) == ("done", [3])
    found = losses(head)
    assert found.keys() == expected.keys()
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-3)
    assert not other.metrics.exists()  # rank 0 alone writes them


def test_a_node_that_is_lost_ends_the_other_which_names_it(pair: Pair) -> None:
    pair.steps(100_000)
    head, other = pair.node(0), pair.node(1)
    pair.until(pair.place / "runs0")
    pair.until(pair.run(0).model / "checkpoint-3" / "trainer_state.json")
    if pair.wire.works:
        pair.wire.cut()
    else:
        for number in [other.pid, *descendants(other.pid)]:
            os.kill(number, signal.SIGKILL)
    assert head.wait(60) == 1
    assert "checkpoints are written on node 0 alone, whose disk is not this one" in pair.said(1)
    said = pair.said(0)
    assert "is not this one" not in said
    assert f"node 1 ({socket.gethostname()}) was lost: " in said
    assert "next: axr train --resume " in said
    assert status(pair.run(0))["state"] == "failed"


def test_a_node_with_another_recipe_stops_both_before_anything_is_loaded(pair: Pair) -> None:
    both = [pair.node(0), pair.node(1, "sft.yaml", "learning_rate=0.001")]
    assert [process.wait(60) for process in both] == [3, 3]
    for rank in (0, 1):
        assert "error: recipe: " in pair.said(rank)
        assert "Traceback" not in pair.said(rank)
        assert not (pair.place / f"runs{rank}").exists()
