"""A machine from a file, a recipe on it, and what the doctor says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher import launch as launching
from launcher import recipe as recipes
from launcher import source
from launcher.cli.examine import need_of
from launcher.cli.outlook import outlook
from launcher.cluster import Cluster
from launcher.doctor.judge import judge
from launcher.doctor.line import Line, Verdict
from launcher.doctor.need import Need
from launcher.node import Machine
from launcher.node.record import from_data
from launcher.node.stack import Package
from launcher.recipe import Recipe
from launcher.runs.folder import RunFolder
from launcher.survey import Facts

MACHINES = Path(__file__).parent / "machines"
NOWHERE = {"HF_HUB_CACHE": "/nonexistent"}


def machine(name: str, **changes: Any) -> Facts:
    """Return a machine with some of its facts changed; of a dict only what is named, and of
    ``gpus`` the same of each.
    """
    data = json.loads((MACHINES / f"{name}.json").read_text(encoding="utf-8"))
    each = changes.pop("gpus", {})
    for gpu in data["node"].get("gpus", []):
        gpu.update(each)
    return from_data(Facts, _merged(data, changes))


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(old)
    for key, value in new.items():
        inner = isinstance(value, dict) and isinstance(old.get(key), dict)
        both[key] = _merged(old[key], value) if inner else value
    return both


def written(text: str, *overrides: str) -> Recipe:
    return recipes.override(recipes.from_document(source.parse(text, "my.yaml")), overrides)


def shipped(name: str, *overrides: str) -> Recipe:
    return recipes.load(recipes.pack_folder("recipes") / f"{name}.yaml", overrides)


def need(recipe: Recipe | None, facts: Facts, gpus: int | None = None, **other: Any) -> Need:
    """Return what a recipe needs of a machine, made in the way that the verb makes it."""
    here = len(facts.node.gpus)
    nodes = other.pop("nodes", 1)
    place = Machine(
        (gpus or here or 1) * nodes,
        on_cpu=not here,
        volume=facts.node.volume,
        cluster=Cluster(nodes, 0, "10.0.0.1" if nodes > 1 else ""),
    )
    if recipe is None:
        return Need(processes=place.here, on_cpu=place.on_cpu, nodes=nodes, **other)
    view = outlook(recipe, place, facts.node, NOWHERE)
    folder = RunFolder(Path("/workspace/runs/x"))
    launch = launching.build(recipe, place, folder, NOWHERE, spread=view.changes)
    return replace(need_of(recipe, launch, place, NOWHERE, view.forecast), **other)


def said(recipe: Recipe | None, facts: Facts, **other: Any) -> list[Line]:
    """Return the doctor's lines; a package that is not spoken of works."""
    wanted = need(recipe, facts, **other)
    if facts.stack:
        known = [one.module for one in facts.stack.packages]
        rest = (Package(name, "1.0") for name in wanted.packages if name not in known)
        facts = replace(facts, stack=replace(facts.stack, packages=(*facts.stack.packages, *rest)))
    return judge(facts, wanted)


def codes(lines: list[Line]) -> set[str]:
    return {line.problem.code for line in lines if line.problem}


def about(lines: list[Line], subject: str) -> Line:
    (found,) = (line for line in lines if line.subject == subject)
    return found


def verdicts(lines: list[Line], verdict: Verdict) -> list[str]:
    return [line.subject for line in lines if line.verdict is verdict]
