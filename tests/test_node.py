"""What the launcher sees of a machine: nvidia-smi is a stand-in, but a real program on the PATH."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.node import Gpu, Node, probe

A100 = "NVIDIA A100-SXM4-80GB"
UUIDS = tuple(f"GPU-{n}5f3c2e1-9a8b-4c7d-8e6f-0123456789ab" for n in range(8))

Probe = Callable[..., Node]


def rows(count: int, *, name: str = A100, memory: str = "81920") -> str:
    return "".join(f"{n}, {UUIDS[n]}, {name}, {memory}, 535.161.08\n" for n in range(count))


@pytest.fixture
def node(tmp_path: Path) -> Probe:
    """Probe with a program ``nvidia-smi`` that does what the given shell text says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "volume").mkdir()

    def run(shell: str | None, *, timeout: float = 20.0, mode: int = 0o755, **env: str) -> Node:
        if shell is not None:
            program = folder / "nvidia-smi"
            program.write_text(f"#!/bin/sh\n{shell}\n")
            program.chmod(mode)
        path = f"{folder}:/usr/bin:/bin"
        return probe({"PATH": path, **env}, volume=tmp_path / "none", timeout=timeout)

    return run


def prints(text: str) -> str:
    return f"cat <<'END'\n{text}END"


@pytest.mark.parametrize("count", [0, 1, 8])
def test_counts_the_gpus(node: Probe, count: int) -> None:
    found = node(prints(rows(count)))
    assert found.gpus == (Gpu(A100, 80.0),) * count
    assert found.driver == ("535.161.08" if count else "")
    assert found.trouble == ""


def test_asks_for_the_columns_that_it_reads(node: Probe, tmp_path: Path) -> None:
    node(f'printf "%s\\n" "$@" > {tmp_path}/asked')
    assert (tmp_path / "asked").read_text().split() == [
        "--query-gpu=index,uuid,name,memory.total,driver_version",
        "--format=csv,noheader,nounits",
    ]


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
    found = node(prints(rows(8)), CUDA_VISIBLE_DEVICES=chosen)
    assert len(found.gpus) == count
    assert found.trouble == ""


def test_a_chosen_gpu_keeps_its_own_name(node: Probe) -> None:
    mixed = rows(1) + f"1, {UUIDS[1]}, NVIDIA L40S, 46068, 550.54\n"
    assert node(prints(mixed), CUDA_VISIBLE_DEVICES="1").gpus == (Gpu("NVIDIA L40S", 45.0),)
    both = node(prints(mixed))
    assert str(both) == f"2 x {A100} / NVIDIA L40S"


def test_memory_that_the_driver_does_not_say_is_no_reason_to_fail(node: Probe) -> None:
    found = node(prints(rows(1, name="NVIDIA GB10", memory="[N/A]")))
    assert [gpu.name for gpu in found.gpus] == ["NVIDIA GB10"]


def test_no_driver_is_no_trouble(node: Probe) -> None:
    found = node(None)
    assert (found.gpus, found.trouble, found.driver) == ((), "", "")
    assert str(found) == f"no GPU, {found.cpus} cores"


@pytest.mark.parametrize(
    ("shell", "trouble"),
    [
        (
            "echo 'NVIDIA-SMI has failed to talk to the driver.'; echo more; exit 9",
            "NVIDIA-SMI has failed to talk to the driver.",
        ),
        (
            "echo 'Failed to initialize NVML: version mismatch' >&2; exit 18",
            "Failed",
        ),
        ("exit 3", "exit code 3"),
        ("kill -9 $$", "exit code -9"),
        ("echo 'No devices were found'", "No devices were found"),
        ("printf '\\377\\376garbage\\000\\n'", "garbage"),
        (prints("<html><body>proxy, error, a, b, c</body></html>\n"), "<html>"),
    ],
)
def test_says_why_no_gpu_could_be_counted(node: Probe, shell: str, trouble: str) -> None:
    found = node(shell)
    assert found.gpus == ()
    assert trouble in found.trouble
    assert "\n" not in found.trouble


def test_a_warning_beside_the_rows_does_no_harm(node: Probe) -> None:
    found = node(prints("WARNING: infoROM is corrupted at gpu 0000:00:1E.0\n" + rows(2)))
    assert (len(found.gpus), found.driver, found.trouble) == (2, "535.161.08", "")


def test_a_hanging_driver_is_left_alone_in_time(node: Probe) -> None:
    started = time.monotonic()
    found = node("exec sleep 30", timeout=0.3)
    assert time.monotonic() - started < 5
    assert (found.gpus, found.trouble) == ((), "no answer within 0.3 s")


def test_a_program_that_cannot_be_run_is_trouble(node: Probe) -> None:
    assert "Permission denied" in node("exit 0", mode=0o644).trouble


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
