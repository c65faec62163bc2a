"""What a GPU costs by the hour, and with it a run: a dated table that anyone may override.

The table is schemas/prices.tsv: one row for each provider, GPU, size of instance and kind of
contract, the newest that was found, each with its date and source. Prices move: RunPod's A100 rose
from 1.39 to 1.79 USD within three months of 2026. So a cost is shown with the date of its price.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from launcher import hardware
from launcher.diagnostics import LauncherError
from launcher.recipe import pack_folder

COLUMNS = ("provider", "gpu", "gpus", "kind", "usd_per_gpu_hour", "as_of", "source", "notes")
KINDS = ("on-demand", "spot", "reserved")
UNKNOWN = "unknown"  # in place of a date
YOURS = "yours"  # the provider of a price that was given without one
# Minutes from the start of billing to the first step: pulling an image of some 15 GB, the weights,
# the kernels' first compilation. Assumed: 10 to 20 is what users report; nobody measured it here.
START_MINUTES = 15.0


@dataclass(frozen=True)
class Price:
    """USD for one GPU and hour, in an instance of ``gpus``; ``as_of`` None: date unknown, or given
    by the user.
    """

    provider: str
    gpu: str  # as in launcher.hardware
    gpus: int
    kind: str
    usd: float
    as_of: date | None = None
    source: str = ""
    notes: str = ""

    def rented(self, gpus: int) -> int:
        """Return the GPUs that are paid for where ``gpus`` are needed: whole instances."""
        return -(-gpus // self.gpus) * self.gpus


def cost(hours: float, gpus: int, price: Price, *, start_minutes: float = START_MINUTES) -> float:
    """Return the USD of a run of so many hours on ``gpus`` GPUs, its start-up included. Raises
    ``ValueError`` for a negative time or no GPU.
    """
    if hours < 0 or start_minutes < 0 or gpus < 1:
        raise ValueError(f"{hours} h, {start_minutes} min, {gpus} GPUs")
    return (hours + start_minutes / 60) * price.rented(gpus) * price.usd


def prices(
    gpu: str, overrides: Sequence[str] = (), *, gpus: int = 1, offered: bool = False
) -> list[Price]:
    """Return the prices of a GPU, that first which is the cheapest for ``gpus`` of them.

    Each override is an amount (``1.79``: that alone), one for a provider (``runpod=1.19``: instead
    of all of its rows), for a kind of GPU (``a100-80gb=1.79``) or for both (``runpod/h200=3.50``),
    or the file of a table like schemas/prices.tsv, whose rows stand instead of those of the same
    provider and GPU. Later ones win. ``offered``: a provider's price counts only for kinds that it
    is known to have. Raises ``LauncherError``.
    """
    name = hardware.find(gpu).name
    found = [price for price in shipped() if price.gpu == name]
    for override in overrides:
        found = _overridden(found, override, name, offered)
    return sorted(found, key=lambda one: (one.rented(gpus) * one.usd, one.provider, one.gpus))


def _overridden(found: list[Price], override: str, gpu: str, offered: bool) -> list[Price]:
    named, equals, amount = override.partition("=")
    if equals and named:
        provider, kind = _whose(named)
        usd = _given(amount, override)
        if kind and kind != gpu:
            return found
        if not provider:
            return [Price(YOURS, gpu, 1, "on-demand", usd)]
        others = [price for price in found if not _of(price, provider)]
        if offered and not kind and len(others) == len(found):
            return found
        return [*others, Price(provider, gpu, 1, "on-demand", usd)]
    if _number(override) is not None:
        return [Price(YOURS, gpu, 1, "on-demand", _given(override, override))]
    rows = [price for price in load(_file(override)) if price.gpu == gpu]
    providers = {price.provider for price in rows}
    return [price for price in found if price.provider not in providers] + rows


def _whose(named: str) -> tuple[str, str]:
    """Return the provider and the kind of GPU that the left side of an override names."""
    provider, slash, kind = named.lower().partition("/")
    if slash:
        return provider, hardware.find(kind).name
    known = hardware.named(provider)
    return ("", known.name) if known else (provider, "")


def _of(price: Price, provider: str) -> bool:
    """Whether a price is of a provider: ``runpod`` is runpod-secure and runpod-community, too."""
    return price.provider == provider or price.provider.startswith(f"{provider}-")


def given(override: str) -> Price:
    """Return the price of a machine that is no GPU's, from an amount. Raises ``LauncherError``."""
    return Price(YOURS, "none", 1, "on-demand", _given(override, override))


