"""axolotl's own examples: what its validation drops or passes is what axr says of them.

The corpus is not part of this repository. AXR_CORPUS names a folder that holds `axolotl-examples/`
(the examples of axolotl 0.19.0) and `axolotl-0.19.0-verdicts.tsv`: file, axolotl_verdict (pass or
fail), unknown_keys (dropped by axolotl, dotted, separated by commas), axolotl_message.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from launcher import recipe
from launcher.diagnostics import Diagnostic, Severity, render_concise
from launcher.schema.check import EMPTY, UNKNOWN
from launcher.upstream import Question, verdicts
from launcher.validate import validate

CORPUS = os.environ.get("AXR_CORPUS", "")
# Errors that axolotl does not have: the run breaks, or trains something else than it says.
SEVERER = {
    "R004": "llm_compressor cannot be imported: axolotl trains on without it",
    "R301": "evals_per_epoch x num_epochs is 1: it never evaluates",
    "R402": "<your-hf-dataset-id>, to be filled in",
    "R403": "rwd.gsm8k_transform, a module that is not among the examples",
    "R803": "deepspeed_configs/, which `axolotl fetch` writes, is not among the examples",
    "R901": "<your-hub-model-id>, to be filled in",
}
pytestmark = pytest.mark.skipif(not CORPUS, reason="AXR_CORPUS names no folder with the corpus")


def rows() -> list[dict[str, str]]:
    with (Path(CORPUS) / "axolotl-0.19.0-verdicts.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


@pytest.fixture(scope="module")
def judged() -> list[tuple[str, set[str], list[Diagnostic]]]:
    """Of each file that axolotl passes: its name, the keys that axolotl drops, and our problems."""
    found = []
    for row in rows():
        problems = validate(recipe.load(Path(CORPUS) / "axolotl-examples" / row["file"]))
        if row["axolotl_verdict"] == "pass":
            dropped = {plain(key) for key in (row["unknown_keys"] or "").split(",") if key}
            found.append((row["file"], dropped, problems))
    return found


def plain(key: str) -> str:
    """axolotl knows the keys of fsdp_config with and without the prefix."""
    return key.replace(".fsdp_", ".")


def unknown(problem: Diagnostic) -> str:
    """The dotted key of `unknown key "b" in a`."""
    _, key, where = problem.message.split('"')
    where = where.removesuffix(", empty").removeprefix(" in ")
    return plain(f"{where}.{key}".lstrip("."))


@pytest.mark.slow
def test_axolotl_says_pass_or_fail_as_it_did() -> None:
    with (Path(CORPUS) / "axolotl-0.19.0-verdicts.tsv").open(encoding="utf-8", newline="") as lines:
        judged = {
            row["file"]: row["axolotl_verdict"] for row in csv.DictReader(lines, delimiter="\t")
        }
    loaded = [recipe.load(Path(CORPUS) / "axolotl-examples" / file) for file in judged]
    found = verdicts([Question(one.settings) for one in loaded])
    ours = ["fail" if verdict.errors else "pass" for verdict in found]
    assert dict(zip(judged, ours, strict=True)) == judged


def test_the_corpus_is_there(judged: list[tuple[str, set[str], list[Diagnostic]]]) -> None:
    assert len(judged) > 200
    assert sum(len(dropped) for _, dropped, _ in judged) > 20


def test_unknown_keys_are_those_that_axolotl_drops(
    judged: list[tuple[str, set[str], list[Diagnostic]]],
) -> None:
    told = (UNKNOWN.code, EMPTY.code)
    ours = {f: {unknown(p) for p in found if p.code in told} for f, _, found in judged}
    assert ours == {file: dropped for file, dropped, _ in judged}


def test_what_axolotl_passes_has_no_other_error(
    judged: list[tuple[str, set[str], list[Diagnostic]]],
) -> None:
    others = [
        problem
        for _, _, problems in judged
        for problem in problems
        if problem.severity is Severity.ERROR and problem.code != UNKNOWN.code
    ]
    assert [render_concise(p, {}) for p in others if p.code not in SEVERER] == []
    assert {problem.code for problem in others} == set(SEVERER)
