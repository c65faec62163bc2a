"""What ``axr plan --json`` prints: a forecast as plain data, sizes in GiB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from launcher.hardware import GIB
from launcher.plan.choose import Way
from launcher.plan.compare import Offer
from launcher.plan.fit import Saving
from launcher.plan.forecast import Forecast, Range
from launcher.plan.prices import Price


def forecast_data(found: Forecast, offered: Sequence[Price]) -> dict[str, Any]:
    """Return a forecast as plain data; sizes in GiB, times in hours and seconds."""
    memory, hours = found.memory, found.hours
    return {
        "hardware": {
            "gpu": found.hardware.gpu.name,
            "gpus": found.hardware.gpus,
            "nodes": found.hardware.nodes,
            "memory_gib": found.hardware.gpu.memory,
        },
        "verdict": found.verdict.value,
        "memory_gib": {
            "allocated": _gib(memory.allocated),
            "context": _gib(memory.context),
            "peak": memory.peak.name,
            "phases": {
                phase.name: {name: _gib(size) for name, size in phase.terms.items()}
                for phase in memory.phases
            },
        },
        "batch": {
            "micro": found.job.micro_batch,
            "accumulation": found.job.accumulation,
            "world": found.hardware.world,
            "samples_a_step": found.length.samples_a_step,
        },
        "steps": found.length.steps,
        "tokens": round(found.tokens) if found.tokens else None,
        "lengths_measured": found.length.measured,
        "lengths_complete": found.length.complete,
        "hours": hours and {key: round(value, 4) for key, value in vars(hours).items()},
        "seconds_a_sample": round(found.seconds_a_sample, 6),
        "tokens_per_second_gpu": round(found.speed.tokens_per_second, 1),
        "bound": found.speed.bound,
        "band": found.speed.band.kind,
        "costs": [{**_price(price), **_usd(found.cost(price))} for price in offered],
        "disk_gib": {
            "needed": _gib(found.disk.needed),
            **{name: _gib(size) for name, size in vars(found.disk).items()},
        },
        "host_memory_gib": _gib(found.host.needed),
    }


def saving_data(saving: Saving) -> dict[str, Any]:
    """Return a proposal as plain data."""
    return {
        "names": [change.name for change in saving.changes],
        "settings": saving.settings,
        "notes": [change.note for change in saving.changes if change.note],
        "saved_gib": _gib(saving.bytes),
        "slower": round(saving.slower, 4),
        "verdict": saving.after.verdict.value,
        "host_memory_gib": _gib(saving.after.host.needed),
    }


def way_data(way: Way) -> dict[str, Any]:
    """Return a way to spread a run as plain data."""
    found = way.forecast
    return {
        "name": way.change.name,
        "settings": dict(way.change.settings),
        "allocated_gib": _gib(found.memory.allocated),
        "verdict": found.verdict.value,
        "seconds_a_sample": round(found.seconds_a_sample, 6),
    }


def offer_data(offer: Offer) -> dict[str, Any]:
    """Return an offer as plain data."""
    return {
        "gpu": offer.hardware.gpu.name,
        "gpus": offer.hardware.world,
        "spread": offer.way.change.name,
        "settings": {**offer.batch.settings},
        "usd": None if offer.usd is None else round(offer.usd, 4),
        "hours": round(offer.hours, 4),
        "whole_run": offer.way.forecast.hours is not None,
        "free_gib": _gib(offer.way.forecast.free),
        "price": offer.price and _price(offer.price),
    }


def _price(price: Price) -> dict[str, Any]:
    return {
        "provider": price.provider,
        "kind": price.kind,
        "usd_per_gpu_hour": price.usd,
        "gpus": price.gpus,
        "as_of": price.as_of and price.as_of.isoformat(),
    }


def _usd(cost: Range | None) -> dict[str, float | None]:
    if cost is None:
        return {"usd": None}
    return {"usd": round(cost.likely, 4), "low": round(cost.low, 4), "high": round(cost.high, 4)}


def _gib(amount: float) -> float:
    return round(amount / GIB, 3)
