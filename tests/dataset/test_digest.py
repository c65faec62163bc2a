"""Digests of local data: what has changed is told, and no folder is read for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import recipe as recipes
from launcher import source
from launcher.dataset import digest
from launcher.recipe import Recipe


def recipe(place: Path) -> Recipe:
    text = f"base_model: a/b\ndatasets: [{{path: {place}, type: alpaca}}]\n"
    return recipes.from_document(source.parse(text, "my.yaml"))


def test_of_many_large_files_the_ends_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "END", 10)
    monkeypatch.setattr(digest, "WHOLE", 100)
    monkeypatch.setattr(digest, "MOST", 3)
    for name, size in (("a", 90), ("b", 30), ("c/d", 5), ("e", 5)):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(size))
    before = digest.digests(recipe(tmp_path))
    assert [Path(file).name for file in before] == ["a", "b", "e"]
    assert [text[64:] for text in before.values()] == ["", " of both ends, 30 bytes", ""]
    (tmp_path / "a").write_bytes(bytes(50) + b"x" + bytes(39))
    (tmp_path / "b").write_bytes(bytes(29) + b"x")
    after = digest.digests(recipe(tmp_path))
    assert [after[file] == before[file] for file in before] == [False, False, True]
