"""No value of any key makes a rule fail: what it cannot read is left to the schema."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.recipe import Recipe
from launcher.schema.validator import schema
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


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("base", [BASE, RICH], ids=["base", "rich"])
def test_no_rule_fails(base: dict[str, Any], value: object) -> None:
    for key in schema()["properties"]:
        validate(Recipe("f", "f.yaml", {**base, key: value}, {}, {}))


def test_odd_entries_of_datasets() -> None:
    for key in schema()["$defs"]["SFTDataset"]["properties"]:
        for value in ODD:
            entry = {"path": "my-org/rows", "type": "alpaca", key: value}
            validate(Recipe("f", "f.yaml", {**RICH, "datasets": [entry]}, {}, {}))
