"""What is printed is safe: a recipe cannot speak to the terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
from conftest import Axr

from launcher.cli import console
from launcher.diagnostics import LauncherError

TITLE = r"\e]0;pwn\a\e[2J\e[31mred\x9b1m \u202egnp.exe"
RECIPE = f"""\
x-recipe:
  title: "{TITLE}"
  method: sft
  needs: {{gpu: a100-80gb, gpus: 1, disk: 1}}
base_model: Qwen/Qwen2.5-0.5B
datasets:
  - path: rows.jsonl
    type: alpaca
micro_batch_size: 1
learning_rate: 1.0e-5
sequence_len: 512
"""
HOSTILE = re.compile("\x1b(?!\\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202e]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 漢字 é\u3000\u00a0", "plain, 漢字 é\u3000\u00a0"),
        ("a\nb\tc\r\nd", "a\nb\tc\r\nd"),
        ("👩\u200d💻", "👩\u200d💻"),
        ("over\rwritten", "over\\u000dwritten"),
        ("\x1b[31m\x07\x9b\x7f", "\\u001b[31m\\u0007\\u009b\\u007f"),
        ("\u202e\ufeff\udcff", "\\u202e\\ufeff\\udcff"),
        ("\U000e0041", "\\udb40\\udc41"),
    ],
)
def test_plain_shows_what_does_not_print_by_its_number(text: str, shown: str) -> None:
    assert console.plain(text) == shown


def test_json_stays_the_same_json() -> None:
    value = "\x7f\x9f\u202e\U000e0041é"
    assert json.loads(console.plain(json.dumps(value, ensure_ascii=False))) == value


def test_our_own_colours_pass_and_a_styled_text_holds_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "colour", lambda: True)
    console.show(click.style("a", fg="red") + "\x1b[2J")
    assert capsys.readouterr().out == "\x1b[31ma\x1b[0m\\u001b[2J\n"
    console.show("\x1b[8mhidden", bold=True)
    assert capsys.readouterr().out == "\x1b[1m\\u001b[8mhidden\x1b[0m\n"
    console.say("\x1b[8mhidden", bold=True)
    console.show_error(LauncherError("no \x1b[8mmodel", "hint \x1b]0;a\x07"))
    console.next_commands("axr train '\x1b[8m'")
    console.show_diff("a", "x: 1", "x: '\x1b[8m'")
    out, said = capsys.readouterr()
    assert "\x1b[8m" not in out + said
    assert not HOSTILE.search(out + said)


@pytest.mark.parametrize(
    "words",
    [
        "show my.yaml",
        "plan my.yaml --gpu a100-80gb",
        "plan my.yaml --gpu a100-80gb --json",
        "train my.yaml --dry-run",
        "validate my.yaml",
        "validate my.yaml optimzer.yaml --format sarif",
        "validate my.yaml optimzer.yaml --format json",
        "validate optimzer.yaml --diff",
    ],
)
def test_a_recipe_does_not_speak_to_the_terminal(axr: Axr, tmp_path: Path, words: str) -> None:
    (tmp_path / "my.yaml").write_text(RECIPE)
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "input": "", "output": "b"}\n' * 9)
    (tmp_path / "optimzer.yaml").write_text(f"{RECIPE}optimzer: adamw_torch # \u202e\n")
    done = axr(*words.split(), env={"FORCE_COLOR": "1"})
    assert done.stdout or done.stderr
    said = done.stderr if "--dry-run" in words else done.stdout + done.stderr
    assert not HOSTILE.search(said), done
    if "json" in words:
        for line in done.stdout.splitlines():
            json.loads(line)
