"""The table of GPUs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from launcher import hardware
from launcher.diagnostics import LauncherError
from launcher.recipe import pack_folder

MEASURED = Path(__file__).parent / "data" / "vram-measured.tsv"


def test_every_gpu_that_a_recipe_may_need_is_known() -> None:
    schema = json.loads((pack_folder("schemas") / "x-recipe.schema.json").read_text())
    names = set(schema["properties"]["needs"]["properties"]["gpu"]["enum"]) - {"none"}
    assert {hardware.find(name).name for name in names} == names


def test_memory_is_what_torch_reported() -> None:
    with MEASURED.open(encoding="utf-8", newline="") as stream:
        cards = {
            float(row["card_gib"])
            for row in csv.DictReader(stream, delimiter="\t")
            if row["card_gib"]
        }
    assert cards == {79.15, 39.4, 23.6, 22.0}
    known = {hardware.find(name).memory for name in ("a100-80gb", "a100-40gb", "rtx4090", "a10g")}
    assert known == cards


def test_the_table_is_plausible() -> None:
    names = [gpu.name for gpu in hardware.GPUS]
    assert len(names) == len(set(names))
    for gpu in hardware.GPUS:
        nominal = "".join(filter(str.isdigit, gpu.name.rpartition("-")[2]))
        if gpu.name.endswith("gb"):
            assert 0.9 * int(nominal) < gpu.memory < int(nominal)
        assert gpu.nvlink is None or gpu.nvlink >= 1.5 * gpu.pcie
        assert gpu.bf16 == (gpu.name not in ("v100-16gb", "v100-32gb", "t4-16gb"))


@pytest.mark.parametrize(("written", "name"), [("H100", "h100-80gb"), ("A100_80GB", "a100-80gb")])
def test_what_people_write_is_understood(written: str, name: str) -> None:
    assert hardware.find(written).name == name


def test_an_unknown_gpu_gets_the_nearest_names() -> None:
    with pytest.raises(LauncherError, match='no GPU "a100-90gb"') as caught:
        hardware.find("a100-90gb")
    assert "a100-80gb" in caught.value.hint
    assert caught.value.exit_code == 2
    with pytest.raises(LauncherError) as caught:
        hardware.find("zzz")
    assert "l40s-48gb" in caught.value.hint
