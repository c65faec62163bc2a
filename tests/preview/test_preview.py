"""`axr preview` as people run it: what is shown, written and returned; rows are hostile text."""

from __future__ import annotations

import contextlib
import html.parser
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Axr, hidden
from hypothesis import given
from hypothesis import strategies as st

from launcher.dataset.sample import Sample
from launcher.preview.columns import columns
from launcher.preview.facts import PACKED, efficiency, packed, padding
from launcher.preview.page import STYLE
from launcher.preview.rendering import Token, runs, words
from launcher.preview.view import judge
from launcher.recipe import Recipe, from_document
from launcher.source import parse

Row = dict[str, Any]
ROOT = Path(__file__).parents[2]
HOSTILE = "\x1b]0;owned\x07<script>alert(1)</script>\u202egnp.exe [red]x[/red]"
TOKEN = "hf_" + "a" * 34


def recipe(settings: Row) -> Recipe:
    value = {
        "base_model": "my-org/none",
        "micro_batch_size": 1,
        "learning_rate": 5.0e-6,
        "sequence_len": 256,
        **settings,
    }
    return from_document(parse(yaml.safe_dump(value), "my.yaml"))


def dpo(kind: Any = "chat_template.default", **settings: Any) -> Row:
    entry = {"path": "rows.jsonl"} | ({"type": kind} if kind else {})
    return {"rl": "dpo", "datasets": [entry], **settings}


def pair(chosen: str = "Fine.", role: str = "user") -> Row:
    return {
        "messages": [{"role": role, "content": "How was it?"}],
        "chosen": {"role": "assistant", "content": chosen},
        "rejected": {"role": "assistant", "content": "It rained all day."},
    }


def write(folder: Path, rows: list[Row], settings: Row) -> None:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "my.yaml").write_text(yaml.safe_dump(dict(recipe(settings).value)))


def codes(settings: Row, rows: list[Row]) -> list[str]:
    """Return what is found in rows without any rendering."""
    sample = Sample("datasets", 0, tuple(rows), "rows.jsonl", "file")
    return [one.code for one in judge(recipe(settings), [sample], None)]


@pytest.mark.parametrize(
    ("code", "settings", "rows"),
    [
        ("D101", dpo(), [{"messages": [], "chosen": "a"}]),
        ("D101", dpo("chatml"), [{"text": "a", "chosen": "a", "rejected": "b"}]),
        ("D102", dpo(), [pair(), {**pair(), "chosen": "Fine."}]),
        ("D103", dpo("chatml.intel"), [{"question": "a", "chosen": ["a"], "rejected": "b"}]),
        ("D104", dpo(), [pair(role="human")]),
        ("D106", dpo(), [pair("")]),
        ("D107", dpo(None), [{"prompt": "a", "chosen": "b", "rejected": "b"}]),
        ("D108", dpo(None), [{"prompt": "a", "chosen": ["b"], "rejected": "c"}]),
        ("D109", dpo(), [pair(), pair()]),
    ],
)
def test_what_shows_in_the_rows_alone(code: str, settings: Row, rows: list[Row]) -> None:
    assert code in codes(settings, rows)


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        (dpo(), [pair(), pair("Dry.")]),
        (dpo(), [{"messages": "How was it?", "chosen": "Dry.", "rejected": "Wet."}]),
        (dpo("chatml"), [{"instruction": "a", "chosen_response": "b", "rejected_response": "c"}]),
        (dpo("my.own.type"), [{"anything": [1, 2.5, None]}, {"anything": None}]),
        ({"rl": "grpo", "datasets": [{"path": "rows.jsonl", "type": "my.own"}]}, [{"a": "b"}]),
    ],
)
def test_what_is_right_is_left_alone(settings: Row, rows: list[Row]) -> None:
    assert codes(settings, rows) == []


@pytest.mark.parametrize(
    "row",
    [
        {"messages": None, "chosen": [], "rejected": [[]]},
        {"messages": [None, 1, {"role": None}], "chosen": {"content": 1}, "rejected": {}},
        {"messages": {"role": ["a"]}, "chosen": [{"content": ["x"]}], "rejected": 0.5},
        {"": "", "messages": [{}] * 3, "chosen": "\ud800", "rejected": HOSTILE},
    ],
)
@pytest.mark.parametrize(
    "kind", ["chat_template.default", "chat_template.argilla_chat", "chatml", None]
)
def test_no_row_breaks_the_checks(row: Row, kind: str | None) -> None:
    codes(dpo(kind), [row, pair(), {}])


