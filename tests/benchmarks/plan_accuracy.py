"""How well the plan predicts memory that others measured: errors by source and by method.

Run it with `make plan-accuracy`, or with -v for each run. The runs, with their links, are
tests/data/vram-measured.tsv.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import plan_history

from launcher.hardware import GIB
from launcher.plan.memory import Verdict

DATA = Path(__file__).parents[1] / "data" / "vram-measured.tsv"


@dataclass(frozen=True)
class Row:
    """A published run: what was measured (none: it ran out of memory) and what is predicted."""

    name: str
    source: str
    quality: str
    run: plan_history.Run
    measured: float | None  # GiB
    card: float | None  # GiB
    predicted: float  # GiB, as the source read it

    @property
    def error(self) -> float:
        """Predicted over measured, minus one."""
        assert self.measured is not None
        return self.predicted / self.measured - 1


def rows(file: Path = DATA) -> list[Row]:
    """Return the runs that have a specification and a formula."""
    with file.open(encoding="utf-8", newline="") as stream:
        return list(_rows(csv.DictReader(stream, delimiter="\t")))


def _rows(table: Iterable[dict[str, str]]) -> Iterator[Row]:
    for line in table:
        run = plan_history.run(line["spec_json"], line["metric"])
        if run is not None:
            yield Row(
                line["id"],
                line["source"],
                line["quality"],
                run,
                float(line["measured_gib"]) if line["measured_gib"] else None,
                float(line["card_gib"]) if line["card_gib"] else None,
                run.figure(),
            )


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def errors(found: Iterable[Row]) -> tuple[int, float, float, float]:
    """Return the number of measured runs, median and p90 of the absolute error, and the bias."""
    signed = [row.error for row in found if row.measured is not None]
    size = [abs(error) for error in signed]
    if not size:
        return 0, 0.0, 0.0, 0.0
    return len(size), statistics.median(size), percentile(size, 0.9), statistics.fmean(signed)


def verdicts(found: Iterable[Row]) -> dict[tuple[Verdict, bool], int]:
    """Return how often each verdict met a run that ran (True) or ran out of memory, by card."""
    return Counter(
        (row.run.predicted().verdict(row.card * GIB), row.measured is not None)
        for row in found
        if row.card is not None
    )


def groups(found: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield the lines of the table: all, exact settings, by method, by source."""
    yield "all", found
    yield "exact settings (A)", [row for row in found if row.quality == "A"]
    for method in dict.fromkeys(row.run.job.method for row in found):
        yield method.value, [row for row in found if row.run.job.method is method]
    for source in dict.fromkeys(row.source for row in found):
        yield source, [row for row in found if row.source == source]


def table(found: list[Row]) -> str:
    """Return the errors and the verdicts as text."""
    lines = [f"{'runs':24}{'n':>5}{'median':>9}{'p90':>8}{'bias':>8}"]
    for title, chosen in groups(found):
        n, median, p90, bias = errors(chosen)
        if n:
            lines.append(f"{title:24}{n:5}{median:9.1%}{p90:8.1%}{bias:+8.1%}")
    counts = verdicts(found)
    lines += ["", f"{'verdict':24}{'ran':>5}{'ran out of memory':>19}"]
    for verdict in Verdict:
        ran, out = (counts.get((verdict, fits), 0) for fits in (True, False))
        lines.append(f"{verdict.value:24}{ran:5}{out:19}")
    return "\n".join(lines)


def main() -> None:
    found = rows()
    print(table(found))
    if "-v" in sys.argv:
        for row in sorted(found, key=lambda row: (row.source, row.name)):
            error = "    OOM" if row.measured is None else f"{row.error:+7.1%}"
            print(f"{error}{row.predicted:8.2f} {row.run.predicted().peak.name:15} {row.name}")


if __name__ == "__main__":
    main()
