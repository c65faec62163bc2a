"""Prices: the shipped table, what a user puts in its place, what a run costs."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from launcher import hardware
from launcher.diagnostics import LauncherError
from launcher.plan import prices as table
from launcher.plan.prices import Price, cost, load, prices, shipped

HEADER = "\t".join(table.COLUMNS)
ROW = "mine\ta100-80gb\t1\ton-demand\t1.5\t2026-11-01\thttps://example.com\t"


def written(folder: Path, *lines: str) -> Path:
    file = folder / "prices.tsv"
    file.write_text("\n".join((HEADER, *lines)) + "\n", encoding="utf-8")
    return file


def test_every_shipped_price_has_a_source_and_an_age() -> None:
    found = shipped()
    assert len(found) >= 25
    keys = [(price.provider, price.gpu, price.gpus, price.kind) for price in found]
    assert len(set(keys)) == len(keys)
    assert all(price.source and 0.5 < price.usd < 20 for price in found)
    known = {(price.provider, price.gpu, price.kind) for price in found if price.as_of}
    for price in found:  # without a date only where nothing better was found
        assert price.as_of or (price.provider, price.gpu, price.kind) not in known


def test_the_cheapest_comes_first() -> None:
    found = prices("a100")
    assert {price.gpu for price in found} == {"a100-80gb"}
    assert [price.usd for price in found] == sorted(price.usd for price in found)
    assert found[0].provider == "runpod-community"
    assert {price.kind for price in prices("h100")} == {"on-demand", "spot", "reserved"}
    assert prices("t4") == []


def test_a_run_is_billed_from_the_start_in_whole_instances() -> None:
    one = Price("x", "a100-80gb", 1, "on-demand", 2.0)
    eight = Price("y", "a100-80gb", 8, "on-demand", 3.0)
    assert cost(1.0, 2, one) == pytest.approx(2 * 2 * 1.25)
    assert cost(1.0, 2, one, start_minutes=0) == pytest.approx(4)
    assert cost(1.0, 2, eight, start_minutes=30) == pytest.approx(8 * 3 * 1.5)
    assert cost(1.0, 9, eight, start_minutes=0) == pytest.approx(16 * 3)
    assert (eight.rented(8), eight.rented(9)) == (8, 16)
    with pytest.raises(ValueError, match="0 GPUs"):
        cost(1.0, 0, one)


def test_one_amount_stands_for_all() -> None:
    assert prices("a100-80gb", ["1.25"]) == [Price("yours", "a100-80gb", 1, "on-demand", 1.25)]
    assert [price.usd for price in prices("t4", ["0"])] == [0.0]  # a machine of one's own


def test_an_amount_for_a_provider_replaces_its_rows() -> None:
    found = prices("a100-80gb", ["runpod=0.99"])
    assert found[0] == Price("runpod", "a100-80gb", 1, "on-demand", 0.99)
    assert not [price for price in found if price.provider.startswith("runpod-")]
    assert len(found) > 3
    assert prices("a100-80gb", ["vast=9", "Vast=0.5"])[0].usd == 0.5


def test_a_file_adds_its_rows(tmp_path: Path) -> None:
    file = written(tmp_path, ROW, "", "aws\ta100-80gb\t8\tspot\t1.0\tunknown\t\t")
    found = prices("a100-80gb", [str(file)], gpus=8)
    assert [price.provider for price in found][:1] == ["aws"]
    assert [price.usd for price in found if price.provider == "aws"] == [1.0]
    mine = next(price for price in found if price.provider == "mine")
    assert mine.as_of == date(2026, 11, 1)
    assert [price.provider for price in prices("h100", [str(file)])].count("aws") == 1


def test_the_last_columns_may_be_left_out(tmp_path: Path) -> None:
    file = tmp_path / "p.tsv"
    file.write_text("provider\tgpu\tgpus\tkind\tusd_per_gpu_hour\nme\tl4\t1\tspot\t0.3\n")
    assert load(file) == (Price("me", "l4-24gb", 1, "spot", 0.3),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (ROW.replace("1.5", "cheap"), 'usd_per_gpu_hour "cheap"'),
        (ROW.replace("1.5", "-1"), 'usd_per_gpu_hour "-1"'),
        (ROW.replace("1.5", "nan"), 'usd_per_gpu_hour "nan"'),
        (ROW.replace("1.5", ""), 'usd_per_gpu_hour ""'),
        (ROW.replace("a100-80gb", "a100-60gb"), 'no GPU "a100-60gb"'),
        (ROW.replace("2026-11-01", "1 November"), 'as_of "1 November"'),
        (ROW.replace("2026-11-01", "2026-13-01"), 'as_of "2026-13-01"'),
        (ROW.replace("\t1\t", "\t0\t"), 'gpus "0"'),
        (ROW.replace("on-demand", "free"), 'kind "free"'),
        (ROW.replace("mine", ""), 'provider ""'),
        ("mine\ta100-80gb", 'kind ""'),
    ],
)
def test_what_is_wrong_in_a_table_is_named_with_its_line(
    tmp_path: Path, line: str, message: str
) -> None:
    file = written(tmp_path, ROW, line)
    with pytest.raises(LauncherError) as caught:
        load(file)
    assert caught.value.message == f"{file}:3: {message}"
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "override", ["runpod=", "runpod=x", "-1", "inf", "nope.tsv", "=1", "", "a=-2"]
)
def test_what_is_no_price_is_refused(override: str) -> None:
    with pytest.raises(LauncherError, match="--price") as caught:
        prices("a100-80gb", [override])
    assert caught.value.exit_code == 2


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("base_model: x\n")
    with pytest.raises(LauncherError, match=":1: no column provider") as caught:
        prices("a100-80gb", [str(file)])
    assert "tab" in caught.value.hint
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LauncherError, match="cannot be read"):
        load(file)


def test_an_unknown_gpu_is_refused() -> None:
    with pytest.raises(LauncherError, match="no GPU"):
        prices("a1000")


def test_prices_are_of_gpus_that_the_plan_knows() -> None:
    assert {price.gpu for price in shipped()} <= {gpu.name for gpu in hardware.GPUS}
