"""What axolotl refuses: the derived conditions, evaluated as Python would, and held to axolotl."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from least import codes, problems

from launcher import facts, recipe
from launcher.facts import logic
from launcher.upstream import Question, verdicts

CASES = sorted((Path(__file__).parents[1] / "cases" / "err").glob("R013-*.yaml"))
VIEWS = {"raw": {"a": 1, "b": {"c": "x"}, "t": "true"}, "self": {"t": True}}
A = ["item", ["raw"], "a", ["const", None]]
C = ["item", ["item", ["raw"], "b", ["const", {}]], "c", ["const", None]]
NONE = ["item", ["raw"], "none", ["const", None]]


@pytest.mark.parametrize(
    ("term", "value"),
    [
        (A, 1),
        (C, "x"),
        (NONE, None),
        (["item", NONE, "c", ["const", 0]], logic.UNKNOWN),  # None has no get
        (["==", C, ["const", "x"]], True),
        (["and", A, ["unknown"]], logic.UNKNOWN),
        (["and", NONE, ["unknown"]], None),  # what decides stands
        (["or", A, ["unknown"]], 1),
        (["not", ["unknown"]], logic.UNKNOWN),
        ([">", NONE, ["const", 1]], logic.UNKNOWN),  # axolotl fails there in another way
        (["if", A, ["const", "yes"], ["unknown"]], "yes"),
        (["picked", [A, ["const", "a"]], [NONE, ["const", "b"]]], ["a"]),
        (["join", ["const", "n="], A], "n=1"),
    ],
)
def test_a_term_is_what_python_makes_of_it(term: logic.Term, value: object) -> None:
    assert logic.evaluate(term, VIEWS) == value


def test_a_condition_that_is_an_empty_list_does_not_hold() -> None:
    assert not logic.holds(["and", A, ["list"]], VIEWS)


def test_the_places_that_a_term_looks_at() -> None:
    assert list(logic.paths(["and", A, ["not", C], ["picked", [NONE, ["const", 1]]]])) == [
        ("a",),
        ("b", "c"),
        ("none",),
    ]


def test_axolotl_refuses_much() -> None:
    refusals = facts.load().refusals
    assert len(refusals) > 120
    assert {"check_kto_config", "check_grpo_batch_size_divisibility"} <= {r.check for r in refusals}
    assert {"", "liger"} <= {refusal.integration for refusal in refusals}


@pytest.mark.parametrize(
    ("fragment", "told"),
    [
        ("attn_implementation: flex", True),
        ("attn_implementation: sdpa", False),
        ("attn_implementation: org/kernel@v2", False),
        ("gradient_checkpointing: offload", False),
        ("activation_offloading: true", True),
        ("activation_offloading: true\ngradient_checkpointing: true", False),
        ("streaming: true\nmax_steps: 10\nval_set_size: 0", False),
        ("streaming: true", True),
        ("context_parallel_size: 2\nattn_implementation: sdpa", True),
        ("adapter: lora\nlora_target_linear: true\nload_in_8bit: true", False),
        ("adapter: lora\nlora_target_linear: true\nload_in_8bit: 1\nlora_mlp_kernel: 1", True),
        ("liger_rms_norm: true\ntensor_parallel_size: 2", False),  # the plugin is not listed
        ("fsdp_version: 2\nfsdp_config: {cpu_ram_efficient_loading: true}", False),
    ],
)
def test_told(fragment: str, told: bool) -> None:
    assert ("R013" in codes(fragment)) == told


def test_what_another_rule_tells_is_told_once() -> None:
    found = [p.code for p in problems("save_steps: 5\nsaves_per_epoch: 2")]
    assert found == ["R304"]


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("axolotl"), reason="axolotl is not installed")
def test_axolotl_refuses_every_case() -> None:
    found = verdicts([Question(recipe.load(path).settings) for path in CASES])
    assert [path.stem for path, one in zip(CASES, found, strict=True) if not one.errors] == []
