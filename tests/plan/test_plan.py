"""``axr plan`` as a person meets it, and what it proposes held to what it says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Axr, Golden

from launcher import hardware, models
from launcher import recipe as recipes
from launcher.diagnostics import LauncherError
from launcher.hardware import GIB
from launcher.plan import choose, fit
from launcher.plan.check import check
from launcher.plan.compare import offers
from launcher.plan.data.rows import rows
from launcher.plan.forecast import Forecast, Hardware, forecast
from launcher.plan.memory import Verdict
from launcher.plan.variants import BLOCKS, divided, savings, shardings
from launcher.recipe import Recipe

GOLDEN = Path(__file__).parent.parent / "golden" / "plan"
ON_GPUS = [path for path in recipes.shipped() if recipes.load(path).block["needs"]["gpu"] != "none"]
NAMES = [path.stem for path in ON_GPUS]


def loaded(name: str, *overrides: str) -> Recipe:
    return recipes.load(recipes.find(name), overrides)


def facts(recipe: Recipe) -> models.ModelFacts:
    return models.find(str(recipe.value["base_model"]), {})


def machine(kind: str, gpus: int = 1) -> Hardware:
    return Hardware(hardware.find(kind), gpus)


def planned(name: str, place: Hardware, *overrides: str) -> Forecast:
    recipe = loaded(name, *overrides)
    return forecast(recipe, facts(recipe), place, rows(recipe, {}))


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_fits_what_it_says_it_needs(name: str) -> None:
    needs = loaded(name).block["needs"]
    found = planned(name, machine(needs["gpu"], needs["gpus"]))
    assert found.verdict is Verdict.OK
    assert list(check(found)) == []
    assert found.disk.needed / GIB <= needs["disk"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_printed(name: str, axr: Axr, golden: Golden) -> None:
    done = axr("plan", name)
    assert done.returncode == 0, done.stderr
    golden(GOLDEN / f"{name}.txt", done.stdout)


def test_what_is_printed_of_one_that_does_not_fit(axr: Axr, golden: Golden) -> None:
    done = axr("plan", "qwen25-sft", "--gpu", "a100-40gb", "--gpus", "2", "--rows", "935", "--fit")
    assert done.returncode == 1
    golden(GOLDEN / "too-large.txt", done.stdout + done.stderr)


def test_the_machine_form_holds_the_same_numbers(axr: Axr) -> None:
    place = ("--gpu", "a100-80gb", "--gpus", "2", "--rows", "5000")
    done = axr("plan", "llama31-sft-lora", *place, "--json")
    data: dict[str, Any] = json.loads(done.stdout)
    recipe = loaded("llama31-sft-lora")
    found = forecast(recipe, facts(recipe), machine("a100-80gb", 2), rows(recipe, {}, given=5000))
    assert data["verdict"] == "OK"
    assert data["memory_gib"]["allocated"] == pytest.approx(found.memory.allocated / GIB, abs=1e-3)
    assert data["steps"] == found.length.steps
    assert found.hours is not None
    assert data["hours"]["likely"] == pytest.approx(found.hours.likely, abs=1e-3)
    assert data["hours"]["low"] < data["hours"]["likely"] < data["hours"]["high"]
    assert data["batch"]["accumulation"] == 4  # 16 samples a step stay 16 on two GPUs
    phases = data["memory_gib"]["phases"]
    assert sum(phases[data["memory_gib"]["peak"]].values()) == pytest.approx(
        data["memory_gib"]["allocated"], abs=0.01
    )
    assert all(one["usd"] > 0 for one in data["costs"])
    text = axr("plan", "llama31-sft-lora", *place).stdout
    total = data["memory_gib"]["allocated"] + data["memory_gib"]["context"]
    assert f"{total:.1f} GiB of" in text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("llama31-sft-lora", "rtx4090-24gb"),
        ("llama31-dpo-lora", "rtx4090-24gb"),
        ("qwen25-dpo", "a100-40gb"),
        ("qwen25-sft", "h200"),
    ],
)
def test_what_fit_proposes_makes_it_fit(name: str, kind: str, axr: Axr, tmp_path: Path) -> None:
    done = axr("plan", name, "--gpu", kind, "--gpus", "1", "--fit")
    assert "to write into the recipe" in done.stderr
    proposal = done.stdout[done.stdout.index("of memory on each node") :].split("\n", 1)[1]
    changed = {**loaded(name).value, **yaml.safe_load(proposal)}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
    again = axr("plan", "mine.yaml", "--gpu", kind, "--gpus", "1", "--json")
    assert json.loads(again.stdout)["verdict"] == "OK", again.stderr


def test_a_saving_saves_what_it_says() -> None:
    recipe = loaded("qwen25-dpo")
    place = machine("a100-80gb")
    for saving in fit.each(recipe, facts(recipe), place, None):
        (change,) = saving.changes
        after = forecast(change.applied(recipe), facts(recipe), place, None)
        assert saving.bytes == saving.before.memory.allocated - after.memory.allocated > 0
        assert not {"x-recipe", "datasets", "learning_rate", "rl"} & change.settings.keys()


def test_changes_keep_the_samples_of_a_step() -> None:
    for name in NAMES:
        recipe = loaded(name)
        size = forecast(recipe, facts(recipe), machine("a100-80gb"), None).length.samples_a_step
        for change in savings(recipe, facts(recipe)):
            after = forecast(change.applied(recipe), facts(recipe), machine("h200"), None)
            assert after.length.samples_a_step == size, (name, change)


def test_the_fastest_way_that_fits_is_chosen() -> None:
    recipe = loaded("qwen25-sft")
    every = choose.allowed(recipe, facts(recipe))
    assert [way.name for way in every] == ["DDP", "ZeRO-1", "ZeRO-2", "ZeRO-3", "FSDP2"]
    small = choose.ways(recipe, facts(recipe), machine("a100-40gb", 4), None, every)
    best = choose.best(small)
    assert best.forecast.verdict is Verdict.OK
    assert "needs" in choose.reason(best, small)
    large = choose.ways(recipe, facts(recipe), machine("b200-180gb", 4), None, every)
    fastest = min(way.forecast.seconds_a_sample for way in large)
    assert choose.best(large).forecast.seconds_a_sample <= choose.HARDLY * fastest
    # What divides more, and is hardly faster, is not taken.
    first = next(way for way in large if way.forecast.seconds_a_sample <= choose.HARDLY * fastest)
    assert choose.best(large) is first
    none = choose.ways(recipe, facts(recipe), machine("t4-16gb", 2), None, every)
    assert "none fits" in choose.reason(choose.best(none), none)


def test_a_way_that_axolotl_refuses_is_no_choice() -> None:
    recipe = loaded("llama31-dpo-qlora")
    names = [way.name for way in choose.allowed(recipe, facts(recipe))]
    assert "ZeRO-3" not in names
    assert "FSDP2" not in names
    assert "ZeRO-2" in names


def test_every_supported_model_has_a_block_to_wrap() -> None:
    assert BLOCKS.keys() == set(models.SUPPORTED)
    transformers = pytest.importorskip("transformers")
    for architecture, name in BLOCKS.items():
        module = getattr(transformers.models, architecture)
        assert hasattr(getattr(module, f"modeling_{architecture}"), name)
    assert len({way.name for way in shardings(facts(loaded("qwen25-sft")))}) == 5


def test_offers_are_the_cheapest_first_and_all_fit() -> None:
    recipe = loaded("llama31-sft-lora")
    found = offers(recipe, facts(recipe), rows(recipe, {}, given=10_000))
    priced = [offer.usd for offer in found if offer.usd is not None]
    assert len(priced) >= 8
    assert priced == sorted(priced)
    assert {offer.way.forecast.verdict for offer in found} == {Verdict.OK}
    assert {offer.way.forecast.length.samples_a_step for offer in found} == {16}
    own = ["h200=0.01", "runpod-secure=0.02"]
    cheaper = offers(recipe, facts(recipe), rows(recipe, {}, given=10_000), own)
    usd = {offer.hardware.gpu.name: offer.price and offer.price.usd for offer in cheaper}
    assert (usd["h200"], usd["a100-80gb"], usd["b200-180gb"]) == (0.01, 0.02, None)


def test_a_whole_machine_is_paid_for() -> None:
    recipe = loaded("llama31-sft-qlora")
    found = offers(recipe, facts(recipe), rows(recipe, {}, given=10_000))
    one = next(o for o in found if o.hardware == machine("a100-40gb", 1))
    assert one.price is not None
    assert one.price.gpus == 1  # AWS has a lower price a GPU, for eight of them
    eight = next(o for o in found if o.hardware == machine("a100-40gb", 8))
    assert eight.price is not None
    assert eight.price.gpus == 8


@pytest.mark.parametrize(
    ("args", "following"),
    [
        (("qwen25-dpo",), "axr train qwen25-dpo --dry-run"),
        (("qwen25-dpo", "seed=7"), "axr train qwen25-dpo seed=7 --dry-run"),
        (
            ("qwen25-dpo", "--gpu", "l4", "--rows", "9"),
            "axr plan qwen25-dpo --gpu l4 --rows 9 --fit",
        ),
    ],
)
def test_what_to_type_next(args: tuple[str, ...], following: str, axr: Axr) -> None:
    assert axr("plan", *args).stderr.strip().endswith(f"next: {following}")


def test_the_cheapest_offer_is_what_to_type_next(axr: Axr) -> None:
    typed = axr("plan", "llama31-sft-lora", "--compare").stderr.partition("next: axr ")[2].split()
    done = axr(*typed, "--json")
    assert json.loads(done.stdout)["verdict"] == "OK", done.stderr


def test_the_batch_is_divided_by_a_smaller_micro_batch_or_not_at_all() -> None:
    recipe = loaded("llama31-sft-lora")  # 16 samples a step, 2 a GPU
    assert [
        (change and dict(change.settings)) for change in (divided(recipe, n) for n in (8, 16, 3))
    ] == [
        {},
        {"micro_batch_size": 1},
        None,
    ]


def test_distributed_auto_lets_train_spread_the_run(axr: Axr, tmp_path: Path) -> None:
    text = recipes.find("qwen25-sft").read_text(encoding="utf-8")
    auto = text.replace("  global_batch_size:", "  distributed: auto\n  global_batch_size:")
    (tmp_path / "auto.yaml").write_text(auto, encoding="utf-8")
    done = axr("train", "auto.yaml", "--gpus", "4", "--dry-run")
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout.split("<<'RESOLVED'\n")[1].split("\nRESOLVED")[0])
    recipe = recipes.load(tmp_path / "auto.yaml")
    ways = choose.ways(
        recipe, facts(recipe), machine("a100-80gb", 4), None, choose.allowed(recipe, facts(recipe))
    )
    chosen = choose.best(ways).change.settings
    assert {key: resolved.get(key) for key in chosen} == dict(chosen)
    assert "distributed: auto" in done.stderr
    # On one GPU nothing is spread, whatever the file says.
    one = axr("train", "auto.yaml", "--gpus", "1", "--dry-run")
    assert one.returncode == 0, one.stderr
    assert "deepspeed" not in yaml.safe_load(
        one.stdout.split("<<'RESOLVED'\n")[1].split("\nRESOLVED")[0]
    )


@pytest.mark.parametrize("gpus", [1, 2, 4])
@pytest.mark.parametrize("name", ["llama31-dpo-lora", "llama31-sft-qlora", "qwen25-sft", "auto"])
def test_train_says_the_same_as_plan(name: str, gpus: int, axr: Axr, tmp_path: Path) -> None:
    text = recipes.find("qwen25-sft").read_text(encoding="utf-8")
    auto = text.replace("  global_batch_size:", "  distributed: auto\n  global_batch_size:")
    (tmp_path / "auto.yaml").write_text(auto, encoding="utf-8")
    found = json.loads(axr("plan", name, "--gpus", gpus, "--json").stdout)
    trained = axr("train", name, "--gpus", gpus, "--dry-run").stderr
    need = found["memory_gib"]["allocated"] + found["memory_gib"]["context"]
    said = re.search(r"plan +([\d.]+) GiB of ([\d.]+): (\w+)", trained)
    assert said, trained
    assert float(said[1]) == pytest.approx(need, abs=0.06)
    assert said[3] == found["verdict"]
    assert ("P101 does-not-fit" in trained) == (found["verdict"] == "NO")


@pytest.mark.parametrize(
    ("args", "words", "code"),
    [
        (("qwen25-dpo", "--gpu", "a100-80"), 'no GPU "a100-80"', 2),
        (("qwen25-dpo", "--gpus", "0"), "0 is not in the range", 2),
        (("qwen25-dpo", "--rows", "-1"), "-1 is not in the range", 2),
        (("qwen25-dpo", "--price", "cheap"), "neither a number", 2),
        (("qwen25-dpo", "--price", "runpod=nan"), "is not a price", 2),
        (("smollm2-dpo",), "smollm2-dpo runs on a CPU", 2),
        (("qwen25-dpo", "base_model=nobody/nothing"), "is not known here", 1),
        (("gpt2-sft-alpaca", "sequence_len=2048"), "1024 positions", 1),
        (("qwen25-dpo", "optimizer=muon"), "no memory formula for optimizer: muon", 1),
        (("qwen25-sft", "--gpus", "3"), "does not divide", 1),
        (("no-such-recipe",), 'no recipe "no-such-recipe"', 2),
        (("qwen25-dpo", "learning_rate=x"), "S103", 1),
        (("phi3-sft-lora", "--gpu", "t4-16gb"), "bf16", 1),
        (("qwen25-sft", "--nodes", "3"), "4 GPUs do not divide among 3 nodes", 2),
        (("qwen25-sft", "--gpus", "3", "learning_rate=1.0e-5"), "does not divide", 1),
        (("qwen25-sft", "--compare", "--gpus", "2"), "without --gpus", 2),
        (("qwen25-sft", "--compare", "--price", "1.79"), "a100-80gb=1.79", 2),
        (("phi3-sft-lora", "sequence_len=32768"), "P103 beyond-the-context", 1),
    ],
)
def test_bad_input_is_told(args: tuple[str, ...], words: str, code: int, axr: Axr) -> None:
    done = axr("plan", *args)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == code


def test_an_architecture_without_formulas_is_refused_with_its_reason(
    axr: Axr, tmp_path: Path
) -> None:
    for kind in ("mixtral", "gemma3", "qwen2_vl", "lfm2", "nonsense"):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "hidden_size": 8}))
        done = axr("plan", "qwen25-dpo", f"base_model={tmp_path}")
        assert done.returncode == 1
        assert f"no formulas for model_type {kind}" in done.stderr
    for text in ("", "[]", "{", '{"model_type": "llama"}'):
        (tmp_path / "config.json").write_text(text)
        done = axr("plan", "qwen25-dpo", f"base_model={tmp_path}")
        assert done.returncode in (1, 3)
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr


def test_more_rows_take_longer_and_cost_more() -> None:
    recipe = loaded("llama31-sft-lora")
    few, many = (
        forecast(recipe, facts(recipe), machine("a100-80gb"), rows(recipe, {}, given=count))
        for count in (1_000, 10_000)
    )
    assert few.hours
    assert many.hours
    assert many.hours.likely == pytest.approx(10 * few.hours.likely, rel=0.05)


def test_measured_lengths_lower_memory_and_time() -> None:
    recipe = loaded("llama31-dpo-lora")
    bound = rows(recipe, {}, given=1_000)
    assert bound is not None
    short = replace(bound, lengths=(200,) * 900 + (400,) * 100)
    with_bound, with_lengths = (
        forecast(recipe, facts(recipe), machine("a100-80gb"), one) for one in (bound, short)
    )
    assert with_lengths.memory.allocated < with_bound.memory.allocated
    assert with_lengths.hours
    assert with_bound.hours
    assert with_lengths.hours.likely < with_bound.hours.likely / 2
    assert with_lengths.length.measured


def test_a_batch_that_cannot_be_kept_names_the_nearest() -> None:
    with pytest.raises(LauncherError) as raised:
        planned("llama31-sft-lora", machine("a100-80gb", 3))
    assert raised.value.message == "global_batch_size 16 does not divide by 2 a GPU x 3 GPUs"
    assert raised.value.hint == "x-recipe.global_batch_size=12 or 18"