def test_columns_of_every_shipped_table() -> None:
    from launcher.plan.data.columns import PAIRS, SUPERVISED

    for kind in SUPERVISED:
        found = columns(recipe({}), {"type": kind})
        assert found is not None
        assert found.needed
    for kind in PAIRS:
        assert columns(recipe({"rl": "dpo"}), {"type": f"chatml.{kind}"})


def test_padding_and_packing() -> None:
    mine = recipe({"rl": "dpo", "micro_batch_size": 2})
    # Both answers of both pairs are padded to the longest of the four: 40 slots, 28 tokens.
    assert padding(mine, [[10, 8], [6, 4]], 256) == pytest.approx(1 - 28 / 40)
    supervised = recipe({"micro_batch_size": 1})
    assert padding(supervised, [[10], [54]], 256) == pytest.approx(1 - 64 / 128)  # to 64 each
    assert packed([6, 5, 4, 3], 10) == [10, 8]
    assert packed([1] * 5, 10, most=2) == [2, 2, 1]
    assert efficiency(recipe({"sequence_len": 10}), [5, 5, 5, 5, 5]) == 1.0


def test_packing_is_that_of_axolotl() -> None:
    multipack = pytest.importorskip("axolotl.utils.samplers.multipack")
    import random

    import numpy

    lengths = [random.Random(n).randint(2, 500) for n in range(300)]
    bins = multipack.pack_group(numpy.array(lengths), 0, 1024, len(lengths), PACKED, True)
    assert packed(lengths, 1024) == [sum(lengths[place] for place in one) for one in bins]


def test_a_long_text_loses_its_middle_and_a_secret_its_letters() -> None:
    tokens = [Token(f"w{n} ", n > 5, False) for n in range(100)]
    head, hidden_run, tail = (
        runs(tokens, 100, 30)[0],
        runs(tokens, 100, 30)[2],
        runs(tokens, 100, 30)[3],
    )
    assert (head.tokens, hidden_run.tokens, hidden_run.hidden, tail.tokens) == (6, 70, True, 10)
    assert sum(run.tokens for run in runs(tokens, 100, 30)) == 100
    assert runs([Token("the key is ", True, False), Token(TOKEN, True, False)], 2)[0].text == (
        "the key is ***"
    )


def test_what_axolotl_says_of_a_row_hides_its_secrets() -> None:
    assert words(KeyError(TOKEN)) == "KeyError: '***'"


@pytest.fixture
def light(tmp_path: Path) -> dict[str, str]:
    """An environment in which axolotl is not installed."""
    found = hidden(tmp_path / "light", "axolotl")
    return {"PYTHONPATH": os.pathsep.join([found["PYTHONPATH"], str(ROOT)])}


def test_without_axolotl_the_rows_are_shown_as_they_are(
    axr: Axr, tmp_path: Path, light: dict[str, str]
) -> None:
    write(tmp_path, [pair(), pair(HOSTILE), pair("")], dpo())
    done = axr("preview", "my.yaml", "--html", "rows.html", env=light)
    assert done.returncode == 1
    assert "axolotl is not installed here" in done.stderr
    assert 'chosen: {"role": "assistant", "content": "Fine."}' in done.stdout
    assert 'error[D106 empty-answer]: datasets[0]: the answer "chosen" is empty in row 3 of 3' in (
        done.stdout
    )
    assert "next: axr explain D106" in done.stderr
    assert not {"\x1b", "\u202e", "\x07"} & set(done.stdout + done.stderr)
    page = (tmp_path / "rows.html").read_text(encoding="utf-8")
    assert_harmless(page)


def assert_harmless(page: str) -> None:
    """Hold a page against what it may not have: scripts, links, addresses, text out of rows that
    is taken for markup.
    """
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Reader().feed(page)
    assert not {tag for tag, _ in tags} & {"script", "img", "link", "iframe", "a", "form", "object"}
    assert not [a for _, found in tags for a in found if a.startswith("on") or a in ("src", "href")]
    assert "default-src 'none'" in page
    assert "url(" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not {"\x1b", "\u202e", "\x07"} & set(page)


def test_no_file_is_overwritten(axr: Axr, tmp_path: Path, light: dict[str, str]) -> None:
    write(tmp_path, [pair()], dpo())
    (tmp_path / "rows.html").write_text("mine")
    done = axr("preview", "my.yaml", "--html", "rows.html", env=light)
    assert done.returncode == 2
    assert 'error: "rows.html" exists already' in done.stderr
    assert (tmp_path / "rows.html").read_text() == "mine"
    done = axr("preview", "my.yaml", "--html", "none/rows.html", env=light)
    assert (done.returncode, 'cannot write "none/rows.html"' in done.stderr) == (3, True)


