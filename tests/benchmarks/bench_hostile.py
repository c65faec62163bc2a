"""How long `axr validate` takes for hostile files: each shape at the size limit, and at a megabyte.

Seconds of processor time, the worst first; run it with the project's Python:
PYTHONPATH=tests python tests/benchmarks/bench_hostile.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from fuzz.slow import SLOW

from launcher import recipe
from launcher.diagnostics import render_text
from launcher.validate import validate


def seconds(file: Path) -> tuple[float, int]:
    """Return the time for reading, checking and showing a file, and its number of problems."""
    begin = time.process_time()
    read = recipe.load(file)
    problems = validate(read)
    for problem in problems:
        render_text(problem, read.texts)
    return time.process_time() - begin, len(problems)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hostile.yaml"
        for name, text in SLOW.items():
            for size, content in (("128 KiB", text), ("1 MB", text * 9)):
                file.write_text(content, encoding="utf-8")
                rows.append((*seconds(file), name, size))
    for taken, count, name, size in sorted(rows, reverse=True):
        print(f"{taken:6.2f} s  {count:6} problems  {size:8} {name}")


if __name__ == "__main__":
    main()
