"""The first rows of a recipe's data: out of files of every kind, and what is said without them."""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.dataset.sample import Missing, Sample, first_rows
from launcher.recipe import from_document, load, shipped
from launcher.source import parse

ROWS = [{"instruction": f"q{number}", "output": f"a{number}"} for number in range(100)]
NOWHERE = {"HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]}


def read(entry: Mapping[str, Any], most: int = 3, **environ: str) -> Sample | Missing:
    recipe = from_document(parse(json.dumps({"datasets": [entry]}), "my.yaml"))
    [found] = first_rows(recipe, {**NOWHERE, **environ}, most=most)
    return found


def instructions(found: Sample | Missing) -> list[str]:
    assert isinstance(found, Sample), found
    return [row["instruction"] for row in found.rows]


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


def test_the_first_rows_of_a_file(jsonl: Path) -> None:
    found = read({"path": str(jsonl)})
    assert isinstance(found, Sample)
    assert (found.origin, found.place, found.total) == ("file", str(jsonl), 100)
    assert instructions(found) == ["q0", "q1", "q2"]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train[95%:]", ["q95", "q96", "q97"]),
        ("train[-2:]", ["q98", "q99"]),
        ("train[:2]", ["q0", "q1"]),
    ],
)
def test_those_of_a_slice(jsonl: Path, split: str, expected: list[str]) -> None:
    assert instructions(read({"path": str(jsonl), "split": split})) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "saved", "folder"])
def test_what_takes_the_library(tmp_path: Path, jsonl: Path, kind: str) -> None:
    from datasets import Dataset

    whole = Dataset.from_list(ROWS)
    place = tmp_path / f"data.{kind}"
    if kind == "parquet":
        whole.to_parquet(place)
    elif kind == "saved":
        whole.save_to_disk(place)
    else:
        place.mkdir()
        jsonl.rename(place / "train.jsonl")
    assert instructions(read({"path": str(place), "split": "train"})) == ["q0", "q1", "q2"]


@pytest.mark.slow
def test_a_slice_of_what_takes_the_library(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_list(ROWS).to_parquet(tmp_path / "rows.parquet")
    entry = {"path": str(tmp_path / "rows.parquet"), "split": "train[90:]"}
    assert instructions(read(entry)) == ["q90", "q91", "q92"]
    assert instructions(read({**entry, "split": "train[90:91]"})) == ["q90"]


@pytest.mark.parametrize("text", ["", "{", "[1, 2]\n", '{"a": 1}\n{"a": [}\n', "\x00\xff"])
def test_a_file_without_rows_is_missing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_bytes(text.encode("latin-1"))
    found = read({"path": str(file)})
    if isinstance(found, Sample):  # the library takes what is not a mapping for a text
        assert text == "[1, 2]\n"
        return
    assert found.name == str(file)
    assert found.why
    assert "Traceback" not in found.why


def test_a_file_of_nothing_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    found = read({"path": str(tmp_path / "rows.jsonl")})
    assert isinstance(found, Missing)
    assert found.why == "it has no rows"


@pytest.mark.parametrize("entry", [{"ds_type": "pandas"}, {"path": "pandas"}])
def test_a_pickle_is_not_read(tmp_path: Path, entry: dict[str, str]) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "it-ran",))

    file = tmp_path / "rows.pkl"
    file.write_bytes(pickle.dumps(Harm()))
    found = read({"path": str(file), "data_files": str(file), **entry})
    assert isinstance(found, Missing)
    assert found.why.startswith("no pickle is read here")
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.slow
def test_nothing_is_imported_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("python has no safe path")
    from datasets import Dataset

    Dataset.from_list(ROWS).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "pandas.py").write_text("open('it-ran', 'w')")
    monkeypatch.chdir(tmp_path)
    assert instructions(read({"path": "rows.parquet"})) == ["q0", "q1", "q2"]
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.slow
def test_a_csv_holds_what_the_library_makes_of_it(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("instruction,output\nq0,2\nq1,\n")
    found = read({"path": str(tmp_path / "rows.csv")})
    assert isinstance(found, Sample)
    assert [row["output"] for row in found.rows] == [2.0, None]
    (tmp_path / "rows.csv").write_text("instruction,output\nq0,a\nq1,b,c\nq2,d\n")
    found = read({"path": str(tmp_path / "rows.csv")})
    assert isinstance(found, Missing)
    assert "Expected 2 fields in line 3, saw 3" in found.why


def test_rows_without_an_end_to_their_depth(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": ' + "[" * 500 + "]" * 500 + "}\n")
    found = read({"path": str(tmp_path / "rows.jsonl")})
    assert isinstance(found, Missing)
    assert found.why == "a row is nested deeper than 100 levels"


def test_an_address_that_is_none() -> None:
    environ = {"HF_HUB_OFFLINE": "", "HF_ENDPOINT": "http://["}
    for name in ("someone/rows", "https://[::/rows.json"):
        found = read({"path": name}, **environ)
        assert isinstance(found, Missing)
        assert "Invalid IPv6 URL" in found.why


def test_without_a_network_it_says_so() -> None:
    found = read({"path": "someone/rows"})
    assert found == Missing("datasets", 0, "someone/rows", "HF_HUB_OFFLINE is set")


def test_a_host_that_takes_a_connection_and_says_nothing_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        recipe = from_document(parse('datasets: [{path: "a/b", type: alpaca}]', "my.yaml"))
        environ = {"HF_ENDPOINT": endpoint, "PATH": os.environ["PATH"]}
        [found] = first_rows(recipe, environ, most=3, timeout=3.0)
    assert isinstance(found, Missing)
    assert found.why == "no row within 3 s"


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_rows_stand_for_the_data_of_every_recipe(path: Path) -> None:
    recipe = load(path)
    for key in ("datasets", "test_datasets"):
        for found in first_rows(recipe, NOWHERE, most=50, key=key):
            assert isinstance(found, Sample), found
            assert len(found.rows) >= 30
            assert found.origin == ("shipped" if found.why else "file")


def test_entries_that_are_none_are_passed_over() -> None:
    recipe = from_document(parse("datasets: [7, null, {path: a/b}]", "my.yaml"))
    assert [found.index for found in first_rows(recipe, NOWHERE, most=3)] == [2]
    assert first_rows(from_document(parse("datasets: 7", "my.yaml")), NOWHERE, most=3) == []
