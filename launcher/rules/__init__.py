"""Checks of what a recipe means, one file per subject; the registry says which run, in order."""

from __future__ import annotations

from launcher.rules import (
    adapter,
    batch,
    choices,
    data,
    data_types,
    distributed,
    evaluation,
    fsdp,
    hub,
    keys,
    lora,
    model,
    names,
    objective,
    online,
    precision,
    refusals,
    resume,
    saving,
    security,
    yaml11,
)
from launcher.rules.rule import Rule

SUBJECTS = (
    security,
    yaml11,
    names,
    choices,
    model,
    keys,
    batch,
    evaluation,
    saving,
    data,
    data_types,
    adapter,
    lora,
    objective,
    online,
    precision,
    distributed,
    fsdp,
    hub,
    resume,
    refusals,
)
RULES: tuple[Rule, ...] = tuple(rule for subject in SUBJECTS for rule in subject.RULES)
