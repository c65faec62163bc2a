"""What is looked at on this very machine: disks, limits, packages that crash, sums over ranks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.node.child import ask
from launcher.node.host import _cgroup, _xids, host
from launcher.node.network import head
from launcher.node.stack import Package, stack
from launcher.supervise.processes import descendants

CODE = {
    "well": "import torch\n",
    "dead": "import os\nos.abort()\n",
    "broken": "raise ImportError('undefined symbol: _ZN3c105Error')\n",
    "stuck": "import time\ntime.sleep(60)\n",
    "loud": "print('{\"about\": \"torch\"}')\nimport sys\nsys.stderr.write('words')\n",
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    for name, text in CODE.items():
        (tmp_path / f"axr_test_{name}.py").write_text(text)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


@pytest.mark.slow
def test_a_package_that_fails_takes_no_other_with_it(environ: dict[str, str]) -> None:
    packages = {f"axr_test_{name}": "torch" for name in CODE}
    packages["axr_test_none"] = "axr-is-not-installed"
    found = stack(packages, 2, on_cpu=True, environ=environ, seconds=12)
    assert found.torch
    assert found.torch.trouble == ""
    version = found.torch.version
    assert {one.module.removeprefix("axr_test_"): one for one in found.packages} == {
        "well": Package("axr_test_well", version),
        "dead": Package("axr_test_dead", version, f"it crashes: signal {signal.SIGABRT:d}"),
        "broken": Package(
            "axr_test_broken", version, "ImportError: undefined symbol: _ZN3c105Error"
        ),
        "stuck": Package("axr_test_stuck", version, "no answer within 12 s", checked=False),
        "loud": Package("axr_test_loud", version),
        "none": Package("axr_test_none", ""),
    }
    assert found.all_reduce  # two real processes, by gloo
    assert (found.all_reduce.backend, found.all_reduce.trouble) == ("gloo", "")
    assert (found.all_reduce.speed or 0) > 0


def test_places(tmp_path: Path) -> None:
    places = {"run folder": str(tmp_path / "not" / "yet"), "Hub cache": "/proc/none"}
    found = host(places, os.environ, 20)
    run, cache = found.places
    assert (run.role, run.writable, run.why) == ("run folder", True, "")
    assert run.mount
    assert run.free
    assert run.speed
    assert not cache.writable
    assert list(tmp_path.iterdir()) == []  # nothing is left
    (tmp_path / "file").touch()
    (blocked,) = host({"Hub cache": str(tmp_path / "file" / "hub")}, os.environ, 20).places
    assert (blocked.writable, blocked.why) == (False, f"{tmp_path}/file is no folder")
    assert found.open_files
    assert found.memory
    assert found.shm


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "max", "memory.current": "5"}, (None, 0)),
        (
            {
                "memory.max": "1000",
                "memory.current": "700",
                "memory.stat": "anon 1\ninactive_file 300\n",
            },
            (1000, 400),
        ),
        (
            {
                "memory/memory.limit_in_bytes": "1000",
                "memory/memory.usage_in_bytes": "600",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 100\n",
            },
            (1000, 500),
        ),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, (None, 0)),
        (  # under Slurm the limit stands in the job's own group
            {
                "own": "0::/slurm/job_7/step\n",
                "memory.max": "max",
                "slurm/job_7/memory.max": "500",
                "slurm/job_7/memory.current": "100",
                "slurm/job_7/step/memory.max": "max",
            },
            (500, 100),
        ),
        (
            {
                "own": "12:cpu,cpuacct:/a\n9:memory:/docker/b\n0::/\n",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/docker/b/memory.limit_in_bytes": "800",
                "memory/docker/b/memory.usage_in_bytes": "300",
            },
            (800, 300),
        ),
        ({"memory.max": "many"}, (None, 0)),
        ({}, (None, 0)),
    ],
)
def test_a_containers_limit(
    tmp_path: Path, files: dict[str, str], expected: tuple[int | None, int]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _cgroup(tmp_path, tmp_path / "own") == expected


def test_errors_of_gpus_in_the_kernels_log(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text(
        "6,1,2,-;usb 1-1: new device\n"
        "4,339,5,-;NVRM: Xid (PCI:0000:0f:00): 79, pid=1, GPU has fallen off the bus.\n"
        "4,340,6,-;NVRM: Xid (PCI:0000:10:00): 63, Row Remapper\n"
        "4,341,7,-;NVRM: Xid (PCI:0000:0f:00): 79, again\n"
    )
    assert _xids(log) == [63, 79]
    assert _xids(tmp_path / "none") is None


def test_a_child_that_answers_badly(environ: dict[str, str]) -> None:
    late = ask("axr_test_stuck", None, environ, 0.5)
    assert (late.lines, late.trouble) == ((), "no answer within 0.5 s")
    assert ask("axr_test_dead", None, environ, 10).trouble == "ended by signal 6"
    broken = ask("axr_test_broken", None, environ, 10)
    assert broken.trouble == "ImportError: undefined symbol: _ZN3c105Error"
    assert [*ask("axr_test_loud", None, environ, 10).lines] == [{"about": "torch"}]


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ctrl_c_leaves_no_child(environ: dict[str, str]) -> None:
    code = (
        "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from launcher.node.child import ask; ask('axr_test_stuck', 0, os.environ, 600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environ, stderr=subprocess.DEVNULL
    ) as asking:
        while not (children := descendants(asking.pid)):
            time.sleep(0.02)
        time.sleep(0.2)  # it waits for the answer
        asking.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 30
    while any(map(runs, children)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_child_ends_when_nobody_waits_for_it_any_more(environ: dict[str, str]) -> None:
    code = "import os; from launcher.node.child import ask; ask('axr_test_stuck', 0, os.environ, 1)"
    asking = subprocess.Popen([sys.executable, "-c", code], env=environ)
    while not (children := descendants(asking.pid)):
        time.sleep(0.02)
    asking.kill()
    asking.wait()
    deadline = time.monotonic() + 30
    while any(map(runs, children)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_meeting_of_nodes() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.listen()
        assert head("127.0.0.1", port, 0, 2).why == f"port {port} is taken"
        met = head("127.0.0.1", port, 1, 2)
        assert (met.ok, met.listening) == (True, True)
    met = head("127.0.0.1", port, 1, 2)
    assert (met.ok, met.listening) == (True, False)  # refused: the machine is there
    assert head("127.0.0.1", port, 0, 2).ok
    assert head("192.0.2.1", port, 0, 2).why == "192.0.2.1 is not an address of this machine"
    assert not head("no-such-host.invalid", port, 1, 2).ok
