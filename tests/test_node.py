"""What the launcher sees of a machine: the driver's library is a stand-in, but a real one."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import stand_in_nvml
from stand_in_nvml import A100, UUIDS, a100, described

from launcher.node import Gpu, Node, User, probe
from launcher.node.record import from_data, to_data

Probe = Callable[..., Node]
ASK = """
import json, os, sys
from pathlib import Path
from launcher.node import probe
from launcher.node.record import to_data
found = probe(os.environ, volume=Path("/nonexistent"), timeout=float(sys.argv[1]))
print(json.dumps(to_data(found)))
"""


@pytest.fixture
def node(tmp_path: Path) -> Probe:
    """Probe, in a process of its own, a machine that a text describes."""

    def run(text: str | None, *, timeout: float = 20.0, **env: str) -> Node:
        place = {} if text is None else stand_in_nvml.environment(tmp_path, text)
        clean = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        done = subprocess.run(
            [sys.executable, "-c", ASK, str(timeout)],
            env={**clean, **place, **env},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return from_data(Node, json.loads(done.stdout))

    return run


def eight(count: int = 8) -> str:
    return described(*(a100(n) for n in range(count)))


@pytest.mark.parametrize("count", [1, 8])
def test_counts_the_gpus(node: Probe, count: int) -> None:
    found = node(eight(count))
    assert [gpu.index for gpu in found.gpus] == list(range(count))
    assert {(gpu.name, gpu.memory_gib, gpu.free_gib) for gpu in found.gpus} == {(A100, 80.0, 79.49)}
    assert (found.driver, found.cuda, found.trouble) == ("550.54.15", "12.4", "")


def test_what_a_card_says_of_itself(node: Probe) -> None:
    slow = 0x20 | 0x04 | 0x01  # hot; a limit of power that was set, and rest, are none of it
    hot = a100(1, uncorrected=2, pending=1, throttle=slow, links=0, free=10240, pid=7, used=71680)
    well, ill = node(described(a100(), hot)).gpus
    assert well == Gpu(
        A100, 80.0, 0, UUIDS[0], 79.49, (8, 0), uncorrected=0, nvlinks=12, serial="1320123000000"
    )
    assert ill == Gpu(
        A100,
        80.0,
        1,
        UUIDS[1],
        10.0,
        (8, 0),
        (User(7, "python3", 70.0),),
        uncorrected=2,
        remap="pending",
        throttled=("software thermal slowdown",),
        nvlinks=0,
        serial="1320123000001",
    )


def test_what_a_card_does_not_say_is_not_made_up(node: Probe) -> None:
    (found,) = node(described("NVIDIA GB10|GPU-1")).gpus
    assert found == Gpu("NVIDIA GB10", 0.0, 0, "GPU-1")


def test_slices_stand_in_the_place_of_their_card(node: Probe) -> None:
    slices = "".join(f"slice {A100} MIG 3g.40gb|MIG-{n}|40448|40000\n" for n in range(2))
    found = node(described(a100()) + slices)
    assert [(gpu.name, gpu.uuid, gpu.memory_gib, gpu.mig) for gpu in found.gpus] == [
        (f"{A100} MIG 3g.40gb", f"MIG-{n}", 39.5, True) for n in range(2)
    ]
    assert {gpu.capability for gpu in found.gpus} == {(8, 0)}
    (one,) = node(described(a100()) + slices, CUDA_VISIBLE_DEVICES="MIG-1").gpus
    assert one.uuid == "MIG-1"


def test_a_gpu_that_fell_off_the_bus_leaves_the_others(node: Probe) -> None:
    first, second = node(described(a100()) + "lost\n").gpus
    assert (first.name, first.trouble) == (A100, "")
    assert (second.index, second.trouble) == (1, "GPU is lost")


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ("0", 1),
        ("3,1", 2),
        (" 0 , 7 ", 2),
        ("0,1,2,3,4,5,6,7", 8),
        (UUIDS[2], 1),
        ("GPU-65f3,GPU-05f3", 2),  # CUDA takes the first letters, too
        ("", 0),
        ("-1", 0),
        ("9", 0),
        ("0,9,1", 1),  # as in CUDA the first unknown one ends the list
        ("0,-1,1", 1),
        ("1,1", 0),  # as in CUDA nothing is left of a list that repeats itself
        ("GPU-", 0),  # which one?
        ("GPU-ffff", 0),
        ("all", 0),
    ],
)
def test_keeps_the_gpus_that_cuda_would_show(node: Probe, chosen: str, count: int) -> None:
    found = node(eight(), CUDA_VISIBLE_DEVICES=chosen)
    assert len(found.gpus) == count
    assert found.trouble == ""


def test_a_chosen_gpu_keeps_its_own_name(node: Probe) -> None:
    mixed = described(a100(), f"NVIDIA L40S|{UUIDS[1]}|46068")
    (found,) = node(mixed, CUDA_VISIBLE_DEVICES="1").gpus
    assert (found.name, found.memory_gib) == ("NVIDIA L40S", 45.0)
    assert str(node(mixed)) == f"2 x {A100} / NVIDIA L40S"


def test_no_driver_is_no_trouble(node: Probe) -> None:
    found = node(None)
    assert (found.gpus, found.trouble, found.driver) == ((), "", "")
    assert str(found) == f"no GPU, {found.cpus} core{'s' * (found.cpus != 1)}"


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("init 9\n", "Driver Not Loaded"),
        ("init 18\n", "RM has detected an NVML/RM version mismatch."),
        ("init 999\n", "Unknown Error"),
        ("init crash\n", "ended by signal 6"),
        (described(), "the driver knows no GPU"),
    ],
)
def test_says_why_no_gpu_could_be_counted(node: Probe, text: str, trouble: str) -> None:
    found = node(text)
    assert (found.gpus, found.trouble) == ((), trouble)


def test_a_hanging_driver_is_left_alone_in_time(node: Probe) -> None:
    found = node("init hang\n", timeout=0.5)
    assert (found.gpus, found.trouble) == ((), "no answer within 0.5 s")


def test_a_file_of_the_working_directory_is_not_run(
    node: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pynvml.py").write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    assert len(node(eight(1)).gpus) == 1


def test_a_machine_can_be_kept_in_a_file(node: Probe) -> None:
    found = node(eight(2))
    assert from_data(Node, json.loads(json.dumps(to_data(found)))) == found
    with pytest.raises(ValueError, match="Node has no gpu"):
        from_data(Node, {"gpu": []})
    with pytest.raises(ValueError, match="cpus is '8', not int"):
        from_data(Node, {"cpus": "8"})


def test_cores_are_those_that_this_process_may_use() -> None:
    # in a process of its own: what is taken away here is not given back
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_cpus_when_bound_to_one) == 1


def _cpus_when_bound_to_one() -> int:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return probe({"PATH": ""}).cpus


def test_volume_where_one_is_mounted(tmp_path: Path) -> None:
    assert probe({"PATH": ""}, volume=tmp_path).volume == tmp_path
    assert probe({"PATH": ""}, volume=tmp_path / "none").volume is None
    file = tmp_path / "file"
    file.touch()
    assert probe({"PATH": ""}, volume=file).volume is None


@pytest.mark.skipif(os.geteuid() != 0, reason="a user cannot become another; see the next test")
def test_a_volume_that_may_not_be_written_is_none_for_this_user() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_volume_seen_by_nobody) is None


def _volume_seen_by_nobody() -> Path | None:
    os.setuid(65534)
    return probe({"PATH": ""}, volume=Path("/usr")).volume


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; see the test above")
def test_a_volume_that_may_not_be_written_is_none(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert probe({"PATH": ""}, volume=tmp_path).volume is None
