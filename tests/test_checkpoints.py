"""A checkpoint that a save left half-written is told from a whole one, wherever it was cut."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.checkpoints import checkpoints, fault

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as transformers writes it, by the libraries that it writes it with."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("model") / "checkpoint-20"
    folder.mkdir()
    weights = {"a": torch.arange(64.0), "b": torch.ones(3, 5, dtype=torch.bfloat16)}
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.save({"state": torch.zeros(100)}, folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 20, "log_history": []}))
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model" / whole.name))


def test_a_whole_one_has_no_fault(copy: Path) -> None:
    assert fault(copy) == ""


FILES = (
    "adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
    "training_args.bin",
)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_is_a_fault(copy: Path, name: str, share: float) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: int(len(data) * share)])
    assert name in fault(copy)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adapter_model.safetensors", "the weights are missing"),
        ("optimizer.pt", "save_only_model"),
        ("scheduler.pt", "schedule's state is missing"),
        ("rng_state.pth", "random generators"),
        ("trainer_state.json", "written last"),
    ],
)
def test_so_is_one_that_is_missing(copy: Path, name: str, words: str) -> None:
    (copy / name).unlink()
    assert words in fault(copy)


@pytest.mark.parametrize("header", [b"[{}]", b'{"a": 5}', b'{"a": {}}', b"5", b"[" * 9999])
def test_so_is_a_header_of_another_form(copy: Path, header: bytes) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(len(header).to_bytes(8, "little") + header)
    assert fault(copy) == "model.safetensors is cut short"


def test_a_part_that_the_index_names_must_be_there(copy: Path) -> None:
    (copy / "adapter_model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": parts}))
    assert fault(copy) == "model-00002-of-00002.safetensors is missing"
    index.write_text(index.read_text()[:20])
    assert fault(copy) == "model.safetensors.index.json is cut short"


def _deepspeed(folder: Path) -> Path:
    inner = folder / "global_step20"
    inner.mkdir()
    shutil.move(folder / "optimizer.pt", inner / "mp_rank_00_model_states.pt")
    name = "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    shutil.copy(inner / "mp_rank_00_model_states.pt", inner / name)
    (folder / "latest").write_text("global_step20")
    return inner / name


def _fsdp(folder: Path) -> Path:
    (folder / "optimizer.pt").unlink()
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        (folder / name).mkdir()
        (folder / name / ".metadata").write_bytes(b"x")
    return folder / "optimizer_0" / ".metadata"


@pytest.mark.parametrize("layout", [_deepspeed, _fsdp])
def test_what_each_rank_writes_is_looked_at(copy: Path, layout: Callable[[Path], Path]) -> None:
    last = layout(copy)
    assert fault(copy) == ""
    data = last.read_bytes()
    last.write_bytes(data[: len(data) // 2])
    if layout is _fsdp:
        last.unlink()
    assert fault(copy) != ""


def test_a_folder_that_deepspeed_never_wrote(copy: Path) -> None:
    (copy / "latest").write_text("global_step20")
    assert fault(copy) == 'the folder "global_step20" that DeepSpeed wrote is missing'


def test_what_cannot_be_read_is_not_whole(copy: Path) -> None:
    (copy / "latest").symlink_to("/proc/self/mem")  # a regular file that has nothing at its start
    assert fault(copy) == "it cannot be read: Input/output error"


def test_the_newest_comes_first_and_each_says_its_fault(copy: Path) -> None:
    model = copy.parent
    for name in ("checkpoint-3", "checkpoint-100", "checkpoint-x", "checkpoint-"):
        (model / name).mkdir()
    (model / "checkpoint-7").write_text("")
    found = [(one.step, bool(one.fault)) for one in checkpoints(model)]
    assert found == [(100, True), (20, False), (3, True)]
    assert checkpoints(model / "none") == []


def test_one_that_was_renamed_is_none(copy: Path) -> None:
    renamed = copy.rename(copy.parent / "checkpoint-40")
    assert fault(renamed) == "its trainer_state.json is of step 20"
