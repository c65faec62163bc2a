"""`axr explain`: every code and every key has a page, and the committed document is up to date."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import Axr, Golden

from launcher import manual
from launcher.rules import RULES
from launcher.schema.validator import schema

ROOT = Path(__file__).parent.parent


def test_every_code_has_a_page() -> None:
    found = {rule.code.code for rule in RULES}
    for module in (ROOT / "launcher").rglob("*.py"):
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            value = getattr(node, "value", None)
            if (
                isinstance(value, ast.Call)
                and value.args
                and ast.unparse(value.func).endswith("Code")
            ):
                found.add(ast.literal_eval(value.args[0]))
    assert {one.code for one in manual.codes()} == found
    assert len({one.name for one in manual.codes()}) == len(found)


def test_the_document_is_up_to_date(golden: Golden) -> None:
    golden(ROOT / "docs" / "rules.md", manual.markdown())


def test_every_key_has_a_page() -> None:
    keys = manual.keys()
    assert keys.keys() >= schema()["properties"].keys()
    for key, node in keys.items():
        page = manual.key_page(key, node)
        assert page.startswith(f"{key}\n\n  takes    ")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("R301", ["R301 evaluation-never-runs (error)", "Use instead:"]),
        ("r301", ["R301 evaluation-never-runs (error)"]),
        ("evaluation-never-runs", ["R301 evaluation-never-runs (error)"]),
        ("S102", ["S102 unknown-key (error)"]),
        ("L102", ["L102 no-gpu (error)"]),
        ("evals_per_epoch", ["takes    a whole number", "default  none"]),
        ("gradient_checkpointing", ["default  false", "takes    offload"]),
        ("liger_rope", ["needs    plugins: [axolotl.integrations.liger.LigerPlugin]"]),
        ("pad_to_sequence_len", ["read by  sft\n", "example  pad_to_sequence_len: ", "Pad inputs"]),
        ("learning_rate", ["read by  all methods", "example  learning_rate: 5.0e-5 ("]),
        ("rl_beta", ["read by  dpo, "]),
        ("dpo_beta", ["old      dpo_beta is deprecated, use rl_beta instead"]),
        ("max_packed_sequence_len", ["removed  "]),
        ("datasets.type", ["takes    "]),
        ("datasets.field_chosen", ["takes    "]),
        ("trl.beta", ["takes    a number"]),
        ("x-recipe.global_batch_size", ["takes    a whole number"]),
    ],
)
def test_explain(axr: Axr, name: str, parts: list[str]) -> None:
    done = axr("explain", name)
    assert (done.returncode, done.stderr) == (0, "")
    for part in parts:
        assert part in done.stdout


def test_all_is_the_document(axr: Axr) -> None:
    assert axr("explain", "--all").stdout == (ROOT / "docs" / "rules.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evals_per_epochs"], "did you mean evals_per_epoch?"),
        (["beta"], "did you mean rl_beta?"),
        (["evaluation-never-run"], "did you mean evaluation-never-runs?"),
        (["zzzzzz"], "axr explain --all"),
        ([], "give a code"),
        (["R301", "--all"], "give a code"),
    ],
)
def test_what_is_not_there(axr: Axr, arguments: list[str], words: str) -> None:
    done = axr("explain", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
