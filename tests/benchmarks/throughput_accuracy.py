"""How well the plan predicts speed that others measured: errors by source and by method.

Run it with `make plan-accuracy`, or with -v for each run. The runs, with their links, are
tests/data/throughput-measured.tsv; another table of its form may be given as an argument.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import throughput_history

from launcher.plan.speed import Band, Speed

DATA = Path(__file__).parents[1] / "data" / "throughput-measured.tsv"


@dataclass(frozen=True)
class Run:
    """A published run: tokens per second of each GPU as measured, and the forecast."""

    name: str
    source: str
    method: str
    gpu: str
    measured: float
    forecast: Speed

    @property
    def error(self) -> float:
        """Predicted over measured, minus one."""
        return self.forecast.tokens_per_second / self.measured - 1

    @property
    def slower(self) -> float:
        """Measured time over its forecast: what a band holds."""
        return self.error + 1

    @property
    def band(self) -> Band:
        """How far off the forecast says it may be."""
        return self.forecast.band


def runs(file: Path = DATA) -> list[Run]:
    """Return the rows that have a forecast: whose model's shape is known here."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return [
        Run(row["id"], row["source"], row["method"], row["gpu"], float(row["tok_s_gpu"]), forecast)
        for row in rows
        if (forecast := throughput_history.forecast(row)) is not None
    ]


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def errors(found: Iterable[Run]) -> tuple[int, float, float, float]:
    """Return the number of runs, median and p90 of the absolute error, and the bias."""
    signed = [run.error for run in found]
    size = [abs(error) for error in signed]
    if not size:
        return 0, 0.0, 0.0, 0.0
    return len(size), statistics.median(size), percentile(size, 0.9), statistics.fmean(signed)


def groups(found: list[Run]) -> list[tuple[str, list[Run]]]:
    """Return all runs, and those of each method, band, and source with method."""
    keys: list[Callable[[Run], str]] = [
        lambda run: "all",
        lambda run: run.method,
        lambda run: run.band.kind,
        lambda run: f"{run.source} {run.method}",
    ]
    return [
        (title, [run for run in found if key(run) == title])
        for key in keys
        for title in dict.fromkeys(key(run) for run in found)
    ]


def table(found: list[Run]) -> str:
    """Return the errors by group, and how many runs their band holds."""
    lines = [f"{'tokens per second':46}{'n':>5}{'median':>9}{'p90':>8}{'bias':>8}{'in band':>9}"]
    for title, chosen in groups(found):
        n, median, p90, bias = errors(chosen)
        held = sum(run.band.low <= run.slower <= run.band.high for run in chosen) / n
        lines.append(f"{title:46}{n:5}{median:9.1%}{p90:8.1%}{bias:+8.1%}{held:9.0%}")
    return "\n".join(lines)


def main() -> None:
    files = [Path(arg) for arg in sys.argv[1:] if not arg.startswith("-")]
    found = runs(*files)
    print(table(found))
    if "-v" in sys.argv:
        for run in sorted(found, key=lambda run: run.error):
            seen = run.forecast
            print(
                f"{run.error:+7.1%} {seen.tokens_per_second:8.0f} {run.measured:8.0f} "
                f"{seen.utilisation:4.0%} {run.name} ({seen.bound})"
            )


if __name__ == "__main__":
    main()
