"""Going on from a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from least import codes


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("resume_from_checkpoint: none", ["R151"]),
        ("resume_from_checkpoint: ${RUN}", ["R904"]),
        ("auto_resume_from_checkpoints: true", []),
    ],
)
def test_told(fragment: str, expected: list[str]) -> None:
    assert codes(fragment) == expected


def checkpoint(folder: Path, rank: int | None, step: int, epoch: float) -> str:
    """A recipe that goes on from a checkpoint with these facts."""
    if rank is not None:
        (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": epoch}))
    return f"resume_from_checkpoint: {folder}\n"


def test_another_adapter(tmp_path: Path) -> None:
    text = checkpoint(tmp_path, 8, 10, 0.5)
    lora = "adapter: lora\nlora_target_linear: true\n"
    assert codes(text) == ["R152"]
    assert codes(text + lora + "lora_r: 16") == ["R152"]
    assert codes(text + lora + "lora_r: 8") == []
    assert codes(text + lora + 'lora_r: "8"') == []


def test_no_adapter(tmp_path: Path) -> None:
    assert codes(checkpoint(tmp_path, None, 10, 0.5)) == []


def test_nothing_left(tmp_path: Path) -> None:
    text = checkpoint(tmp_path, None, 10, 1.0)
    assert codes(text + "num_epochs: 1") == ["R153"]
    assert codes(text + "num_epochs: 2") == []
    assert codes(text + "max_steps: 10") == ["R153"]
    assert codes(text + "max_steps: 11") == []


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    text = checkpoint(tmp_path, None, 10, 1.0)
    for name in ("adapter_config.json", "trainer_state.json"):
        (tmp_path / name).write_text("[")
    assert codes(text) == []
