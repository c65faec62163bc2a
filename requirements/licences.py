"""Print the packages of this Python's environment with the licence that each states: name, version,
licence, separated by tabs.
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions

LONGEST = 200  # characters; some packages give the whole text instead of a name


def licence(package: Distribution) -> str:
    """Return what a package states: an SPDX expression, or its own words, or its classifiers."""
    known = package.metadata
    for field in ("License-Expression", "License"):
        stated = (known.get(field) or "").strip()
        if stated and stated != "UNKNOWN" and "\n" not in stated and len(stated) <= LONGEST:
            return str(stated)
    classified = (one for one in known.get_all("Classifier") or [] if one.startswith("License"))
    return "; ".join(one.rpartition(" :: ")[2] for one in classified) or "not stated"


def main() -> None:
    """Print the table; what states nothing is counted on stderr."""
    rows = sorted({(one.name.lower(), one.version, licence(one)) for one in distributions()})
    for row in rows:
        print(*row, sep="\t")
    silent = [name for name, _, stated in rows if stated == "not stated"]
    print(f"{len(rows)} packages; no licence stated by: {', '.join(silent)}", file=sys.stderr)


if __name__ == "__main__":
    main()
