"""Checks of what a recipe means, one file per subject; the registry says which run, in order."""

from __future__ import annotations

from launcher.rules import (
    adapter,
    batch,
    choices,
    data,
    distributed,
    evaluation,
    hub,
    keys,
    model,
    names,
    objective,
    online,
    precision,
    refusals,
    resume,
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
    data,
    adapter,
    objective,
    online,
    precision,
    distributed,
    hub,
    resume,
    refusals,
)
RULES: tuple[Rule, ...] = tuple(rule for subject in SUBJECTS for rule in subject.RULES)
