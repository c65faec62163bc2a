"""Problems as data: their order, and that every form shows every problem whole and harmless."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.diagnostics import (
    BREAK,
    FORMATS,
    Code,
    Diagnostic,
    Related,
    Severity,
    Span,
    delete,
    has_errors,
    in_order,
    render_concise,
    render_github,
    render_json,
    render_text,
    summary,
)

ERROR = Code("S102", "unknown-key", Severity.ERROR, "why")
WARNING = Code("R102", "remote-code", Severity.WARNING, "why")
NOTE = Code("R900", "remark", Severity.NOTE, "why")

SPANS = st.builds(Span, st.just("f.yaml"), *[st.integers(1, 9)] * 3)
PROBLEMS = st.builds(
    Diagnostic,
    st.just("S102"),
    st.just("unknown-key"),
    st.sampled_from(Severity),
    st.text(),
    SPANS,
    st.text(),
    st.lists(st.builds(Related, st.text(), SPANS), max_size=2).map(tuple),
)


def marked(text: str, span: Span) -> tuple[str, str]:
    """The excerpt's line and its marker, both without the margin."""
    shown, marker = render_text(ERROR.at(span, "m"), {"f.yaml": text}).split("\n")[2:4]
    assert shown[6] == marker[6] == "|"
    return shown[8:], marker[8:]