def test_half_a_page_is_not_left(axr: Axr, tmp_path: Path, light: dict[str, str]) -> None:
    write(tmp_path, [pair()], dpo())
    with (tmp_path / "light" / "sitecustomize.py").open("a") as stream:
        stream.write("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))")
    done = axr("preview", "my.yaml", "--html", "rows.html", env=light)
    assert (done.returncode, 'cannot write "rows.html"' in done.stderr) == (3, True)
    assert not (tmp_path / "rows.html").exists()
    done = axr("preview", "my.yaml", "--html", "a" * 300, env=light)
    assert (done.returncode, "name too long" in done.stderr) == (3, True)


OFFLINE = {"HF_HUB_OFFLINE": "1"}


def test_rows_that_cannot_be_had(axr: Axr, tmp_path: Path, light: dict[str, str]) -> None:
    settings = dpo()
    settings["datasets"] = [{"path": "my-org/pairs", "type": "chat_template.default"}]
    write(tmp_path, [pair()], settings)
    done = axr("preview", "my.yaml", env={**light, **OFFLINE})
    assert done.returncode == 3
    assert 'note[D118 rows-not-had]: the rows of datasets[0], "my-org/pairs"' in done.stdout
    assert "HF_HUB_OFFLINE is set" in done.stdout
    settings["datasets"].append({"path": "rows.jsonl", "type": "chat_template.default"})
    write(tmp_path, [pair()], settings)
    done = axr("preview", "my.yaml", env={**light, **OFFLINE})
    assert done.returncode == 0
    assert "datasets[1] row 1" in done.stdout


def test_a_file_without_rows(axr: Axr, tmp_path: Path, light: dict[str, str]) -> None:
    write(tmp_path, [], dpo())
    done = axr("preview", "my.yaml", env=light)
    assert done.returncode == 1
    assert 'D118 rows-not-had]: the rows of datasets[0], "rows.jsonl"' in done.stdout
    assert "help: look at the file" in done.stdout


def test_stand_in_rows_are_called_so(axr: Axr, light: dict[str, str]) -> None:
    done = axr("preview", "qwen25-dpo", "--show", "0", env={**light, **OFFLINE})
    assert done.returncode == 0
    assert re.search(r"these are \d+ stand-in rows of the pack: HF_HUB_OFFLINE", done.stderr)
    assert re.search(r"rows +datasets\[0\]: \d+ stand-in rows of the pack for oliver", done.stdout)


def test_json(axr: Axr, tmp_path: Path, light: dict[str, str]) -> None:
    write(tmp_path, [pair(), pair("")], dpo())
    done = axr("preview", "my.yaml", "--json", env=light)
    found = json.loads(done.stdout)
    assert [one["code"] for one in found["problems"]] == ["D106"]
    assert (found["rendered"], found["why"]) == (False, "axolotl is not installed here")
    assert found["facts"]["datasets"]["turns"] == [2, 2]
    assert (found["entries"][0]["read"], found["entries"][0]["origin"]) == (2, "file")


def test_a_broken_recipe_is_not_previewed(axr: Axr, tmp_path: Path) -> None:
    write(tmp_path, [pair()], dpo(learnig_rate=1))
    done = axr("preview", "my.yaml")
    assert done.returncode == 1
    assert "S102" in done.stderr


