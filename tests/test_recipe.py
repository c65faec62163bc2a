"""Finding a recipe, and changing it on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher import recipe, source
from launcher.diagnostics import LauncherError, Span, render_concise, render_text
from launcher.recipe import COMMAND_LINE, Recipe
from launcher.validate import validate

TEXT = """\
x-recipe: {title: A, method: sft, needs: {gpu: none, gpus: 1, disk: 1}, global_batch_size: 8}
base_model: m
learning_rate: 1.0e-5
datasets: &rows
  - path: a.jsonl
    type: alpaca
  - path: b.jsonl
test_datasets: *rows
special_tokens:
plugins: [axolotl.integrations.liger.LigerPlugin]
micro_batch_size: 2
gradient_accumulation_steps: 4
"""


def changed(*overrides: str) -> Recipe:
    return recipe.override(recipe.from_document(source.parse(TEXT, "my.yaml")), overrides)


# --- find ---


def test_every_shipped_recipe_is_found_by_its_name() -> None:
    files = recipe.shipped()
    assert files
    for file in files:
        assert recipe.find(file.stem).resolve() == file.resolve()


def test_find_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one.yaml", "two.yml", "sub.d/three.yaml"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(TEXT)
        assert recipe.find(name) == Path(name)
        assert recipe.find(str(file)) == file
    assert recipe.find("one") == Path("one.yaml")
    assert recipe.find("two") == Path("two.yml")


def test_a_shipped_recipe_wins_over_a_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = recipe.shipped()[0]
    (tmp_path / shipped.name).write_text(TEXT)
    assert recipe.find(shipped.stem).resolve() == shipped.resolve()
    assert recipe.find(shipped.name) == Path(shipped.name)


def test_a_file_below_the_working_directory_is_named_as_one_would_type_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shipped = recipe.shipped()[0]
    monkeypatch.chdir(shipped.parent.parent)
    assert recipe.find(shipped.stem) == Path("recipes") / shipped.name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("qwen25-dop", "qwen25-dpo"),
        ("recipes/qwen25-dop.yaml", "qwen25-dpo"),
        ("qwen25_dpo.yml", "qwen25-dpo"),
        ("zzzzzz", "axr list"),
        ("../none.yaml", "axr list"),
    ],
)
def test_what_is_not_found(
    name: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LauncherError) as raised:
        recipe.find(name)
    assert raised.value.exit_code == 2
    assert name in raised.value.message
    assert hint in raised.value.hint


# --- the parts of a recipe ---


def test_settings_and_block() -> None:
    read = changed()
    assert read.value == yaml.safe_load(TEXT)
    assert "x-recipe" not in read.settings
    assert read.settings == {key: read.value[key] for key in read.value if key != "x-recipe"}
    assert read.block["global_batch_size"] == 8
    assert recipe.from_document(source.parse("x-recipe: 5\na: 1", "f.yaml")).block == {}


def test_a_broken_file_is_a_recipe_with_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("a: [")
    read = recipe.load(file, ["b=1"])
    assert (read.name, read.file, read.value) == ("my", str(file), {})
    assert [problem.code for problem in validate(read)] == ["Y101"]


def test_places_of_what_is_not_written_are_those_above() -> None:
    read = changed()
    assert read.key_span("datasets", "1", "type") == read.value_span("datasets", "1")
    assert read.key_span("datasets", "7") == read.key_span("datasets") == Span("my.yaml", 4, 1, 9)
    assert read.key_span("seed") == Span("my.yaml", 1, 1, 2)


# --- overrides ---


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("learning_rate=2e-6", ("learning_rate",), "2e-6"),
        ("learning_rate=1.0e-6", ("learning_rate",), 1e-6),
        ("seed=3", ("seed",), 3),
        ("base_model=Qwen/Qwen2.5-0.5B", ("base_model",), "Qwen/Qwen2.5-0.5B"),
        ("datasets.0.path=c.jsonl", ("datasets", "0", "path"), "c.jsonl"),
        ("datasets.1.type=alpaca", ("datasets", "1", "type"), "alpaca"),
        ("datasets=[{path: c}]", ("datasets",), [{"path": "c"}]),
        ("plugins.0=x", ("plugins", "0"), "x"),
        ("special_tokens.pad_token=<pad>", ("special_tokens", "pad_token"), "<pad>"),
        ("trl.vllm.port=8000", ("trl", "vllm", "port"), 8000),
        ("x-recipe.needs.gpus=8", ("x-recipe", "needs", "gpus"), 8),
        ("wandb_name=a=b", ("wandb_name",), "a=b"),
        ("test_datasets=null", ("test_datasets",), None),
        ("output_dir=", ("output_dir",), ""),
    ],
)
def test_override(override: str, path: tuple[str, ...], value: object) -> None:
    read = changed(override)
    found: Any = read.value
    for part in path:
        found = found[int(part)] if isinstance(found, list) else found[part]
    assert found == value
    key, _, given = override.partition("=")
    assert read.key_span(*path) == Span(COMMAND_LINE, 1, 1, len(key) + 1)
    assert read.value_span(*path).column == len(key) + 2
    assert read.value_span(*path).end_column == len(key) + 2 + len(given)
    assert read.overrides == (override,)


def test_an_override_changes_one_place_and_nothing_else() -> None:
    before, after = changed(), changed("datasets.0.path=c.jsonl")
    assert after.value["datasets"][0] == {"path": "c.jsonl", "type": "alpaca"}
    assert after.value["test_datasets"][0] == {"path": "a.jsonl", "type": "alpaca"}
    assert before.value["datasets"][0]["path"] == "a.jsonl"
    assert after.key_span("learning_rate") == before.key_span("learning_rate")


def test_overrides_apply_in_order() -> None:
    read = changed("trl={beta: 0.1}", "trl.beta=0.2", "seed=1", "seed=2")
    assert read.value["trl"] == {"beta": 0.2}
    assert read.value["seed"] == 2
    assert read.key_span("seed").line == 4


def test_what_replaces_a_block_takes_its_places_too() -> None:
    read = changed("datasets=[{path: c, typ: alpaca}]")
    assert read.key_span("datasets", "0", "typ").file == COMMAND_LINE


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("learning_rate", "not key=value"),
        ("=5", "not key=value"),
        ("a..b=5", "not key=value"),
        (".=5", "not key=value"),
        ("datasets.2.path=x", "no entry 2"),
        ("datasets.-1.path=x", "no entry -1"),
        ("datasets.path=x", "no entry path"),
        ("datasets.0.path.x=1", "plain value"),
        ("learning_rate.x=1", "plain value"),
        ("seed=[", "cannot read"),
        ("seed=!!python/name:os.open x", "cannot read"),
    ],
)
def test_bad_override(override: str, words: str) -> None:
    with pytest.raises(LauncherError) as raised:
        changed(override)
    assert raised.value.exit_code == 2
    assert words in raised.value.message


def test_problems_of_an_override_are_told_at_the_command_line() -> None:
    read = changed("seed=1", "learnig_rate=2", "micro_batch_size=[two,\n 3]", "datasets.0.typ=x")
    problems = [one for one in validate(read) if one.span.file == COMMAND_LINE]
    assert [render_concise(problem, read.texts) for problem in problems] == [
        'command line:2:1: error[S102 unknown-key] unknown key "learnig_rate"'
        ' (did you mean "learning_rate"?)',
        "command line:3:18: error[S103 wrong-type] micro_batch_size is a list of 2;"
        " expected a whole number",
        'command line:4:1: error[S102 unknown-key] unknown key "typ" in datasets[0]'
        ' (did you mean "type"?)',
    ]
    excerpts = [render_text(problem, read.texts).split("\n")[2:4] for problem in problems]
    assert excerpts == [
        ["    2 | learnig_rate=2", "      | ^~~~~~~~~~~~"],
        ["    3 | micro_batch_size=[two,  3]", "      |                  ^~~~~~~~~"],
        ["    4 | datasets.0.typ=x", "      | ^~~~~~~~~~~~~~"],
    ]


def test_a_secret_on_the_command_line_is_not_shown() -> None:
    read = changed("hub_token=correct-horse")
    problems = validate(read)
    assert "R101" in [problem.code for problem in problems]
    for problem in problems:
        assert "correct-horse" not in render_text(problem, read.texts)
