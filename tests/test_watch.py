"""How a run goes, read from its folder: bars of real libraries, speed, and whatever a folder may
hold.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, Group

from launcher import runs
from launcher.cli import run_panel
from launcher.runs.folder import RunFolder
from launcher.watch import bars, glance, lines, records
from launcher.watch.bars import Bar, bar
from launcher.watch.follow import Follower
from launcher.watch.gpus import Use, uses
from launcher.watch.records import Evaluation, Record
from launcher.watch.seen import Plan, Seen, plan

# Recorded from the pinned huggingface_hub, datasets and transformers, into a pipe.
LOGS = Path(__file__).parent / "data" / "logs"
PRICE = "runpod-community, 1.19 USD per GPU-hour, 2026-11-09"
NOW = 1_790_000_000.0


# --- bars ---


def pieces(name: str) -> list[str]:
    text = (LOGS / name).read_bytes().decode()
    return [piece for piece in re.split(r"[\r\n]", text) if piece.strip()]


def test_a_download_tells_its_bytes_and_speed() -> None:
    shown = [bars.going_on([found]) for piece in pieces("download.log") if (found := bar(piece))]
    assert (
        Bar("Downloading (incomplete total...)", 115e6, 315e6, pytest.approx(23.1e6), True) in shown
    )
    assert Bar("Fetching 7 files", 1, 7, pytest.approx(1 / 10.83), False) in shown


def test_of_two_bars_the_download_is_shown_not_the_count_of_its_files() -> None:
    now, seen = None, []
    for piece in pieces("download.log"):
        now = bars.going_on([found], now) if (found := bar(piece)) else now
        seen.append(now)
    names = [one.name.split()[0] for one in seen if one]
    both = ["Fetching", "Downloading"]  # the first 193 bytes were all, for a moment
    assert [name for name, _ in groupby(names)] == [*both, *both, "Fetching"]
    assert seen[-1] is None


def test_tokenising_and_loading_are_told_by_name_and_the_trainers_own_bar_is_not() -> None:
    found = [one for piece in pieces("training.log") if (one := bar(piece))]
    names = {one.name for one in found}
    assert {"Mapping RL Dataset", "Tokenizing train dataset", "Loading weights", ""} <= names
    assert Bar("Tokenizing train dataset", 236, 360, 710.7, False) in found
    assert bars.going_on([one for one in found if not one.name]) is None


@pytest.mark.parametrize(
    ("text", "name", "done", "total", "speed"),
    [
        (
            "(…)/me/tiny/resolve/main/model.safetensors:   9%|▉ | 1.5G/16.1G [00:09<1:00, 240MB/s]",
            "model.safetensors",
            1.5e9,
            16.1e9,
            240e6,
        ),
        ("Map (num_proc=8):   0%|          | 0/95 [00:00<?, ? examples/s]", "Map", 0, 95, None),
        (
            "Loading weights:  50%|#####     | 1/2 [00:08<00:08,  4.00s/it]",
            "Loading weights",
            1,
            2,
            0.25,
        ),
        ("\x1b[Ax: 100%|███| 2/2 [1:00:00<00:00, 1.0it/s]Warning: no", "x", 2, 2, 1.0),
    ],
)
def test_a_bar_is_read(
    text: str, name: str, done: float, total: float, speed: float | None
) -> None:
    found = bar(text)
    assert found is not None
    assert (found.name, found.done, found.speed) == (name, done, speed)
    assert found.total == pytest.approx(total)


@pytest.mark.parametrize(
    "text",
    ["", "50%", "50%|", "a: 50%|##|", "loss 3/4 [x]", "%|" * 300, "9" * 1000, "1.2.3%|a| 1/2 [0"],
)
def test_what_is_no_bar_is_none(text: str) -> None:
    assert bar(text) is None


# --- records ---


def step(number: int, time: float, **more: Any) -> str:
    return json.dumps({"step": number, "time": time, "loss": 1.0, **more})


def read(*texts: str) -> list[Record]:
    return [one for text in texts if isinstance(one := records.record(text), Record)]


def test_speed_is_the_usual_step_and_the_time_left_counts_evaluations() -> None:
    """Steps of 2 s, and an evaluation of 50 s after every tenth."""
    texts, clock = [], 0.0
    for number in range(1, 31):
        clock += 2.0 + (50.0 if number % 10 == 1 else 0.0)
        texts.append(step(number, clock))
    found = records.pace(read(*texts), 1)
    assert found.now == pytest.approx(2.0)
    assert found.mean == pytest.approx((clock - 54.0) / 28)
    left = records.left(read(*texts), found, step=30, steps=100, now=clock)
    assert left == pytest.approx(70 * (clock - 54.0) / 28)
    stalled = records.left(read(*texts), found, step=30, steps=100, now=clock + 1e6)
    assert stalled == pytest.approx(70 * 2.0)


def test_tokens_are_those_of_all_gpus() -> None:
    rated = [step(n, n, **{"tokens/train_per_sec_per_gpu": 100.0}) for n in range(1, 5)]
    counted = [step(n, 2 * n, num_tokens=1000 * n) for n in range(1, 5)]
    assert records.pace(read(*rated), 8).tokens == pytest.approx(800)
    assert records.pace(read(*counted), 8).tokens == pytest.approx(500)


def test_a_step_that_was_trained_again_counts_once() -> None:
    first = read(*(step(n, n, loss=1.0) for n in range(1, 9)))
    again = read(*(step(n, 100 + n, loss=0.5) for n in range(6, 11)))
    both = records.joined(first, again)
    assert [one.step for one in both] == [*range(1, 11)]
    assert [one.loss for one in both[-5:]] == [0.5] * 5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "3",
        "null",
        "[]",
        '{"step": "x", "loss": 1, "time": 1}',
        '{"step": 12, "loss": 1}',
        '{"step": true, "loss": 1, "time": 1}',
        '{"step": 1e999, "loss": 1, "time": 1}',
        '{"step": ' + "9" * 400 + ', "loss": 1, "time": 1}',
        "[" * 100_000,
        '{"train_runtime": 5.0}',
    ],
)
def test_a_record_that_is_none_is_passed_over(text: str) -> None:
    assert records.record(text) is None


def test_a_loss_that_is_not_finite_is_told() -> None:
    found = records.record('{"step": 3, "time": 1, "loss": null, "nonfinite": ["loss"]}')
    assert isinstance(found, Record)
    assert math.isnan(found.loss)
    assert "loss=nan" in lines.line(Seen("r", loss=found.loss), (), NOW)


# --- a folder ---


def folder(root: Path, **status: Any) -> RunFolder:
    made = RunFolder(root)
    root.mkdir(parents=True)
    started = "2026-09-21T14:13:20+00:00"  # NOW
    made.status.write_text(json.dumps({"state": "done", "started": started, **status}))
    return made


def test_all_that_is_known_is_seen(tmp_path: Path) -> None:
    run = folder(tmp_path / "r", state="running", processes=2, pid=7)
    made = {
        "hours": {"low": 0.4, "likely": 0.5, "high": 0.8},
        "peak_gib": 54.0,
        "card_gib": 79.2,
        "steps": 90,
        "usd_an_hour": 9.52,
        "price": PRICE,
    }
    run.plan.write_text(json.dumps(made))
    said = {"phase": "evaluate", "step": 20, "max_steps": 100, "done": 3, "of": 9}
    run.progress.write_text(json.dumps({**said, "time": NOW + 90}))
    more = {"rewards/margins": 0.5, "rewards/accuracies": 0.75, "peak_allocated_gib": 61.2}
    texts = [step(n, NOW + 2 * n, **more) for n in range(1, 21)]
    texts += [json.dumps({"step": 20, "time": NOW + 50, "eval_loss": 0.4})]
    run.metrics.write_text("\n".join(texts) + '\n{"step": 21, "lo')
    run.log.write_text("one\rtwo\n 20%|##  | 20/100 [00:40<02:40,  2.00s/it]\n")
    with runs.held(run):
        seen = Follower(run).read(NOW + 100)
    assert (seen.state, seen.phase, seen.step, seen.steps) == ("running", "evaluate", 20, 100)
    assert (seen.batches, seen.eval_loss, seen.evaluations) == ((3, 9), 0.4, 1)
    assert (seen.margin, seen.accuracy, seen.peak_gib) == (0.5, 0.75, 61.2)
    assert (seen.last, seen.pid, seen.seconds) == ("two", 7, 100)
    assert seen.plan == Plan(0.5, 54.0, 79.2, 90, 9.52, PRICE)
    assert seen.usd == pytest.approx(100 / 3600 * 9.52)
    assert seen.eta == pytest.approx(160)
    assert seen.usd_forecast == pytest.approx(260 / 3600 * 9.52)


def test_only_what_is_new_is_read_and_a_half_line_is_waited_for(tmp_path: Path) -> None:
    run = folder(tmp_path / "r")
    follower = Follower(run)
    assert follower.read(NOW).step == 0
    line = step(1, NOW)
    run.metrics.write_text(line[:10])
    assert follower.read(NOW).step == 0
    run.metrics.write_text(line + "\n")
    assert follower.read(NOW).step == 1
    with run.metrics.open("a") as more:
        more.write(step(2, NOW + 1) + "\n")
    assert follower.read(NOW).losses == (1.0, 1.0)
    run.metrics.write_text(step(1, NOW, loss=3.0) + "\n")  # begun anew
    assert follower.read(NOW).losses[-1] == 3.0


def test_a_resumed_run_is_not_measured_across_the_break(tmp_path: Path) -> None:
    run = folder(tmp_path / "r", state="running")
    before = [step(n, NOW - 9000 + n) for n in range(1, 11)]
    after = [step(n, NOW + 3 * n) for n in range(11, 31)]
    run.metrics.write_text("\n".join([*before, *after]) + "\n")
    run.progress.write_text(json.dumps({"phase": "save", "step": 99, "time": NOW - 8000}))
    with runs.held(run):
        seen = Follower(run).read(NOW + 91)
    assert seen.seconds_a_step == pytest.approx(3.0)
    assert len(seen.losses) == 30
    assert (seen.phase, seen.step) == ("start", 30)  # what is in progress.json is from before


def test_a_run_costs_what_all_its_starts_cost(tmp_path: Path) -> None:
    started = {"started": "2026-09-21T14:13:20+00:00"}  # NOW
    all_starts = [{"minutes": 30.0, "ended": "x"}, {"minutes": 15.0}, started]
    run = folder(tmp_path / "r", state="running", starts=all_starts)
    run.plan.write_text('{"usd_an_hour": 4.0, "hours": {"likely": 1}}')
    with runs.held(run):
        seen = Follower(run).read(NOW + 900)
        [listed] = glance.all_below(tmp_path, NOW + 900)
    assert (seen.seconds, seen.usd, seen.usd_forecast) == (900, 4.0, None)
    assert (listed.seconds, listed.usd) == (3600, 4.0)


def test_what_a_run_cost_in_the_end_counts_its_last_start_once(tmp_path: Path) -> None:
    ended = {"ended": "2026-09-21T14:28:20+00:00", "minutes": 45.0}  # NOW + 900
    all_starts = [{"minutes": 30.0, "ended": "x"}, {"minutes": 15.0, "ended": "x"}]
    run = folder(tmp_path / "r", created="2026-09-21T13:13:20+00:00", starts=all_starts, **ended)
    run.plan.write_text('{"usd_an_hour": 4.0, "hours": {"likely": 1}}')
    seen = Follower(run).read(NOW + 7200)
    [listed] = glance.all_below(tmp_path, NOW + 7200)
    assert (seen.usd, seen.usd_forecast) == (3.0, None)
    assert (listed.seconds, listed.usd, listed.age) == (2700, 3.0, 10800)


def test_a_run_that_ended_forecasts_nothing() -> None:
    run = Seen("r", state="running", seconds=3600, plan=Plan(hours=2.0, usd_an_hour=1.0))
    assert (run.usd, run.usd_forecast) == (1.0, 2.0)
    assert replace(run, state="failed").usd_forecast is None


def test_a_bar_that_never_ended_is_not_that_of_a_run_that_has(tmp_path: Path) -> None:
    run = folder(tmp_path / "r", state="running")
    run.log.write_text("Loading weights:  50%|##  | 1/2 [00:08<00:08,  4.00s/it]\n")
    with runs.held(run):
        assert Follower(run).read(NOW).bar
    assert Follower(run).read(NOW).bar is None


def test_a_clock_that_was_set_back_costs_nothing(tmp_path: Path) -> None:
    run = folder(tmp_path / "r", state="running")
    with runs.held(run):
        assert Follower(run).read(NOW - 100).seconds == 0


def test_a_lost_run_took_until_its_last_sign(tmp_path: Path) -> None:
    run = folder(tmp_path / "r", state="running", ended="2026-01-01T00:00:00+00:00", minutes=3)
    run.log.write_text("x\n")
    os.utime(run.log, (NOW + 60, NOW + 60))
    assert Follower(run).read(NOW + 9000).seconds == 60
    assert glance.all_below(tmp_path, NOW + 9000)[0].seconds == 60


def test_what_was_in_the_log_before_the_start_is_not_shown(tmp_path: Path) -> None:
    run = folder(tmp_path / "r")
    run.log.write_text("before\n")
    follower = Follower(run, from_its_end=True)
    assert follower.read(NOW).last == ""
    with run.log.open("a") as more:
        more.write("after\n")
    assert follower.read(NOW).last == "after"
    new = Follower(RunFolder(tmp_path / "s"), from_its_end=True)
    assert new.read(NOW).last == ""
    folder(tmp_path / "s").log.write_text("first\n")
    assert new.read(NOW).last == "first"


def test_a_run_that_nobody_holds_is_lost(tmp_path: Path) -> None:
    run = folder(tmp_path / "r", state="running")
    with runs.held(run):
        assert Follower(run).read(NOW).state == "running"
    seen = Follower(run).read(NOW)
    assert (seen.state, seen.ended) == ("lost", True)


GARBAGE = [b"", b"{", b"null", b"[]", b"3", b'"x"', b"\xff\xfe", b"{}", b"[" * 9999, b"\x00" * 99]
GARBAGE += [
    b'{"state": 3, "started": 3, "minutes": "x", "processes": [], "pid": {}}',
    b'{"state": "a\\nb"}',
    b'{"state": "\\u001b[2Jx", "started": "0001-01-01", "minutes": 1e300, "ended": null}',
    b'{"phase": "\\n", "step": -1, "max_steps": 0, "done": -3, "of": 0, "time": "x"}',
    b'{"phase": 7, "step": 1e30, "max_steps": true, "time": 1e30, "began": []}',
    b'{"hours": 3, "peak_gib": "x", "usd_an_hour": -1, "price": ["x"], "steps": 0}',
    b'{"started": "2026-09-21", "starts": [3, {"minutes": ' + b"9" * 400 + b"}, {}]}",
    b'{"hours": {"likely": NaN}, "card_gib": Infinity, "steps": 1.5}',
]


@pytest.mark.parametrize("seed", range(60))
def test_garbage_never_ends_the_looking(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    run = RunFolder(tmp_path)
    for path in (run.status, run.progress, run.plan, run.metrics, run.log):
        if kind := dice.randrange(4):
            path.write_bytes(dice.choice(GARBAGE) if kind > 1 else dice.randbytes(300))
    follower = Follower(run)
    for _ in range(2):
        seen = follower.read(NOW)
        text = "\n".join(line.plain for line in run_panel.panel(seen, (Use(),), NOW, 60))
        assert not set(map(ord, text)) & {*range(10), *range(11, 32), 127}
        assert "\n" not in lines.line(seen, (Use(),), NOW)
        run.metrics.write_bytes(dice.choice(GARBAGE))


@pytest.mark.parametrize("name", ["status", "progress", "plan", "metrics", "log", "lock"])
def test_a_folder_in_the_place_of_a_file_is_passed_over(tmp_path: Path, name: str) -> None:
    run = folder(tmp_path / "r")
    run.status.unlink()
    path: Path = getattr(run, name)
    path.mkdir()
    assert Follower(run).read(NOW).step == 0


# --- lines ---

TRAINING = Seen(
    "qwen25-dpo-20261123-120310-kqzt",
    state="running",
    phase="train",
    step=120,
    steps=1000,
    loss=0.5324,
    margin=0.41,
    accuracy=0.72,
    losses=tuple(1 - n / 200 for n in range(120)),
    margins=tuple(n / 300 for n in range(120)),
    seconds_a_step=1.9,
    tokens_per_second=8123.4,
    peak_gib=61.2,
    eta=1620,
    seconds=386,
    plan=Plan(0.5, 54.0, 79.2, 1000, 9.52, PRICE),
    last="\x1b[2J[2026-11-23 05:19:41,498] [INFO] [axolotl.train] Starting trainer...",
)


def test_a_line_is_made_for_grep() -> None:
    text = lines.line(TRAINING, [Use(97, 61.0, 79.2), Use(91, 60.0, 79.2)], NOW)
    assert re.fullmatch(r"axr \d\d:\d\d:\d\d( [a-z_]+=[^ =]+)+", text)
    assert text.split(" ", 2)[2] == (
        "phase=train step=120/1000 loss=0.5324 margin=0.41 accuracy=0.72 s_per_step=1.9 "
        "tokens_per_s=8123 peak_gib=61.2 gpu_percent=91 eta=27m usd=1.02"
    )
    loading = Seen("r", phase="download", bar=Bar("x y", 1.2e9, 15e9, 2.4e8, True))
    assert lines.line(loading, (), NOW).endswith(" phase=download what=x_y gb=1.2/15 mb_per_s=240")
    over = Seen("r", state="over budget", phase="save", step=3)
    assert lines.line(over, (), NOW).endswith(" state=over_budget phase=save step=3")


def test_a_line_comes_at_each_event_and_each_interval() -> None:
    rhythm, told = lines.Rhythm(), []
    moments = [
        (0, Seen("r")),
        (1, Seen("r")),
        (2, Seen("r", phase="train")),
        (3, Seen("r", phase="train", step=1)),
        (4, Seen("r", phase="train", step=2)),
        (32, Seen("r", phase="train", step=9)),
        (33.5, Seen("r", phase="train", step=9)),
        (34, Seen("r", phase="train", step=9, evaluations=1)),
        (35, Seen("r", phase="train", step=9, evaluations=1, state="done")),
        (36, Seen("r", phase="train", step=9, evaluations=1, state="done")),
    ]
    for now, seen in moments:
        if rhythm.due(seen, now):
            told.append(now)
    assert told == [0, 2, 3, 33.5, 34, 35]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (1620, "27m"), (3900, "1h05m"), (7199, "2h00m"), (180_000, "2d02h")],
)
def test_spans_are_short(seconds: float, text: str) -> None:
    assert lines.span(seconds) == text


# --- the panel ---


def drawn(seen: Seen, width: int, *gpus: Use, blocks: str = run_panel.BLOCKS) -> list[str]:
    rows = run_panel.panel(seen, gpus, NOW, width, blocks=blocks)
    console = Console(width=width, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(Group(*rows))
    return capture.get().splitlines()


def test_the_panel_shows_all_of_it() -> None:
    text = drawn(TRAINING, 100, Use(97, 61.0, 79.2), Use(91, 60.0, 79.2))
    assert text == [
        "run       running 6 min  qwen25-dpo-20261123-120310-kqzt",
        "train     ██▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁  12%  step 120 of 1,000, 27 min left",
        "loss      0.5324  ██▇▇▇▆▆▅▅▅▄▄▄▃▃▂▂▂▁▁",
        "margin    0.41    ▁▁▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇██  accuracy 72%",
        "speed     1.9 s a step, 8,123 tokens/s",
        "memory    61.2 GiB allocated at the peak, 54.0 planned, 79.2 there",
        "GPU       97% 91%  61.0 60.0 GiB",
        f"cost      1.02 USD, 5.30 at the end  ({PRICE})",
        r"log       \u001b[2J[2026-11-23 05:19:41,498] [INFO] [axolotl.train] Starting trainer...",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 300])
def test_no_line_is_wider_than_the_terminal_and_there_are_few(width: int) -> None:
    many = [Use(n, n / 2, 79.2) for n in range(16)]
    text = drawn(TRAINING, width, *many)
    assert len(text) <= 14
    assert max(map(len, text)) <= min(width, run_panel.WIDEST)
    assert len(text) == len(run_panel.panel(TRAINING, many, NOW, width))  # none is wrapped


def test_where_only_ascii_shows_the_panel_is_ascii() -> None:
    text = "\n".join(drawn(TRAINING, 60, blocks=run_panel.PLAIN_BLOCKS))
    assert text.isascii()
    assert "train     @___________" in text


def test_a_run_that_says_nothing_is_told() -> None:
    quiet = Seen("r", state="running", sign=NOW - 300)
    assert drawn(quiet, 60)[-1].strip() == "nothing heard for 5 min"
    assert "nothing heard" not in drawn(replace(quiet, sign=NOW - 30), 60)[-1]


@pytest.mark.parametrize(("planned", "style"), [(54.0, "yellow"), (70.0, "")])
def test_more_memory_than_was_planned_stands_out(planned: float, style: str) -> None:
    seen = replace(TRAINING, plan=Plan(peak_gib=planned))
    rows = run_panel.panel(seen, (), NOW, 80)
    (memory,) = [row for row in rows if row.plain.startswith("memory")]
    assert [str(span.style) for span in memory.spans if span.start] == ([style] if style else [])


def test_at_the_last_step_no_time_is_left() -> None:
    last = replace(TRAINING, step=1000, eta=3.0)
    assert drawn(last, 100)[1].endswith("100%  step 1,000 of 1,000")


def test_curves_are_means_and_know_no_nan() -> None:
    assert run_panel.sparkline([1, 2], 9) == "▁█"
    assert run_panel.sparkline([0, 0, 9, 9, math.nan, math.inf], 2) == "▁█"
    assert run_panel.sparkline([5, 5, 5], 3) == "▄▄▄"
    assert run_panel.sparkline([], 3) == run_panel.sparkline([1], 3) == ""


def test_only_the_runs_own_gpus_are_shown() -> None:
    said = [{"uuid": "a", "percent": 5, "used_gib": 1.0}, {"uuid": "b"}, 3]
    text = json.dumps(said).encode()
    assert uses(text, {"a"}) == (Use(5, 1.0),)
    assert uses(text) == (Use(5, 1.0), Use())
    assert uses(b"\xff") == uses(b"3") == ()


def test_a_plan_that_is_none_is_empty() -> None:
    assert plan({}) == plan({"hours": "x", "steps": None, "price": 3}) == Plan()
    assert Evaluation(3, 0.5) == records.record('{"step": 3, "time": 1, "eval_loss": 0.5}')
