"""Whether the software works: the packages import, torch sees the GPUs, and they add up numbers
together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from launcher.node.child import ask
from launcher.node.record import from_data


@dataclass(frozen=True)
class Package:
    """A package: its version ("" where it is not installed), and why it does not work."""

    module: str
    version: str = ""
    trouble: str = ""
    checked: bool = True


@dataclass(frozen=True)
class Torch:
    """``cuda`` is what it was built for ("" for a CPU), ``gpus`` how many it sees."""

    version: str = ""
    cuda: str = ""
    gpus: int = 0
    trouble: str = ""


@dataclass(frozen=True)
class AllReduce:
    """A sum over all ranks. ``speed``: bytes a second of each link, as NCCL's tests count them
    (2 (n - 1) / n times the bytes).
    """

    backend: str
    ranks: int
    speed: float | None = None
    trouble: str = ""


@dataclass(frozen=True)
class Stack:
    """What was tried; ``axolotl`` is its version. None: not tried, or not in time (``why``)."""

    axolotl: str = ""
    torch: Torch | None = None
    packages: tuple[Package, ...] = ()
    all_reduce: AllReduce | None = None
    why: str = ""

    def package(self, module: str) -> Package | None:
        """Return what is known of a package."""
        return next((one for one in self.packages if one.module == module), None)


def stack(
    packages: Mapping[str, str],
    ranks: int,
    *,
    on_cpu: bool,
    environ: Mapping[str, str],
    seconds: float,
) -> Stack:
    """Try the stack: ``packages`` is module to distribution, ``ranks`` the processes that add up.

    What is not installed for this Python costs no child.
    """
    versions = {module: _version(name) for module, name in packages.items()}
    found = {m: Package(m, v) for m, v in versions.items() if not v}
    if not find_spec("torch"):
        rest = {m: Package(m, v, checked=False) for m, v in versions.items() if v}
        return Stack(_version("axolotl"), Torch(), tuple({**rest, **found}.values()))
    asked = [module for module in packages if module not in found]
    question = {"packages": asked, "ranks": ranks, "cpu": on_cpu}
    answer = ask("launcher.node.trying", question, environ, seconds)
    said = {line["about"]: line for line in answer.lines if "about" in line}
    torch = said.get("torch")
    for module in asked:
        line = said.get(module, {"trouble": answer.trouble or "no answer"})
        late = module not in said
        found[module] = Package(module, versions[module], line.get("trouble", ""), not late)
    backend = "gloo" if on_cpu else "nccl"
    failed = (one["trouble"] for name, one in said.items() if _of_a_rank(name, one))
    silent = {"trouble": next(failed, answer.trouble or "no answer")}  # one fails, the others wait
    reduced = said.get("all-reduce", silent)
    return Stack(
        _version("axolotl"),
        _torch(torch) if torch else None,
        tuple(found[module] for module in packages),
        AllReduce(backend, ranks, reduced.get("speed"), reduced.get("trouble", ""))
        if ranks and torch and not _torch(torch).trouble
        else None,
        answer.trouble if not torch else "",
    )


def _torch(line: Mapping[str, Any]) -> Torch:
    """Return what a line says of torch, or how it died at the start of CUDA."""
    return from_data(Torch, line["facts"]) if "facts" in line else Torch(trouble=line["trouble"])


def _of_a_rank(name: str, line: Mapping[str, Any]) -> bool:
    return name.startswith("rank ") and "trouble" in line


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
