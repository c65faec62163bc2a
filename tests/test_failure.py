"""Of several ranks the one that failed first tells the cause. The log is that of two real ranks
under accelerate (torch 2.13): rank 1 raised, and rank 0 for its absence.
"""

from __future__ import annotations

from pathlib import Path

from launcher.supervise import failure
from launcher.supervise.failure import Tail

LOG = (Path(__file__).parent / "data" / "two-ranks-failed.log").read_text(encoding="utf-8")


def test_the_rank_that_failed_first_is_found_and_heard_alone() -> None:
    found = failure.of(LOG.splitlines(), 1)
    assert found.rank == 1
    assert found.told is not None
    assert found.told.cause.name == "hub-hiccup"  # not rank-lost, as rank 0 says
    assert found.told.line == "[rank1]: ConnectionError: the hub is away"
    text = "\n".join(found.lines)
    assert "[rank1]: Traceback" in text
    assert "local_rank: 1 (pid: 18760) of binary" in text
    for others in ("[rank0]", "PID:18759", "ChildFailedError", "Sending process"):
        assert others not in text


def test_a_hundred_lines_are_kept_and_one_process_needs_no_rank() -> None:
    lines = [f"line {number}" for number in range(300)]
    found = failure.of([*lines, "OSError: [Errno 28] No space left on device"], 1)
    assert (len(found.lines), found.rank) == (100, None)
    assert found.told is not None
    assert found.told.cause.name == "disk-full"


def test_a_root_cause_cut_short_is_none() -> None:
    cut = LOG[: LOG.index("rank      : 1")]
    assert failure.of(cut.splitlines(), 1).rank is None
    assert failure.of([], 1).lines == []


def test_of_a_progress_bar_the_last_state_is_kept() -> None:
    tail = Tail()
    for text in (
        "one\n",
        "\r",
        *(f"{n}%\r" for n in range(10_000)),
        "\n",
        "windows\r",
        "\n",
        "end",
    ):
        tail.add(text)
    assert tail.lines() == ["one", "9999%", "windows", "end"]


def test_a_line_without_an_end_takes_no_memory() -> None:
    tail = Tail()
    tail.add("x" * 10_000_000)
    assert len(tail.lines()[0]) < 10_000
