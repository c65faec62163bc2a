"""No value of any key makes a rule fail: what it cannot read is left to the schema."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.diagnostics import Span
from launcher.recipe import Recipe
from launcher.schema.validator import schema
from launcher.source import Place
from launcher.validate import validate

BASE: dict[str, Any] = {
    "base_model": "my-org/model",
    "learning_rate": 1e-5,
    "datasets": [{"path": "my-org/rows", "type": "alpaca"}],
}
RICH: dict[str, Any] = {
    **BASE,
    "rl": "dpo",
    "adapter": "lora",
    "deepspeed": "none.json",
    "val_set_size": 0.1,
    "evals_per_epoch": 1,
}
ODD = [None, "", "x", 0, -1, 1.5, True, [], {}, [None], ["x"], {"a": None}, [{}], "1e999", "nan"]
ODD += [10**400]


def made(value: dict[str, Any]) -> Recipe:
    """A recipe with a place for each key: a problem then silences only the rules that read it."""
    spans = {key: Span("f.yaml", line) for line, key in enumerate(value, start=1)}
    places = {(key,): Place(span, replace(span, column=9)) for key, span in spans.items()}
    return Recipe("f", "f.yaml", value, places, {})


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("base", [BASE, RICH], ids=["base", "rich"])
def test_no_rule_fails(base: dict[str, Any], value: object) -> None:
    for key in schema()["properties"]:
        validate(made({**base, key: value}))


def test_odd_entries_of_datasets() -> None:
    for key in schema()["$defs"]["SFTDataset"]["properties"]:
        for value in ODD:
            entry = {"path": "my-org/rows", "type": "alpaca", key: value}
            validate(made({**RICH, "datasets": [entry]}))
