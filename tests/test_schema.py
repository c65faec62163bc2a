"""The closed schema: as lenient as pydantic about numbers and switches, closed about keys."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from launcher import recipe, source
from launcher.diagnostics import FORMATS, Diagnostic, render_concise
from launcher.recipe import pack_folder
from launcher.schema.check import MAX_SUGGESTIONS, check
from launcher.schema.nearest import OTHER_TOOLS, nearest_key
from launcher.schema.validator import is_integer, is_number, is_on, schema
from launcher.schema.wording import dotted, either, expected, shown
from launcher.validate import validate

MINIMAL: dict[str, Any] = {"base_model": "m", "learning_rate": 1e-5}
KEYS = sorted(schema()["properties"])


def problems(value: dict[Any, Any]) -> list[Diagnostic]:
    return list(check(recipe.Recipe("f", "f.yaml", {**MINIMAL, **value}, {}, {})))


def messages(value: dict[Any, Any]) -> list[str]:
    return [problem.message for problem in problems(value)]


# --- the schema itself ---


def test_the_schema_is_a_schema_and_closed() -> None:
    Draft202012Validator.check_schema(schema())
    assert schema()["additionalProperties"] is False
    assert len(KEYS) > 400
    open_objects = [
        name
        for name, node in schema()["$defs"].items()
        if "properties" in node and node.get("additionalProperties") is not False
    ]
    assert open_objects == []


def test_the_block_in_the_schema_is_the_hand_written_one() -> None:
    written = json.loads((pack_folder("schemas") / "x-recipe.schema.json").read_text("utf-8"))
    written.pop("$schema")
    assert schema()["$defs"]["XRecipe"] == written


def test_every_shipped_recipe_is_clean() -> None:
    assert len(recipe.shipped()) >= 9
    for file in recipe.shipped():
        assert [render_concise(p, {}) for p in validate(recipe.load(file))] == []


# --- as lenient as pydantic ---

NUMBERS = st.from_regex(r" ?[+-]?[0-9]{0,3}(\.[0-9]{0,2})?([eE][+-]?[0-9]{1,2})? ?", fullmatch=True)
SCALARS = (
    NUMBERS
    | st.integers(-(10**18), 10**18)
    | st.floats(-1e15, 1e15)
    | st.sampled_from(["1_000", "inf", "-nan", "0x10", "", "a", "٣", "1,5", "true", float("inf")])
)
SWITCHES = SCALARS | st.booleans() | st.sampled_from(["no", "Yes", "ON", "oFF", "y", "T", "on!"])


@given(SCALARS)
def test_numbers_as_pydantic_reads_them(value: object) -> None:
    pydantic = pytest.importorskip("pydantic")
    for kind, accepts in ((int, is_integer), (float, is_number)):
        try:
            pydantic.TypeAdapter(kind).validate_python(value)
        except pydantic.ValidationError:
            assert not accepts(value)
        else:
            assert accepts(value)


@given(SWITCHES)
def test_switches_as_pydantic_reads_them(value: object) -> None:
    pydantic = pytest.importorskip("pydantic")
    try:
        on = pydantic.TypeAdapter(bool).validate_python(value)
    except pydantic.ValidationError:
        assert messages({"sample_packing": value})
        assert not is_on(value)
    else:
        assert messages({"sample_packing": value}) == []
        assert is_on(value) is on


@pytest.mark.parametrize("value", [1, 2.0, "3", " 3 ", "3.0", "1_000", 10**400])
def test_whole_numbers(value: object) -> None:
    assert messages({"micro_batch_size": value}) == []


@pytest.mark.parametrize("value", [1.5, "1e3", "2.", "two", "", [1], {}, float("inf"), "nan"])
def test_not_whole_numbers(value: object) -> None:
    (message,) = messages({"micro_batch_size": value})
    assert message.startswith("micro_batch_size is ")
    assert message.endswith("; expected a whole number")


@pytest.mark.parametrize("value", [2e-5, "2e-5", "2.0e-5", 1, "1"])
def test_learning_rates(value: object) -> None:
    assert messages({"learning_rate": value}) == []


@pytest.mark.parametrize("value", ["fast", "1e-5,", "1e-5 # c", None, [1e-5]])
def test_not_learning_rates(value: object) -> None:
    (message,) = messages({"learning_rate": value})
    assert message.startswith("learning_rate is ")


def test_limits_hold_for_numbers_written_as_text() -> None:
    assert messages({"relora_prune_ratio": "0.5"}) == []
    assert messages({"relora_prune_ratio": "1.5"}) == [
        'relora_prune_ratio is the text "1.5"; expected at most 1.0'
    ]


# --- any key, any value ---

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.binary(max_size=3)
    | st.sampled_from(["auto", "dpo", "yes", "3"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5) | st.integers(), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(KEYS) | st.sampled_from(["rl", "datasets"]), VALUES))
def test_any_value_of_any_key(value: dict[str, Any]) -> None:
    """Every problem names its key, no problem is told twice, and all can be shown."""
    read = recipe.Recipe("f", "f.yaml", {**MINIMAL, **value}, {}, {})
    found = validate(read)
    assert len({(p.code, p.message) for p in found}) == len(found)
    for problem in found:
        if problem.code[0] == "S":
            assert any(str(key) in problem.message for key in value)
        for render in FORMATS.values():
            assert render(problem, {})


def test_missing_keys_are_told_once_each() -> None:
    read = recipe.Recipe("f", "f.yaml", {"x-recipe": {}}, {}, {})
    assert sorted(problem.message for problem in check(read)) == [
        'the recipe has no "base_model"',
        'the recipe has no "learning_rate"',
        'x-recipe has no "method"',
        'x-recipe has no "title"',
    ]


def test_a_secret_of_the_wrong_type_is_not_quoted() -> None:
    (problem,) = problems({"comet_api_key": 12345678})
    assert "12345678" not in problem.message + problem.hint


def test_suggestions_have_an_end() -> None:
    found = problems({f"lora_r{i}": 1 for i in range(MAX_SUGGESTIONS * 2)})
    assert len(found) == MAX_SUGGESTIONS * 2
    assert sum("did you mean" in problem.hint for problem in found) == MAX_SUGGESTIONS


# --- the nearest key ---


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("learnig_rate", "learning_rate"),
        ("gradient_acumulation_steps", "gradient_accumulation_steps"),
        ("GradientCheckpointing", "gradient_checkpointing"),
        ("lora-r", "lora_r"),
        ("context_parapllel_size", "context_parallel_size"),
        ("sead", "seed"),
        ("esed", "seed"),
        ("zzz", ""),
        ("", ""),
        ("packing", "sample_packing"),
    ],
)
def test_nearest_key(unknown: str, meant: str) -> None:
    assert nearest_key(unknown, KEYS) == meant


@given(st.sampled_from(KEYS).filter(lambda key: len(key) > 5), st.integers(0, 99))
def test_one_letter_too_few_still_finds_a_key(key: str, position: int) -> None:
    position %= len(key)
    assert nearest_key(key[:position] + key[position + 1 :], KEYS)


def test_names_of_other_tools_lead_to_keys() -> None:
    known = {*KEYS, *schema()["$defs"]["SFTDataset"]["properties"]}
    assert set(OTHER_TOOLS.values()) <= known
    for name, key in OTHER_TOOLS.items():
        if name not in KEYS and key in KEYS:
            assert nearest_key(name, KEYS) == key


def test_a_name_of_another_tool_is_no_help_where_its_key_is_not_known() -> None:
    assert nearest_key("max_seq_length", ["path", "type"]) == ""


# --- words ---


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "a block of keys"),
        ([1, 2], "a list of 2"),
        (None, "empty"),
        (True, "true"),
        (1.0, "1.0"),
        ("a", 'the text "a"'),
        ("a" * 61, f'the text "{"a" * 57}..."'),
    ],
)
def test_shown(value: object, words: str) -> None:
    assert shown(value) == words


def test_dotted() -> None:
    assert dotted(()) == "the recipe"
    assert dotted(("datasets", "0", "path")) == "datasets[0].path"
    assert dotted(("trl", "vllm")) == "trl.vllm"


def test_expected() -> None:
    nodes = [{"type": "string", "enum": ["a", "b"]}, {"type": "boolean"}, {"type": "null"}]
    assert either(expected(nodes, {})) == "a, b, true or false"
    assert expected([*nodes, {"type": "string"}], {}) == ["true", "false", "text"]
    node = {"$ref": "#/$defs/RLType"}
    assert "dpo" in expected([node], schema())
    assert either(["a"]) == "a"
    assert either(["a", "b"]) == "a or b"


def test_where_each_problem_of_a_union_is_reported() -> None:
    text = (
        "base_model: m\nlearning_rate: 1.0e-5\nlora_target_modules: [q_proj, 1]\ntokens: {a: 1}\n"
        "datasets: [{path: my-org/rows, type: alpaca}]\n"
    )
    read = recipe.from_document(source.parse(text, "f.yaml"))
    assert [render_concise(problem, {}).split("(")[0].strip() for problem in validate(read)] == [
        "f.yaml:3:31: error[S103 wrong-type] lora_target_modules[1] is 1; expected text",
        "f.yaml:4:9: error[S103 wrong-type] tokens is a block of keys; expected a list",
    ]
