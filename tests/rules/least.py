"""The least recipe that is without a problem, and what a fragment makes of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from launcher import recipe, source
from launcher.diagnostics import Diagnostic
from launcher.validate import validate

# Where the files are that an example names.
HERE = Path(__file__).parents[1] / "cases" / "err"
BASE = """\
base_model: Qwen/Qwen2.5-3B-Instruct
learning_rate: 5.0e-6
micro_batch_size: 1
datasets: [{path: my-org/rows, type: chat_template}]
"""
PREFERENCE_ENTRY = "datasets: [{path: my-org/pairs, type: chat_template.default}]\n"


def merged(fragment: str) -> str:
    """The least recipe with the fragment's keys, as text: how a value is written matters."""
    given: dict[str, Any] = yaml.safe_load(fragment)
    base = BASE
    if "rl" in given:
        base = re.sub(r"datasets:.*\n", PREFERENCE_ENTRY, base)
    own = {*given, "datasets"} if "pretraining_dataset" in given else set(given)
    kept = [line for line in base.splitlines() if line.partition(":")[0] not in own]
    return "\n".join([*kept, fragment, ""])


def problems(fragment: str) -> list[Diagnostic]:
    """What is wrong with the least recipe and the fragment, whose keys win."""
    return validate(recipe.from_document(source.parse(merged(fragment), "f.yaml")))


def codes(fragment: str) -> list[str]:
    return [problem.code for problem in problems(fragment)]
