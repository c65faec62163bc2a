"""Rows of local data files: which are measured, by what columns, and that no file does harm."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.plan.data import files as datafiles
from launcher.plan.data import lengths
from launcher.plan.data.files import spread, table
from launcher.plan.data.lengths import ENDS, OPENING, TURN
from launcher.plan.data.rows import Rows, rows
from launcher.recipe import Recipe, from_document
from launcher.source import parse

tokenizers = pytest.importorskip("tokenizers")

Write = Callable[..., Path]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model's folder whose tokenizer makes a token of each word."""
    model = tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    (tmp_path / "base").mkdir()
    tokenizer.save(str(tmp_path / "base" / "tokenizer.json"))
    return tmp_path / "base"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def lines(*found: Any, name: str = "a.jsonl") -> Path:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in found))
        return tmp_path / name

    return lines


def recipe(*datasets: dict[str, Any], **settings: Any) -> Recipe:
    text = yaml.safe_dump({"datasets": list(datasets), **settings})
    return from_document(parse(text, "my.yaml"))


def known(base: Path, *entries: dict[str, Any], **settings: Any) -> Rows:
    found = rows(recipe(*entries, base_model=str(base), **settings), {})
    assert found is not None
    return found


PLAIN = {"prompt": "a b", "chosen": "c d e", "rejected": "f", "unread": "x " * 50}
CHATS = {
    "messages": [{"role": "user", "content": "a b"}],
    "chosen": {"role": "assistant", "content": "c d e"},
    "rejected": [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "f"}],
}


@pytest.mark.parametrize(
    ("entry", "row", "tokens", "prompt"),
    [
        ({"type": "passthrough"}, PLAIN, 5, 2),
        ({}, PLAIN, 5, 2),
        (
            {"type": {"field_prompt": "q", "field_chosen": "good", "field_rejected": "bad"}},
            {"q": "a b", "good": "c", "bad": "d e f", "chosen": "x " * 50},
            5,
            2,
        ),
        (
            {"type": {"prompt_format": "<s> {system} Q {prompt}", "chosen_format": "{chosen} end"}},
            {**PLAIN, "system": "be brief"},
            10,
            7,
        ),
        ({"type": "chat_template.default"}, CHATS, 5 + 2 * TURN + OPENING, 2 + 2 * TURN + OPENING),
        (
            {
                "type": "chat_template",
                "field_messages": "talk",
                "field_chosen": "good",
                "field_rejected": "bad",
                "message_property_mappings": {"role": "who", "content": "what"},
            },
            {"talk": [{"who": "user", "what": "a"}], "good": "b c", "bad": {"what": "d"}},
            3 + 2 * TURN + OPENING,
            1 + 2 * TURN + OPENING,
        ),
    ],
)
def test_a_pair_is_read_as_its_type_says(
    entry: dict[str, Any], row: dict[str, Any], tokens: int, prompt: int, base: Path, write: Write
) -> None:
    found = known(base, {"path": str(write(row)), **entry}, rl="dpo")
    assert (found.lengths, found.prompts) == ((tokens + ENDS,), (prompt + ENDS,))


@pytest.mark.parametrize(
    ("entry", "row", "tokens"),
    [
        ({"type": "completion"}, {"text": "a b", "other": "c"}, 2),
        ({"type": "completion", "field": "the text"}, {"the text": "a b c"}, 3),
        ({"type": {"field_output": "out"}}, {"instruction": "a b", "input": "c", "out": "d"}, 4),
        ({"type": {"format": "Q {instruction} A"}}, {"instruction": "a", "output": "b"}, 4),
        (
            {"type": "chat_template", "field_messages": "conversations"},
            {"conversations": CHATS["messages"], "system": "be brief", "id": "x " * 50},
            4 + 2 * TURN + OPENING,
        ),
    ],
)
def test_a_row_is_read_as_its_type_says(
    entry: dict[str, Any], row: dict[str, Any], tokens: int, base: Path, write: Write
) -> None:
    found = known(base, {"path": str(write(row)), **entry})
    assert found.lengths == (tokens + ENDS,)
    assert not found.prompts


def test_what_a_type_writes_itself_is_counted(base: Path, write: Write) -> None:
    row = {"instruction": "a b", "output": "c"}
    plain = known(base, {"path": str(write(row)), "type": {}}).lengths[0]
    assert known(base, {"path": str(write(row)), "type": "alpaca"}).lengths[0] > plain + 30


