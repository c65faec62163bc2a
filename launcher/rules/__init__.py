"""Checks of what a recipe means, one file per subject; the registry says which run, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from launcher.diagnostics import Diagnostic
from launcher.recipe import Recipe
from launcher.rules import batch, security

Rule = Callable[[Recipe], Iterator[Diagnostic]]

RULES: tuple[Rule, ...] = (security.secret_in_recipe, security.remote_code, batch.global_batch_size)