def test_colours_of_the_page_have_contrast() -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text, in both schemes."""
    light, dark = STYLE.split("prefers-color-scheme")
    pairs = [("text", "ground"), ("masked", "ground"), ("trained", "trained-ground")]
    pairs += [("away", "away-ground"), ("text", "note")]
    for scheme in (light, dark):
        colours = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{6})", scheme))
        for text, ground in pairs:
            one, other = luminance(colours[text]), luminance(colours[ground])
            assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5, text


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.slow
def test_through_axolotl(axr: Axr, tmp_path: Path) -> None:
    pytest.importorskip("axolotl")
    from launcher.standin import tokenizer

    base = tmp_path / "base"
    tokenizer.write(base, recipe({"base_model": "Qwen/Qwen2.5-3B-Instruct"}), ["How was it? Fine."])
    (base / "config.json").write_text('{"model_type": "qwen2"}')
    write(tmp_path, [pair(), pair(HOSTILE), pair(f"It is {TOKEN}, {'so ' * 400}")], dpo(
        base_model="base", chat_template="tokenizer_default", sequence_len=4096))  # fmt: skip
    done = axr("preview", "my.yaml", "--html", "rows.html")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout
    assert ". <|im_start|>user\u23ce\n. How was it?<|im_end|>\u23ce\n" in shown
    assert "chosen\n+ Fine.<|im_end|>\nrejected\n- It rained all day.<|im_end|>\n" in shown
    assert re.search(r"\n  \.\.\. [\d,]+ tokens \.\.\.\n", shown)
    assert re.search(r"\ntokens +median \d+, 95th percentile [\d,]+, longest [\d,]+\n", shown)
    page = (tmp_path / "rows.html").read_text(encoding="utf-8")
    assert_harmless(page)
    assert '<span class="t">Fine.</span><span class="t"><b>&lt;|im_end|&gt;</b></span>' in page
    assert TOKEN not in shown + page


@pytest.mark.parametrize("how", ["plugin", "type"])
def test_code_from_outside_is_not_run_without_leave(axr: Axr, tmp_path: Path, how: str) -> None:
    pytest.importorskip("axolotl")
    (tmp_path / "theirs.py").write_text("raise SystemExit('it ran')")
    settings = dpo(plugins=["theirs.Plugin"]) if how == "plugin" else dpo("theirs.default")
    write(tmp_path, [pair()], settings)
    done = axr("preview", "my.yaml")
    assert "the recipe runs code from outside: read it, then add --trust" in done.stderr
    assert "it ran" not in done.stdout + done.stderr
    assert "datasets[0] row 1" in done.stdout


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser")
def test_the_page_in_a_browser(axr: Axr, tmp_path: Path, light: dict[str, str]) -> None:
    write(tmp_path, [pair(HOSTILE)], dpo())
    axr("preview", "my.yaml", "--html", "rows.html", env=light)
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--dump-dom", f"file://{tmp_path}/rows.html"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "<h1>my: what the model will see</h1>" in done.stdout


class _Hub(http.server.BaseHTTPRequestHandler):
    """A Hub that has one model, or that gives no access to it."""

    files: Path | None = None

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        found = self.files / name if self.files and "/resolve/" in self.path else None
        data = found.read_bytes() if found and found.is_file() else b""
        self.send_response(200 if data else 404 if self.files else 401)
        self.send_header("ETag", f'"{len(data)}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(data)))
        if not data:
            self.send_header("X-Error-Code", "EntryNotFound" if self.files else "GatedRepo")
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        pass


@contextlib.contextmanager
def hub(files: Path | None) -> Iterator[dict[str, str]]:
    """Yield the environment in which a server on this machine is the Hub."""
    handler = type("Hub", (_Hub,), {"files": files})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}"}
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("has_it", [True, False])
def test_the_tokenizer_comes_from_the_hub(axr: Axr, tmp_path: Path, has_it: bool) -> None:
    pytest.importorskip("axolotl")
    from launcher.standin import tokenizer

    base = tmp_path / "theirs"
    tokenizer.write(base, recipe({"base_model": "Qwen/Qwen2.5-3B-Instruct"}), ["How was it? Fine."])
    (base / "config.json").write_text('{"model_type": "qwen2"}')
    write(tmp_path, [pair(), pair("Dry.")], dpo(base_model="my-org/qwen", chat_template="chatml"))
    with hub(base if has_it else None) as environ:
        done = axr("preview", "my.yaml", env={**environ, "HF_HOME": str(tmp_path / "hub")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "+ Fine.<|im_end|>" in done.stdout
    assert ("lengths are estimates" in done.stderr) is not has_it
    if not has_it:
        assert 'the Hub gives no access to "my-org/qwen" (HTTP 401)' in done.stderr


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.sampled_from(["messages", "prompt", "chosen", "rejected", "instruction", "output"])


@given(st.lists(st.dictionaries(names, values, max_size=5), min_size=1, max_size=4))
def test_no_rows_break_the_checks(rows: list[Row]) -> None:
    for kind in ("chat_template.default", "chat_template.argilla_chat", "chatml", None, {}):
        codes(dpo(kind), rows)
    for kind in ("alpaca", "chat_template", "completion", {"field_instruction": "prompt"}):
        codes({"datasets": [{"path": "rows.jsonl", "type": kind}]}, rows)