def _given(text: str, override: str) -> float:
    amount = _number(text)
    if amount is None or not math.isfinite(amount) or amount < 0:
        fact = f'--price {override}: "{text}" is not a price in USD for a GPU and hour'
        raise LauncherError(fact, "for example 1.79, or runpod=1.19", exit_code=2)
    return amount


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _file(text: str) -> Path:
    file = Path(text)
    if not file.is_file():
        fact = f"--price {text}: neither a number, nor PROVIDER=NUMBER, nor a file"
        raise LauncherError(fact, "for example 1.79, runpod=1.19 or prices.tsv", exit_code=2)
    return file


@lru_cache(maxsize=1)
def shipped() -> tuple[Price, ...]:
    """Return the shipped table."""
    return load(pack_folder("schemas") / "prices.tsv")


def load(file: Path) -> tuple[Price, ...]:
    """Return the prices in a table. Raises ``LauncherError`` naming the line of what is wrong."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise LauncherError(f"{file} cannot be read: {problem}", exit_code=2) from None
    lines = csv.reader(text.splitlines(), delimiter="\t")
    header = next(lines, [])
    needed = COLUMNS[:5]
    if missing := [column for column in needed if column not in header]:
        hint = f"columns, with a tab between: {', '.join(COLUMNS)}; the last three may be left out"
        raise LauncherError(f"{file}:1: no column {', '.join(missing)}", hint, exit_code=2)
    return tuple(_rows(file, header, lines))


def _rows(file: Path, header: list[str], lines: Iterable[list[str]]) -> Iterator[Price]:
    for number, cells in enumerate(lines, start=2):
        if any(cell.strip() for cell in cells):
            values = dict(zip(header, (cell.strip() for cell in cells), strict=False))
            yield _price(values, f"{file}:{number}")


def _price(values: dict[str, str], place: str) -> Price:
    kind, gpus = values.get("kind", ""), values.get("gpus", "")
    if kind not in KINDS:
        _refuse(place, "kind", kind, f"one of {', '.join(KINDS)}")
    if not gpus.isdecimal() or int(gpus) < 1:
        _refuse(place, "gpus", gpus, "the number of GPUs in the instance")
    usd = _number(values.get("usd_per_gpu_hour", ""))
    if usd is None or not math.isfinite(usd) or usd < 0:
        given = values.get("usd_per_gpu_hour", "")
        _refuse(place, "usd_per_gpu_hour", given, "a number that is not negative")
    return Price(
        provider=values.get("provider", "") or _refuse(place, "provider", "", "a name"),
        gpu=_gpu(values.get("gpu", ""), place),
        gpus=int(gpus),
        kind=kind,
        usd=usd,
        as_of=_date(values.get("as_of", UNKNOWN), place),
        source=values.get("source", ""),
        notes=values.get("notes", ""),
    )


def _gpu(name: str, place: str) -> str:
    try:
        return hardware.find(name).name
    except LauncherError as problem:
        raise LauncherError(f"{place}: {problem.message}", problem.hint, exit_code=2) from None


def _date(text: str, place: str) -> date | None:
    if text in (UNKNOWN, ""):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        _refuse(place, "as_of", text, f"a date like 2026-11-09, or {UNKNOWN}")


def _refuse(place: str, column: str, value: str, expected: str) -> NoReturn:
    raise LauncherError(f'{place}: {column} "{value}"', f"expected {expected}", exit_code=2)
