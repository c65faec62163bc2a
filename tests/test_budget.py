"""What a run may cost: the cap in hours, the price that it rests on, what is said before it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from launcher import budget as budgets
from launcher import hardware, models, recipe
from launcher.budget import Budget, Rent
from launcher.diagnostics import LauncherError
from launcher.plan.forecast import Forecast, Hardware, forecast
from launcher.plan.prices import Price
from launcher.recipe import Recipe

A100 = "a100-80gb"
MINE = Rent(Price("yours", A100, 1, "on-demand", 2.0), 8)


@pytest.fixture(scope="module")
def known() -> Recipe:
    return recipe.load(recipe.find("qwen25-dpo"))


@pytest.fixture(scope="module")
def found() -> Forecast:
    """A forecast of some hours."""
    longer = recipe.load(recipe.find("qwen25-dpo"), ["max_steps=20000"])
    facts = models.find(str(longer.value["base_model"]), {})
    made = forecast(longer, facts, Hardware(hardware.find(A100)), None)
    assert made.hours is not None
    assert made.hours.likely > 1
    return made


@pytest.mark.parametrize(
    ("budget", "rent", "limit"),
    [
        (Budget(), None, None),
        (Budget(hours=3), None, 3),
        (Budget(usd=32), MINE, 2),
        (Budget(hours=1.5, usd=32), MINE, 1.5),
        (Budget(hours=2.5, usd=32), MINE, 2),
    ],
)
def test_the_tighter_cap_counts(budget: Budget, rent: Rent | None, limit: float | None) -> None:
    assert budget.limit(rent) == limit


@pytest.mark.parametrize("rent", [None, Rent(Price("yours", A100, 1, "on-demand", 0.0), 1)])
def test_money_needs_a_price(rent: Rent | None) -> None:
    with pytest.raises(LauncherError, match="no price is known") as raised:
        Budget(usd=20).limit(rent)
    assert "--price" in raised.value.hint


def test_what_earlier_starts_took_is_part_of_the_budget() -> None:
    assert budgets.left(Budget(hours=3), None, 1.0) == 2
    assert budgets.left(Budget(), None, 100.0) is None
    with pytest.raises(LauncherError, match=r"budget of 32.00 USD is spent: it has had 2.50 h"):
        budgets.left(Budget(usd=32), MINE, 2.5)


def test_a_stop_leaves_time_to_save() -> None:
    assert budgets.stops_after(10) == 10 * 3600 - 180
    assert budgets.stops_after(0.1) == pytest.approx(0.09 * 3600)


def test_flags_win_over_the_recipe(known: Recipe) -> None:
    allowed = ["x-recipe.budget.hours=3", "x-recipe.budget.usd=20"]
    own = recipe.load(recipe.find("qwen25-dpo"), allowed)
    assert budgets.budget(own, None, None) == Budget(3, 20)
    assert budgets.budget(own, 5.0, None) == Budget(5, 20)
    assert budgets.budget(own, None, 7.5) == Budget(3, 7.5)
    assert budgets.budget(known, None, None) == Budget()


def test_the_price_is_that_of_whose_machine_it_is() -> None:
    here = budgets.rent(A100, 2, (), {"RUNPOD_POD_ID": "abc"})
    elsewhere = budgets.rent(A100, 2, (), {})
    given = budgets.rent(A100, 2, ("1.5",), {"RUNPOD_POD_ID": "abc"})
    assert here
    assert elsewhere
    assert given
    assert here.price.provider == "runpod-secure"  # the dearer of its two
    assert not here.assumed
    assert elsewhere.assumed
    assert elsewhere.usd_an_hour <= here.usd_an_hour
    assert (given.usd_an_hour, given.assumed) == (3.0, False)


@pytest.mark.parametrize(
    ("given", "here", "price"),
    [
        (("runpod=5",), "RUNPOD_POD_ID", "runpod, 5.00 USD"),
        (("runpod=5",), "", "runpod, 5.00 USD"),  # who says so rents there
        (("vast=0.1", "runpod=5"), "RUNPOD_POD_ID", "runpod, 5.00 USD"),
        (("vast=0.1", "runpod=5"), "", "vast, 0.10 USD"),
        (("h200=3",), "RUNPOD_POD_ID", "runpod-secure, "),  # another kind than is here
        (("a100-80gb=4",), "RUNPOD_POD_ID", "yours, 4.00 USD"),
    ],
)
def test_a_price_that_is_given_for_a_provider_is_not_passed_over_for_a_lower_one(
    given: tuple[str, ...], here: str, price: str
) -> None:
    rent = budgets.rent(A100, 1, given, {here: "abc"})
    assert rent
    assert not rent.assumed
    assert str(rent).startswith(price)


def test_a_price_for_another_kind_of_gpu_leaves_this_one_assumed() -> None:
    rent = budgets.rent(A100, 1, ("h200=3",), {})
    assert rent
    assert rent.assumed


def test_whole_instances_are_paid_for() -> None:
    eight = Price("lambda", A100, 8, "on-demand", 2.79, date(2026, 11, 9))
    assert Rent(eight, 2).usd_an_hour == pytest.approx(8 * 2.79)
    assert str(Rent(eight, 2)) == "lambda, 2.79 USD a GPU and hour, of 2026-11-09"


def test_a_machine_without_gpus_has_the_price_that_is_given() -> None:
    assert budgets.rent(None, 1, (), {}) is None
    rent = budgets.rent(None, 1, ("0.25",), {})
    assert rent
    assert rent.usd_an_hour == 0.25
    with pytest.raises(LauncherError, match="is not a price"):
        budgets.rent(None, 1, ("lots",), {})


def test_a_forecast_over_the_budget_is_told_with_the_step_and_the_flag(
    known: Recipe, found: Forecast
) -> None:
    assert found.hours is not None
    half = Budget(hours=round(found.hours.likely / 2, 4))
    [told] = budgets.check(known, half, MINE, found, 0.0)
    assert told.code == "L304"
    assert f"its budget is {half}: it will be stopped before its end" in told.message
    steps = found.length.steps
    assert steps is not None
    near = int(told.message.partition("near step ")[2].split()[0].replace(",", ""))
    assert near == pytest.approx(steps / 2, rel=0.001)
    enough = float(told.hint.split()[-1])
    assert told.hint.startswith("--max-hours ")
    assert [*budgets.check(known, Budget(hours=enough), MINE, found, 0.0)] == []


def test_a_step_that_is_done_is_not_called_the_end(known: Recipe, found: Forecast) -> None:
    """What is left may cost more than is left of the budget, of which half is used."""
    assert found.hours is not None
    half = Budget(hours=found.hours.likely / 2)
    [told] = budgets.check(known, half, MINE, found, 0.6)
    assert "near step" not in told.message


def test_a_budget_in_money_is_raised_in_money(known: Recipe, found: Forecast) -> None:
    assert found.hours is not None
    [told] = budgets.check(known, Budget(usd=found.hours.likely), MINE, found, 0.0)
    assert told.hint.startswith("--max-cost ")
    enough = Budget(usd=float(told.hint.split()[-1]))
    assert [*budgets.check(known, enough, MINE, found, 0.0)] == []


def test_one_that_may_be_over_says_may(known: Recipe, found: Forecast) -> None:
    assert found.hours is not None
    between = Budget(hours=(found.hours.likely + found.hours.high) / 2)
    [told] = budgets.check(known, between, MINE, found, 0.0)
    assert "it may be stopped" in told.message
    assert "near step" not in told.message


def test_money_that_rests_on_a_guess_is_told(known: Recipe) -> None:
    guessed = replace(MINE, assumed=True)
    [told] = budgets.check(known, Budget(usd=20), guessed, None, 0.0)
    assert told.code == "L305"
    assert told.hint.startswith("--price 2 ")
    assert [*budgets.check(known, Budget(usd=20), MINE, None, 0.0)] == []
    assert [*budgets.check(known, Budget(), guessed, None, 0.0)] == []


def test_the_peak_that_is_kept_is_one_that_torch_measures(found: Forecast) -> None:
    """Beside it CUDA's context stands in the card, which no run's records count."""
    kept = budgets.facts(found, MINE)
    assert kept["peak_gib"] == round(found.memory.allocated / 2**30, 2)
    assert kept["usd_an_hour"] == 16.0
    assert budgets.facts(None, None) == {}
