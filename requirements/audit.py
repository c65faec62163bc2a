"""Look up known vulnerabilities of the locked packages, and hold exceptions to their date.

usage: audit.py [arguments for pip-audit, for instance -s osv]
Exit codes: 0 none, 1 found or an exception is over, 3 not all packages could be looked up.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import tomllib

HERE = Path(__file__).parent
LOCKS = ("train.txt", "light.txt", "uv.txt")  # what users get; dev.txt stays with developers


def problems(
    dependencies: Sequence[Mapping[str, Any]], exceptions: Sequence[Mapping[str, Any]], today: date
) -> Iterator[str]:
    """Yield what was found and is not excepted, and exceptions that are over or not needed."""
    used = set()
    for package in dependencies:
        for found in package.get("vulns", []):
            known = {found["id"], *found.get("aliases", [])}
            excepted = [
                index
                for index, one in enumerate(exceptions)
                if one["package"] == package["name"] and one["id"] in known
            ]
            used.update(excepted)
            if not excepted:
                fixed = ", ".join(found.get("fix_versions", [])) or "no version"
                words = f"{package['name']} {package['version']}: {found['id']}"
                yield f"{words} (fixed in {fixed})"
    for index, one in enumerate(exceptions):
        words = f"the exception {one['id']} of {one['package']}"
        if one["until"] < today:
            yield f"{words} was until {one['until']}: upgrade, or look at it again"
        elif index not in used:
            yield f"{words} is not needed any more: delete it from audit.toml"


def not_looked_up(dependencies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the packages of which the service knew nothing."""
    return [one["name"] for one in dependencies if "skip_reason" in one]


def look_up(pins: Sequence[str], arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Return pip-audit's report. Raises ``ValueError`` with its words where there is none."""
    program = Path(sys.executable).with_name("pip-audit")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(pins) + "\n")
        requirements.flush()
        command = [program, "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
        command += ["-r", requirements.name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.startswith("{"):
        raise ValueError((done.stderr.strip().splitlines() or ["no answer"])[-1])
    report: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    return report


def batches() -> list[dict[str, str]]:
    """Return what the locks pin, by name; of a package with several versions each is in another."""
    texts = [(HERE / lock).read_text() for lock in LOCKS]
    pins = {pin for text in texts for pin in re.findall(r"^\S+==[^\s;]+", text, re.MULTILINE)}
    pins |= set(re.findall(r'^torch="(.*)"', (HERE / "install.sh").read_text(), re.MULTILINE))
    found: list[dict[str, str]] = []
    for pin in sorted(pins):
        name = pin.partition("==")[0].partition("[")[0]
        place = next((batch for batch in found if name not in batch), None)
        if place is None:
            found.append(place := {})
        place[name] = pin
    return found


def main(arguments: Sequence[str]) -> int:
    """Print what was found; return the exit code."""
    exceptions = tomllib.loads((HERE / "audit.toml").read_text())["exception"]
    try:
        report = [one for batch in batches() for one in look_up([*batch.values()], arguments)]
    except ValueError as problem:
        print(f"audit: nothing was looked up: {problem}", file=sys.stderr)
        return 3
    found = [*problems(report, exceptions, date.today())]
    print(*found, sep="\n", end="\n" if found else "")
    if missing := not_looked_up(report):
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        print(f"audit: {len(missing)} of {len(report)} were not found: {shown}", file=sys.stderr)
        help_text = (
            "the index must answer /pypi/NAME/VERSION/json; or ask OSV: make audit ARGS='-s osv'"
        )
        print(f"  help: {help_text}", file=sys.stderr)
        return 3
    print(f"{len(report)} packages, {len(found)} problems", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
