"""Print the names of the secrets that an `axr train` with these arguments needs, for container.sh.

It runs in the image, without a network: a recipe is somebody's text.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence

from launcher import recipe, trackers
from launcher.diagnostics import LauncherError
from launcher.recipe import Recipe
from launcher.redact import is_secret_name

KEYS = {trackers.WANDB: "WANDB_API_KEY", trackers.COMET: "COMET_API_KEY"}


def recipes(words: Sequence[str]) -> Iterator[Recipe]:
    """Yield the recipe among the arguments; what is none is told by axr train itself."""
    overrides = [word for word in words if re.match(r"[\w.-]+=", word)]
    for word in words:
        if word not in overrides and not word.startswith("-"):
            try:
                yield recipe.load(recipe.find(word), overrides)
            except LauncherError:
                continue


def needed(found: Recipe) -> Iterator[str]:
    """Yield what a recipe names, and what its upload and its trackers ask for."""
    needs = found.block.get("needs")
    named = needs.get("secrets") if isinstance(needs, dict) else None
    yield from named if isinstance(named, list) else ()
    if found.settings.get("hub_model_id"):
        yield "HF_TOKEN"
    for name in trackers.wanted(found.settings):
        if name in KEYS and trackers.needs_key(name, found.settings, {}):
            yield KEYS[name]


if __name__ == "__main__":
    names = {name for found in recipes(sys.argv[1:]) for name in needed(found)}
    variables = {n for n in names if isinstance(n, str) and re.fullmatch("[A-Z][A-Z0-9_]*", n)}
    print(*sorted(filter(is_secret_name, variables)))  # nobody's PATH