@pytest.mark.parametrize(
    ("entry", "row", "rl"),
    [
        ({"type": "chatml.intel"}, {"question": "a", "chosen": "b"}, "dpo"),
        ({"type": "chatml.intel", "field_chosen": "good"}, {"question": "a", "good": "b"}, "dpo"),
        ({"type": "my.own"}, PLAIN, "dpo"),
        ({"type": "chatml.intel"}, PLAIN, "orpo"),
        ({"type": "alpaca"}, {"instruction": "a"}, None),
        ({"type": "my.own"}, {"instruction": "a", "output": "b"}, None),
        ({"type": "chat_template"}, {"messages": [{"role": "user"}]}, None),
        ({"type": "chat_template"}, {**CHATS, "tools": [{"name": "f"}]}, None),
        ({"type": "chat_template", "chat_template": "jinja"}, CHATS, None),
    ],
)
def test_what_is_not_known_of_a_row_is_not_measured(
    entry: dict[str, Any], row: dict[str, Any], rl: str | None, base: Path, write: Write
) -> None:
    whole = {"instruction": "a", "output": "b", "question": "a", "rejected": "r", **CHATS, **row}
    missing = known(base, {"path": str(write(row)), **entry}, rl=rl)
    assert (missing.count, missing.lengths) == (1, ())
    if entry["type"] in ("alpaca", "chatml.intel") and "field_chosen" not in entry and rl != "orpo":
        both = known(base, {"path": str(write(whole, row)), **entry}, rl=rl)
        assert (both.count, both.lengths) == (2, ())  # one row without is enough


def test_the_rows_of_the_slice_are_measured(base: Path, write: Write) -> None:
    file = write(*({"text": "x " * size} for size in range(1, 101)))
    entry = {"path": str(file), "type": "completion"}
    found = known(base, {**entry, "split": "train[90:]"})
    assert found.lengths == tuple(size + ENDS for size in range(91, 101))
    assert found.complete
    shard = known(base, {**entry, "shards": 10})
    assert (shard.count, len(shard.lengths), shard.complete) == (10, 10, False)


def test_more_rows_than_the_limit_are_sampled_by_weight(
    base: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lengths, "MAX_MEASURED", 100)
    short = write(*({"text": "x"} for _ in range(300)), name="short.jsonl")
    long = write(*({"text": "x y z"} for _ in range(100)), name="long.json")
    entries = [{"path": str(file), "type": "completion"} for file in (short, long)]
    found = known(base, *entries)
    assert not found.complete
    assert found.lengths.count(1 + ENDS) == 75
    assert found.lengths.count(3 + ENDS) == 25
    assert spread(10, 20, 5) == [10, 12, 14, 16, 18]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_large_file_is_estimated_from_its_head(
    suffix: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datafiles, "COUNTED", {".jsonl": 1000, ".csv": 1000})
    monkeypatch.setattr(datafiles, "HEAD", 500)
    line = json.dumps({"text": "x y z"}) if suffix == ".jsonl" else "x y z"
    head = "" if suffix == ".jsonl" else "text\n"
    (tmp_path / f"a{suffix}").write_text(head + f"{line}\n" * 1000)
    entry = {"path": str(tmp_path / f"a{suffix}"), "type": "completion"}
    found = known(base, entry)
    assert found.count == pytest.approx(1000, rel=0.06)
    assert (found.source, found.complete) == ("estimated from its size", False)
    assert set(found.lengths) == {3 + ENDS}
    assert known(base, {**entry, "split": "train[500:600]"}).count == 100


