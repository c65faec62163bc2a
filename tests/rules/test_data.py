"""Where the data is, and how its rows are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from least import codes, problems


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("datasets: [{type: alpaca}]", ["R401"]),
        ('datasets: [{path: "", type: alpaca}]', ["R401"]),
        ("datasets: [{type: _synthetic}]", []),
        ("datasets: [{path: ./none.jsonl, type: alpaca}]", ["R402"]),
        ("datasets: [{path: a/b/c.jsonl, type: alpaca}]", ["R402"]),
        ("datasets: [{path: my rows, type: alpaca}]", ["R402"]),
        ('datasets: [{path: "http://host/rows.jsonl", type: alpaca}]', ["R402"]),
        ('datasets: [{path: "https://host/rows.jsonl", type: alpaca}]', []),
        ('datasets: [{path: "s3://bucket/rows.jsonl", type: alpaca}]', []),
        ("datasets: [{path: squad, type: alpaca}]", []),
        ("datasets: [{path: my-org/rows, type: alpaca}]", []),
        ("datasets: [{path: recipes/data/concise-pairs.jsonl, type: alpaca}]", []),
        ("pretraining_dataset: [{path: ./none.jsonl, type: pretrain}]\nmax_steps: 1", ["R402"]),
        ("datasets: [{path: rows.jsonl, type: alpaca}]", ["R406"]),
        ("datasets: [{path: data/rows.parquet, type: alpaca}]", ["R406"]),
        ("datasets: [{path: my-org/rows, type: alpacca}]", ["R403"]),
        ("datasets: [{path: my-org/rows, type: sharegpt}]", ["R403"]),
        ('datasets: [{path: my-org/rows, type: "alpaca:chatx"}]', ["R403"]),
        ('datasets: [{path: my-org/rows, type: "alpaca:chat"}]', []),
        ("datasets: [{path: my-org/rows, type: no_such_module.mine}]", ["R403"]),
        (
            "datasets: [{path: my-org/rows, type: {field_instruction: q, field_output: a, "
            'format: "{instruction}"}}]',
            [],
        ),
        ("rl: dpo\ndatasets: [{path: my-org/rows, type: chatml.intell}]", ["R403"]),
        ("rl: dpo\ndatasets: [{path: my-org/rows, type: chatlm.intel}]", ["R403"]),
        ("rl: dpo\ndatasets: [{path: my-org/rows, type: chatml.intel}]", []),
        ("rl: orpo\ndatasets: [{path: my-org/rows, type: chat_template.argilla}]", []),
        ("rl: dpo\ndatasets: [{path: my-org/pairs}]", ["R404"]),
        ("rl: kto\nremove_unused_columns: false\ndatasets: [{path: my-org/pairs}]", ["R404"]),
        ("skip_prepare_dataset: true\ndatasets: [{path: my-org/rows}]", []),
        ("datasets: [{path: my-org/rows, type: alpaca, split: all}]", []),
        ("datasets: [{path: my-org/rows, type: alpaca, split: 'train[-10:]'}]", []),
        ("datasets: [{path: my-org/rows, type: alpaca, split: 'train[10]'}]", ["R408"]),
        ("datasets: [{path: my-org/rows, type: alpaca, split: 'train + '}]", ["R408"]),
        ("datasets: [{path: my-org/rows, type: completion}]", []),
        ("datasets: [{path: my-org/rows, type: alpaca, field_messages: turns}]", ["R405"]),
        ("datasets: [{path: my-org/rows, type: chat_template, field_messages: turns}]", []),
        ("datasets: [{path: my-org/rows, type: alpaca, split: train, name: a}]", []),
        ("datasets: [{path: my-org/rows, type: alpaca, nonsense: turns}]", ["S102"]),
        ('special_tokens: {eot_tokens: ["<|im_end|>"]}', ["S102"]),
    ],
)
def test_told(fragment: str, expected: list[str]) -> None:
    assert codes(fragment) == expected


TESTED = """\
rl: dpo
eval_steps: 10
test_datasets: [{path: my-org/test, type: chat_template.default%s}]
"""


@pytest.mark.parametrize(
    ("more", "expected"),
    [("", []), (", field_chosen: best", ["R407"]), (", split: test", [])],
)
def test_test_rows(more: str, expected: list[str]) -> None:
    assert codes(TESTED % more) == expected


def test_more_test_rows_than_training_rows() -> None:
    entry = "{path: my-org/test, type: chat_template.default}"
    text = f"rl: dpo\neval_steps: 10\ntest_datasets: [{entry}, {entry}]"
    assert codes(text) == ["R407"]
    assert codes(text.replace("rl: dpo\n", "").replace(".default", "")) == []


def test_a_file_is_found_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}")
    (tmp_path / "mine.py").write_text("")
    assert codes("datasets: [{path: rows.jsonl, type: alpaca}]") == []
    assert codes("datasets: [{path: ./rows.jsonl, type: alpaca}]") == []
    assert codes("rl: dpo\ndatasets: [{path: my-org/rows, type: mine.pairs}]") == ["R102"]


def test_the_hint_of_an_unknown_type() -> None:
    (problem,) = problems("datasets: [{path: my-org/rows, type: alpacca}]")
    assert problem.hint == 'did you mean "alpaca"?'
    (problem,) = problems("rl: dpo\ndatasets: [{path: my-org/rows, type: chatlm.intel}]")
    assert problem.hint == 'did you mean "chatml.intel"?'
