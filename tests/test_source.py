"""Reading: the value is that of yaml.safe_load, every place is right, and no text can do harm."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from launcher import recipe, source
from launcher.diagnostics import BREAK, FORMATS, LauncherError, Span
from launcher.hazards import MAX_DEPTH, MAX_NODES
from launcher.source import MAX_BYTES, Document
from launcher.validate import validate

LINE = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=12
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | LINE
    | st.sampled_from(
        ["no", "2e-5", "1:30", "0x1f", "~", "a: b", "# c", "- d", "*e", "!f", "'", '"']
    )
)


def trees(
    scalars: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[Any, Any]]:
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )
    return st.dictionaries(keys, values, min_size=1, max_size=5)


def paths(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    pairs = enumerate(value) if isinstance(value, list) else ()
    for key, child in value.items() if isinstance(value, dict) else pairs:
        yield from paths(child, (*path, str(key)))


def codes(document: Document) -> list[str]:
    return [problem.code for problem in document.problems]


def cut(text: str, span: Span) -> str:
    return BREAK.split(text)[span.line - 1][span.column - 1 : span.end_column - 1]


# --- the value is that of yaml.safe_load ---


@given(
    trees(
        SCALARS | st.text() | st.dates() | st.datetimes() | st.binary(max_size=9),
        keys=LINE | st.integers() | st.booleans() | st.none() | st.dates(),
    ),
    st.booleans(),
    st.integers(10, 200),
)
def test_value_of_any_document(value: dict[Any, Any], flow: bool, width: int) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True, width=width)
    document = source.parse(text, "f.yaml")
    assert document.problems == ()
    assert repr(document.value) == repr(yaml.safe_load(text))
    assert set(document.places) == set(paths(document.value))


TOKENS = re.findall(
    r"\S+",
    r"""a b key 1 2e-5 yes null ~ : , ? - # | > |2 >- ' " [ ] { } & &x *x = << @ ` ! !! !<x> % %YAML
    !!str !!int !!float !!binary !!set !!omap !!pairs !!timestamp !!seq !!map !!python/name:os.open
    0x1 1:30 2024-01-01 2024-13-01 .inf \ \n --- ... é 日本 😀""",
)
SPACE = re.findall(r"[^|]+", " |  |\n|\n  |\n- |\t|\r\n|\r|\x85|\u2028|\xa0|\ufeff|: ")
TEXTS = st.lists(st.sampled_from(TOKENS) | st.sampled_from(SPACE), max_size=16).map("".join)


@given(TEXTS | st.text())
@example("a: !!int {=: b}")
@example("a: !!timestamp {=: b}")
@example("? !!set {[a]}\n: b")
@example("a: !!omap [<<: b]")
@example("a: 1\t")
@example("a: !")
@example("<<: {}")
@example("!!set {a, b}")
@example('a: "\\ud800"')
def test_any_text(text: str) -> None:
    """Reading never raises, and takes what safe_load takes, but for the limits of a recipe."""
    document = source.parse(text, "f.yaml")
    try:
        expected = yaml.safe_load(text)
    except Exception:
        assert document.value is None
    else:
        if document.value is None:
            assert set(codes(document)) <= {"Y103", "Y104", "Y107", "Y108"}
            assert not (type(expected) is dict and expected and codes(document) == ["Y107"])
        else:
            assert type(document.value) is dict
            assert repr(document.value) == repr(expected)
    assert document.problems or document.value
    for problem in document.problems:
        assert problem.span.line <= len(BREAK.split(text))
        for render in FORMATS.values():
            render(problem, {"f.yaml": text})


def test_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    text = "base_model: a # c\nlearning_rate: 2e-5\nlist:\n  - x\n"
    plain = source.parse(text, "f.yaml")
    for start, end in [("", "\r\n"), ("", "\r"), ("\ufeff", "\n"), ("\ufeff", "\r\n")]:
        file = tmp_path / "f.yaml"
        file.write_bytes((start + text.replace("\n", end)).encode())
        document = source.read(file)
        assert document.value == plain.value
        assert document.text.startswith("base_model")  # an excerpt shows no mark
        assert [place.value.line for place in document.places.values()] == [
            place.value.line for place in plain.places.values()
        ]
        assert document.places["base_model",].key == Span(str(file), 1, 1, 11)


# --- places ---


@given(trees(SCALARS, keys=LINE), st.booleans())
def test_places_of_any_document(value: dict[str, Any], flow: bool) -> None:
    """What stands at the place of a key or of a plain value reads as that key or value."""
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True, width=10**6)
    document = source.parse(text, "f.yaml")
    for path, place in document.places.items():
        inner: Any = document.value
        for part in path:
            inner = inner[int(part)] if isinstance(inner, list) else inner[part]
        if place.key:
            assert str(yaml.safe_load(cut(text, place.key))) == path[-1]
        if not isinstance(inner, (dict, list)) or cut(text, place.value)[0] in "[{":
            assert repr(yaml.safe_load(cut(text, place.value))) == repr(inner)


def test_places_in_a_recipe() -> None:
    text = "# c\nключ: 日本  # c\nlist:\n- a\n-   b: {c: 'd e'}\nempty:\nblock: |\n  x\n  y\n"
    places = source.parse(text, "f.yaml").places
    assert places["ключ",].key == Span("f.yaml", 2, 1, 5)
    assert places["ключ",].value == Span("f.yaml", 2, 7, 9)
    assert places["list", "0"].key is None
    assert places["list", "0"].value == Span("f.yaml", 4, 3, 4)
    assert places["list", "1", "b", "c"].key == Span("f.yaml", 5, 9, 10)
    assert places["list", "1", "b", "c"].value == Span("f.yaml", 5, 12, 17)
    assert places["empty",].value == Span("f.yaml", 6, 7, 8)
    assert places["block",].value == Span("f.yaml", 7, 8, 9)


def test_a_merged_key_stands_where_it_was_written() -> None:
    text = "a: &a\n  x: 1\n  y: {z: 1}\nb:\n  <<: *a\n  y: 2\n"
    document = source.parse(text, "f.yaml")
    assert document.value == yaml.safe_load(text)
    assert document.places["b", "x"].value == Span("f.yaml", 2, 6, 7)
    assert document.places["b", "y"].value == Span("f.yaml", 6, 6, 7)
    assert ("b", "y", "z") not in document.places


# --- what stops the reading ---


@pytest.mark.parametrize(
    ("text", "line", "column", "number"),
    [
        ("a: 1\nb:\xa0\0\n", 2, 4, "U+0000"),
        ("a: 1\r\nb: \x1b[2J\n", 2, 4, "U+001B"),
        ("a: \ud800\n", 1, 4, "U+D800"),
        ("a: 1\u2028b: \x07\n", 2, 4, "U+0007"),
    ],
)
def test_character_that_yaml_forbids(text: str, line: int, column: int, number: str) -> None:
    (problem,) = source.parse(text, "f.yaml").problems
    assert problem.code == "Y101"
    assert (problem.span.line, problem.span.column) == (line, column)
    assert number in problem.message


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_not_utf8(tmp_path: Path, start: bytes) -> None:
    file = tmp_path / "latin1.yaml"
    file.write_bytes(start + "a: ü\nb: ".encode() + "é".encode("latin-1"))
    document = source.read(file)
    assert document.value is None
    (problem,) = document.problems
    assert problem.code == "Y105"
    assert problem.span == Span(str(file), 2, 4, 5)
    assert "0xe9" in problem.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (folder,) = source.read(tmp_path).problems
    (missing,) = source.read(tmp_path / "none.yaml").problems
    assert (folder.code, missing.code) == ("Y106", "Y106")
    assert "none.yaml" in missing.message
    assert folder.hint
    assert not missing.hint


def test_a_file_too_large_for_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("a: 1\n" + "#" * (MAX_BYTES - 5))
    assert source.read(file).value == {"a": 1}
    file.write_text("a: 1\n" + "#" * (MAX_BYTES - 4))
    (problem,) = source.read(file).problems
    assert problem.code == "Y107"
    assert "128 KiB" in problem.message


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os.mkdir"],
)
def test_tags_run_no_code(tmp_path: Path, tag: str) -> None:
    target = tmp_path / "made"
    for text in (
        f"a: {tag} [{target}]",
        f"{tag} [{target}]: 1",
        f"- {tag} [{target}]",
        f"a: {tag} ''",
    ):
        document = source.parse(text, "f.yaml")
        assert document.value is None
        assert document.problems
        recipe.override(recipe.from_document(source.parse("a: 1", "f.yaml")), ["b=1"])
        with pytest.raises(LauncherError):
            source.parse_value("key", text)
        assert not target.exists()


def nested(depth: int) -> str:
    return "a: " + "[" * depth + "]" * depth


def aliased(depth: int) -> str:
    return "a0: &a0 []\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, depth))


@pytest.mark.parametrize("deep", [nested, aliased])
def test_depth_is_limited(deep: Any) -> None:
    assert source.parse(deep(MAX_DEPTH - 1), "f.yaml").value == yaml.safe_load(deep(MAX_DEPTH - 1))
    assert codes(source.parse(deep(MAX_DEPTH + 1), "f.yaml")) == ["Y104"]


def test_expansion_is_limited() -> None:
    row = ", ".join(["x"] * 999)  # with the list itself 1000 values
    assert source.parse(f"a: &a [{row}]\nb: [{', '.join(['*a'] * 18)}]", "f.yaml").value
    large = source.parse(f"a: &a [{row}]\nb: [{', '.join(['*a'] * 20)}]", "f.yaml")
    assert codes(large) == ["Y104"]
    assert f"{MAX_NODES:,}" in large.problems[0].message
    text = "x" * 1000
    assert source.parse(f"a: &a {text}\nb: [{', '.join(['*a'] * 1000)}]", "f.yaml").value
    assert codes(source.parse(f"a: &a {text}\nb: [{', '.join(['*a'] * 2000)}]", "f.yaml")) == [
        "Y104"
    ]


HOSTILE = {
    "one line": "a" * MAX_BYTES,
    "one value": "a: " + "x" * MAX_BYTES,
    "one key": "? " + "k" * MAX_BYTES + "\n: 1",
    "keys": "".join(f"k{i}: 1\n" for i in range(MAX_BYTES // 10)),
    "keys on one line": "{" + ", ".join(f"k{i}: 1" for i in range(MAX_BYTES // 12)) + "}",
    "keys like others": "".join(f"lora_{i}x: 1\n" for i in range(MAX_BYTES // 15)),
    "duplicates": "{" + "a: 1, " * (MAX_BYTES // 6) + "}",
    "data sets": "datasets:\n" + "  - {pth: a}\n" * (MAX_BYTES // 13),
    "brackets": "[" * MAX_BYTES,
    "braces": "{a: " * (MAX_BYTES // 4),
    "questions": "? " * (MAX_BYTES // 2),
    "dashes": "- " * (MAX_BYTES // 2),
    "indents": "".join(" " * i + "a:\n" for i in range(400)),
    "anchors": "".join(f"k{i}: &a{i} 1\n" for i in range(MAX_BYTES // 16)),
    "bangs": "a: " + "!" * MAX_BYTES,
    "percents": "%T a\n" * (MAX_BYTES // 5),
    "quotes": 'a: "' + '\\"' * (MAX_BYTES // 2),
    "single quotes": "a: '" + "''" * (MAX_BYTES // 2),
    "blanks": "a:" + " " * MAX_BYTES,
    "line breaks": "a:" + "\n" * MAX_BYTES,
    "tabs": "a: x" + "\t" * MAX_BYTES,
    "marks": "a: " + "\ufeff" * (MAX_BYTES // 3),
    "assignments": "a: " + "token=x " * (MAX_BYTES // 8),
    "almost a token": "a: sk-" + "-" * MAX_BYTES,
    "NUL at the end": "a: b\n" * (MAX_BYTES // 6) + "\0",
    "aliases of aliases": aliased(400),
    "merges of merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{i}: &a{i} {{<<: *a{i - 1}, k{i}: 1}}\n" for i in range(1, 300)),
    "merge bomb": "a0: &a0 {x: 1, y: 2}\n"
    + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 30)),
}


@pytest.mark.timeout(60)  # two seconds at most on two idle cores; a hang is what this looks for
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_soon(tmp_path: Path, name: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(HOSTILE[name])
    read = recipe.load(file)
    problems = validate(read)
    assert problems
    for problem in problems[:5000]:
        for render in FORMATS.values():
            assert render(problem, read.texts)


# --- key=VALUE ---


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.0e-6", 1e-6),
        ("2e-5", "2e-5"),
        ("3", 3),
        ("true", True),
        ("no", False),
        ("null", None),
        ("~", None),
        ("", ""),
        ("   ", ""),
        ("a b", "a b"),
        ("'no'", "no"),
        ("[q_proj, 1]", ["q_proj", 1]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("2024-01-01", datetime.date(2024, 1, 1)),
        ("https://example.com/a#b", "https://example.com/a#b"),
        ("a=b", "a=b"),
    ],
)
def test_value_on_the_command_line(text: str, value: object) -> None:
    assert source.parse_value("key", text) == value


@pytest.mark.parametrize(
    "text", ["[", "a: b", "'", "*a", "@a", "1\nb: 2", "1\nvalue: 2", "!x 1", "2024-13-01", "a\0"]
)
def test_bad_value_on_the_command_line(text: str) -> None:
    with pytest.raises(LauncherError) as raised:
        source.parse_value("key", text)
    assert raised.value.exit_code == 2
    assert raised.value.hint