def test_a_json_file_that_is_too_large_is_not_read(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write({"text": "x"}, name="a.json")
    assert table(file) is not None
    monkeypatch.setattr(datafiles, "PARSED", 5)
    assert table(file) is None


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", b"[" * 100_000),
        ("a.json", b"[" * 100_000),
        ("a.json", b'{"a":' * 100_000),
        ("a.jsonl", b"[1]\n"),
        ("a.json", b"[1, 2]"),
        ("a.json", b"7"),
        ("a.jsonl", b"\xff\xfe{}"),
        ("a.csv", b"text\n\xff\n"),
        ("a.jsonl", b""),
        ("a.json", b""),
        ("a.csv", b""),
        ("a.csv", b"text\n"),
        ("a.jsonl", b"\n \n"),
        ("a.json", b"[]"),
        ("a.txt", b"a"),
        ("a.json", b"1" * 5000),
    ],
)
def test_a_file_without_rows_has_none(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    assert rows(recipe({"path": str(tmp_path / name), "type": "completion"}), {}) is None


def test_what_is_no_file_has_no_rows(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").mkdir()
    for name in ("a.jsonl", "b.jsonl", "c.jsonl", "a\0.jsonl", "a" * 5000):
        assert rows(recipe({"path": str(tmp_path / name), "type": "completion"}), {}) is None


def test_hostile_rows_are_counted_but_not_measured(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    entry = {"path": str(file), "type": "completion"}
    file.write_text('{"text": "\\ud800"}\n')
    assert known(base, entry) == Rows(1, "counted")
    file.write_text('{"text": "a"}\nnonsense\n{"text": "a"}\n')
    assert known(base, entry) == Rows(3, "counted")
    file.write_text('{"text": "a"}\n{"text": null}\n')
    assert known(base, entry) == Rows(2, "counted")
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext\n" + b"x " * 100_000 + b"\n")
    found = known(base, {"path": str(tmp_path / "a.csv"), "type": "completion"})
    assert (found.count, found.lengths) == (1, (100_000 + ENDS,))


@pytest.mark.parametrize(
    "change",
    [
        {"split": "train[:10]+train[20:]"},
        {"split": "test"},
        {"split": "train["},
        {"split": "train[:" + "9" * 5000 + "]"},
        {"split": ["train"]},
        {"split": 7},
        {"shards": "x"},
        {"shards": -1},
        {"shards": 2, "shards_idx": "x"},
        {"shards": 2, "shards_idx": 2},
        {"ds_type": "parquet"},
        {"path": 7},
        {"path": None},
    ],
)
def test_an_entry_that_makes_no_sense_has_no_rows(change: dict[str, Any], write: Write) -> None:
    entry = {"path": str(write({"text": "x"})), "type": "completion", **change}
    assert rows(recipe(entry), {}) is None


@pytest.mark.parametrize(
    ("size", "count", "evaluated"),
    [("x", 4, 0), (-1, 4, 0), (-0.5, 4, 0), (9, 0, 4), (float("inf"), 4, 0), (float("nan"), 4, 0)],
)
def test_a_share_that_makes_no_sense(size: Any, count: int, evaluated: int, write: Write) -> None:
    entry = {"path": str(write(*[{"text": "x"}] * 4)), "type": "completion"}
    found = rows(recipe(entry, val_set_size=size), {})
    assert found is not None
    assert (found.count, found.evaluated) == (count, evaluated)


def test_shards_of_nothing_are_the_whole(write: Write) -> None:
    entry = {"path": str(write(*[{"text": "x"}] * 4)), "type": "completion", "shards": 0}
    found = rows(recipe(entry), {})
    assert found is not None
    assert found.count == 4


def test_an_evaluation_of_unknown_size_is_told(write: Write) -> None:
    entry = {"path": str(write({"text": "x"})), "type": "completion"}
    found = rows(recipe(entry, test_datasets=[{"path": "a/b", "type": "completion"}]), {})
    assert found is not None
    assert not found.evaluation_known


@pytest.mark.parametrize(
    "card",
    [
        "dataset_info: {splits: 7}",
        "dataset_info: {splits: [{name: train, num_examples: many}]}",
        "dataset_info: {splits: [{name: train, num_examples: -1}]}",
        "dataset_info: {splits: [{name: train, num_examples: .inf}]}",
        "dataset_info: [{config_name: a, splits: [{name: train, num_examples: 1}]},"
        " {config_name: b, splits: [{name: train, num_examples: 2}]}]",
        "[" * 5000,
    ],
)
def test_a_card_that_does_not_tell(card: str, tmp_path: Path) -> None:
    folder = tmp_path / "datasets--a--b" / "snapshots" / "main"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(f"---\n{card}\n---\n")
    assert rows(recipe({"path": "a/b"}), {"HF_HUB_CACHE": str(tmp_path)}) is None


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 100_000, b'{"model": {}}'])
def test_a_broken_tokenizer_measures_nothing(data: bytes, base: Path, write: Write) -> None:
    (base / "tokenizer.json").write_bytes(data)
    assert known(base, {"path": str(write({"text": "x"})), "type": "completion"}).lengths == ()


@pytest.mark.filterwarnings("ignore")
def test_a_tokenizer_that_fails_on_the_rows_measures_nothing(base: Path, write: Write) -> None:
    entry = {"path": str(write({"text": "x"})), "type": "completion"}
    data = json.loads((base / "tokenizer.json").read_text())
    data["model"]["vocab"] = {"a": 0}  # no [UNK]
    (base / "tokenizer.json").write_text(json.dumps(data))
    assert known(base, entry).lengths == ()
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    data = json.loads(bpe.to_str())
    data["model"]["continuing_subword_prefix"] = "longer than a piece"  # the library panics
    (base / "tokenizer.json").write_text(json.dumps(data))
    assert known(base, entry).lengths == ()


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
names = st.sampled_from(["type", "split", "shards", "shards_idx", "field", "name", "ds_type"])
jsons = st.lists(st.dictionaries(st.sampled_from(["text", "instruction", "output"]), values))


kinds = st.sampled_from(["completion", "alpaca", "chat_template", "chatml.intel", None])


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=200) | jsons.map(lambda found: json.dumps(found).encode()),
    tokenizer=st.none() | st.binary(max_size=50),
    name=st.sampled_from(["a.jsonl", "a.json", "a.csv"]),
    entry=st.tuples(kinds, st.dictionaries(names, values, max_size=3)).map(
        lambda both: {"type": both[0], **both[1]}
    ),
    rl=st.sampled_from([None, "dpo", "kto"]),
)
def test_no_file_and_no_entry_does_harm(
    base: Path,
    data: bytes,
    tokenizer: bytes | None,
    name: str,
    entry: dict[str, Any],
    rl: str | None,
) -> None:
    file = base / name
    file.write_bytes(data)
    model = base if tokenizer is None else base / "broken"
    if tokenizer is not None:
        model.mkdir(exist_ok=True)
        (model / "tokenizer.json").write_bytes(tokenizer)
    made = Recipe(
        "my",
        "my.yaml",
        {"datasets": [{"path": str(file), **entry}], "rl": rl, "base_model": model},
        {},
        {},
    )
    found = rows(made, {})
    assert found is None or (found.count >= 0 and found.source)