def columns(text: str) -> int:
    """How wide a terminal shows a text."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


# --- order and counts ---


def test_order_is_that_of_the_text() -> None:
    places = [Span("b", 1), Span("a", 10), Span("a", 2, 5), Span("a", 2, 1)]
    problems = [ERROR.at(span, "m") for span in places]
    problems.append(WARNING.at(Span("a", 2, 1), "m"))
    assert [(p.span.file, p.span.line, p.span.column, p.code) for p in in_order(problems)] == [
        ("a", 2, 1, "R102"),
        ("a", 2, 1, "S102"),
        ("a", 2, 5, "S102"),
        ("a", 10, 1, "S102"),
        ("b", 1, 1, "S102"),
    ]


def test_only_errors_are_errors() -> None:
    assert has_errors([NOTE.at(Span("f"), "m"), ERROR.at(Span("f"), "m")])
    assert not has_errors([NOTE.at(Span("f"), "m"), WARNING.at(Span("f"), "m")])


@pytest.mark.parametrize(
    ("codes", "files", "text"),
    [
        ([], 1, "no problems in 1 recipe"),
        ([], 9, "no problems in 9 recipes"),
        ([ERROR], 1, "1 error in 1 recipe"),
        ([NOTE, WARNING, ERROR, WARNING], 3, "1 error, 2 warnings, 1 note in 3 recipes"),
    ],
)
def test_summary(codes: list[Code], files: int, text: str) -> None:
    assert summary((code.at(Span("f"), "m") for code in codes), files) == text


# --- forms ---


def test_text() -> None:
    problem = ERROR.at(
        Span("my.yaml", 2, 1, 8),
        'unknown key "lora_rr"',
        'did you mean "lora_r"?\nor nothing',
        (Related("first given here", Span("my.yaml", 1, 1, 5)),),
    )
    assert render_text(problem, {"my.yaml": "seed: 1\r\nlora_rr: 16\r\n"}).split("\n") == [
        'error[S102 unknown-key]: unknown key "lora_rr"',
        "  --> my.yaml:2:1",
        "    2 | lora_rr: 16",
        "      | ^~~~~~~",
        "  note: first given here: my.yaml:1:1",
        "    1 | seed: 1",
        "      | ^~~~",
        '  help: did you mean "lora_r"?',
        "        or nothing",
    ]


def test_text_without_the_file() -> None:
    assert render_text(WARNING.at(Span("gone.yaml", 3), "m"), {}).split("\n") == [
        "warning[R102 remote-code]: m",
        "  --> gone.yaml:3:1",
    ]


def test_concise() -> None:
    problem = ERROR.at(Span("my.yaml", 2, 3, 8), "fact", "this\nor that")
    assert render_concise(problem, {}) == (
        "my.yaml:2:3: error[S102 unknown-key] fact (this; or that)"
    )
    assert render_concise(NOTE.at(Span("f"), "fact"), {}) == "f:1:1: note[R900 remark] fact"


def test_json() -> None:
    related = (Related("first", Span("f", 1, 2)),)
    problem = ERROR.at(Span("f", 2, 3, 8), 'a "fact"\n日本', "hint", related)
    text = render_json(problem, {})
    assert "\n" not in text
    assert "日本" in text
    assert json.loads(text) == {
        "code": "S102",
        "name": "unknown-key",
        "severity": "error",
        "file": "f",
        "line": 2,
        "column": 3,
        "end_column": 8,
        "message": 'a "fact"\n日本',
        "hint": "hint",
        "related": [{"message": "first", "file": "f", "line": 1, "column": 2}],
        "fix": None,
    }
    fixes = {safe: replace(problem, fix=delete(problem.span, safe=safe)) for safe in (True, False)}
    assert json.loads(render_json(fixes[True], {}))["fix"] == "safe"
    assert json.loads(render_json(fixes[False], {}))["fix"] == "unsafe"


def test_github() -> None:
    problem = ERROR.at(Span("a,b:c%.yaml", 2, 3, 8), "50% of, it: this", "one\ntwo")
    assert render_github(problem, {}) == (
        "::error file=a%2Cb%3Ac%25.yaml,line=2,col=3,endColumn=8,title=S102 unknown-key"
        "::50%25 of, it: this%0Ahelp: one%0A      two"
    )
    assert render_github(NOTE.at(Span("f"), "m"), {}).startswith("::notice file=f,line=1,")
    assert render_github(WARNING.at(Span("f"), "m"), {}).endswith("::m")


@given(PROBLEMS, st.text() | st.text("ab\t\n\r\u2028é日").map(lambda text: text * 20))
def test_every_form_shows_every_problem(problem: Diagnostic, text: str) -> None:
    shown = {name: render(problem, {"f.yaml": text}) for name, render in FORMATS.items()}
    lines = shown["text"].split("\n")
    assert lines[0].startswith(f"{problem.severity.value}[S102 unknown-key]: ")
    for form in ("text", "concise", "github"):
        assert all(line.isprintable() for line in shown[form].split("\n"))
    assert len(shown["concise"].split("\n")) == len(shown["github"].split("\n")) == 1
    assert shown["github"].count("::") >= 2
    parsed = json.loads(shown["json"])
    assert parsed["line"] == problem.span.line
    assert len(parsed["related"]) == len(problem.related)


def test_what_a_terminal_would_obey_is_shown() -> None:
    problem = ERROR.at(Span("f\x1b[2J", 1, 1, 2), "a\nerror[S1]: b\x07", "c\x9bd\u202ee")
    text = render_text(problem, {"f\x1b[2J": "\x1b[31mkey\x00: 1"})
    assert text.split("\n") == [
        r"error[S102 unknown-key]: a\nerror[S1]: b\x07",
        r"  --> f\x1b[2J:1:1",
        "    1 | \ufffd[31mkey\ufffd: 1",
        "      | ^",
        r"  help: c\x9bd\u202ee",
    ]
    assert render_concise(problem, {}).isprintable()


# --- the excerpt ---


@pytest.mark.parametrize(
    ("text", "span", "line", "marker"),
    [
        ("key: value", Span("f.yaml", 1, 6, 11), "key: value", "     ^~~~~"),
        ("key:", Span("f.yaml", 1, 5, 6), "key:", "    ^"),
        ("\tkey: v", Span("f.yaml", 1, 2, 5), " key: v", " ^~~"),
        ("a\tb", Span("f.yaml", 1, 1, 4), "a b", "^~~"),
        ("日本: 値", Span("f.yaml", 1, 5, 6), "日本: 値", "      ^~"),
        ("日本: x", Span("f.yaml", 1, 1, 3), "日本: x", "^~~~"),
        ("e\u0301: x", Span("f.yaml", 1, 5, 6), "e\u0301: x", "   ^"),
        ("a\rb\x85c\u2028key: v", Span("f.yaml", 4, 1, 4), "key: v", "^~~"),
        ("key: v", Span("f.yaml", 1, 6, 99), "key: v", "     ^"),
        ("key: v", Span("f.yaml", 1, 3, 3), "key: v", "  ^"),
    ],
)
def test_marker(text: str, span: Span, line: str, marker: str) -> None:
    assert marked(text, span) == (line, marker)


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=400),
    st.integers(0, 399),
    st.integers(1, 400),
)
@example("a" * 200 + "key" + "b" * 200, 200, 3)
@example("日" * 200 + "key", 200, 3)
def test_marker_stands_below_what_it_marks(line: str, start: int, width: int) -> None:
    line = BREAK.sub(".", line)
    start = min(start, len(line) - 1)
    if not line.strip() or re.search(r"[:=]", line):  # nothing to show, or perhaps a secret
        return
    token = line[start : start + width]
    shown, marker = marked(line, Span("f.yaml", 1, start + 1, start + 1 + len(token)))
    assert len(shown) <= 120
    before = columns(marker) - len(marker.lstrip(" "))
    position = next(i for i in range(len(shown) + 1) if columns(shown[:i]) >= before)
    plain = "".join(c if c.isprintable() else " " if c == "\t" else "\ufffd" for c in token)
    seen = shown[position : position + len(plain)]
    if not unicodedata.combining(plain[0]):
        assert plain.startswith(seen)
        assert seen
        assert len(marker.lstrip(" ")) == max(1, columns(seen))


def test_no_excerpt_of_an_empty_line() -> None:
    assert "|" not in render_text(ERROR.at(Span("f.yaml", 2), "m"), {"f.yaml": "a\n\nb"})
    assert "|" not in render_text(ERROR.at(Span("f.yaml", 9), "m"), {"f.yaml": "a\n\nb"})
