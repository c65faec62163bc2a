"""The manual page of every rule: its example is reported, what to use instead is not."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest
import yaml
from least import HERE, codes, merged

from launcher.recipe import BLOCK
from launcher.rules import RULES
from launcher.rules.rule import Rule
from launcher.upstream import Question, verdicts

NAMES = [rule.code.name for rule in RULES]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)


def sections(rule: Rule) -> tuple[str, str, str]:
    """The words, the example, what to use instead."""
    found = re.fullmatch(
        r"(.+?)\n\nExample:\n\n```yaml\n(.+?)\n```\n\nUse instead:\n\n```yaml\n(.+?)\n```",
        rule.code.doc,
        re.DOTALL,
    )
    assert found, f"{rule.code.name} has no words, Example: and Use instead:, in this order"
    return found[1], found[2], found[3]


def test_codes_and_names_are_unique() -> None:
    assert len({rule.code.code for rule in RULES}) == len(RULES)
    assert len(set(NAMES)) == len(RULES)


def test_the_least_recipe_is_silent() -> None:
    assert codes("seed: 1") == []


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_the_words(rule: Rule) -> None:
    words, _, _ = sections(rule)
    fact, _, rest = words.partition("\n\n")
    assert fact.endswith(".")
    assert len(rest) > 40, f"{rule.code.name} does not say what it costs"


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_the_example_is_reported_and_nothing_else(rule: Rule) -> None:
    assert set(codes(sections(rule)[1])) == {rule.code.code}


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_what_to_use_instead_is_silent(rule: Rule) -> None:
    assert codes(sections(rule)[2]) == []


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("axolotl"), reason="axolotl is not installed")
def test_axolotl_passes_what_to_use_instead() -> None:
    settings = [yaml.safe_load(merged(sections(rule)[2])) for rule in RULES]
    plain = [{key: value for key, value in one.items() if key != BLOCK} for one in settings]
    found = verdicts([Question(one) for one in plain])
    errors = dict(zip(NAMES, (verdict.errors for verdict in found), strict=True))
    assert errors == dict.fromkeys(NAMES, ())
