"""Whether the software works: the packages import, torch sees the GPUs, and they add up numbers
together. `main` runs as a child that imports torch once and forks for each check, so that a library
that crashes or hangs takes none of the others with it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from launcher.node.child import ask, left, limit
from launcher.node.record import from_data

ELEMENTS = 16 * 2**20  # of float32 on each GPU: 64 MiB, enough to fill the links
ELEMENTS_ON_CPU = 2**18
ROUNDS = 5


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
    answer = ask("launcher.node.stack", question, environ, seconds)
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


def main() -> None:
    """Print a line for torch, for each package, and for the sum over the ranks."""
    asked = json.load(sys.stdin)
    try:
        with _quiet():
            import torch

            facts = {"version": torch.__version__, "cuda": torch.version.cuda or ""}
    except Exception as problem:  # whatever a broken library raises is the answer
        _say("torch", facts={"trouble": _words(problem)})
        return
    on_cpu = asked["cpu"] or not facts["cuda"]  # that torch has no CUDA is said of torch alone
    checks: dict[str, Callable[[], dict[str, Any]]] = {
        module: partial(_imported, module, on_cpu=on_cpu) for module in asked["packages"]
    }
    if not asked["cpu"]:
        checks["torch"] = lambda: {"facts": {**facts, **_cuda()}}
    else:
        _say("torch", facts=facts)
    pending = {_fork(name, check) for name, check in checks.items()}
    if asked["ranks"]:
        pending |= _sum(asked["ranks"], on_cpu=asked["cpu"])
    while pending:
        pending.discard(os.wait()[0])


def _fork(name: str, check: Callable[[], dict[str, Any]]) -> int:
    """Run a check in a process of its own, and watch that one from another: it may crash."""
    seconds, watcher = left(), os.fork()
    if watcher:
        return watcher
    limit(seconds)
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        limit(seconds)
        os.close(reading)
        with _quiet():
            result = _tried(check)
        os.write(writing, json.dumps(result).encode()[:60_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    dead = {"trouble": f"it crashes: signal {-code}" if code < 0 else f"exit code {code}"}
    _say(name, **(json.loads(said) if said else dead))
    os._exit(0)


def _tried(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return check()
    except Exception as problem:
        return {"trouble": _words(problem)}


def _cuda() -> dict[str, Any]:
    """Start CUDA and return how many GPUs it sees, or why it does not start. In a fork: once it is
    at work, no other can be made.
    """
    import torch

    try:
        torch.cuda.init()
        return {"gpus": torch.cuda.device_count()}
    except (RuntimeError, AssertionError) as problem:
        return {"trouble": _words(problem)}


def _imported(module: str, *, on_cpu: bool) -> dict[str, Any]:
    """Import a package, and where it is a library of kernels, use one."""
    importlib.import_module(module)
    if module == "bitsandbytes":
        _quantize(on_cpu=on_cpu)
    if module == "flash_attn":
        importlib.import_module("flash_attn.flash_attn_interface")
    return {}


def _quantize(*, on_cpu: bool) -> None:
    import torch
    from bitsandbytes.functional import quantize_blockwise

    quantize_blockwise(torch.ones(64, device="cpu" if on_cpu else "cuda"))


def _sum(ranks: int, *, on_cpu: bool) -> set[int]:
    """Start the ranks; the first tells what came of it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    first = _fork("all-reduce", partial(_rank, 0, ranks, address, on_cpu=on_cpu))
    others = {
        _fork(f"rank {rank}", partial(_rank, rank, ranks, address, on_cpu=on_cpu))
        for rank in range(1, ranks)
    }
    return {first, *others}


def _rank(rank: int, ranks: int, address: str, *, on_cpu: bool) -> dict[str, Any]:
    """Add up as one of the ranks and return how fast; raises where the sum is wrong."""
    import torch
    from torch import distributed

    device = torch.device("cpu" if on_cpu else f"cuda:{rank}")
    if not on_cpu:
        torch.cuda.set_device(device)
    backend = "gloo" if on_cpu else "nccl"
    distributed.init_process_group(backend, init_method=address, rank=rank, world_size=ranks)
    values = torch.full((ELEMENTS_ON_CPU if on_cpu else ELEMENTS,), float(rank), device=device)
    distributed.all_reduce(values)
    if values[0].item() != ranks * (ranks - 1) / 2 or values[-1].item() != values[0].item():
        raise RuntimeError(f"the sum of {ranks} ranks is {values[0].item()}")
    distributed.barrier()
    begin = time.monotonic()
    for _ in range(ROUNDS):
        distributed.all_reduce(values)
    distributed.barrier()  # on the GPUs it waits for the sums before it
    if not on_cpu:
        torch.cuda.synchronize()
    seconds = max(time.monotonic() - begin, 1e-9) / ROUNDS
    moved = 2 * (ranks - 1) / ranks * values.numel() * values.element_size()
    return {"speed": round(moved / seconds)} if ranks > 1 else {}


def _say(about: str, **answer: Any) -> None:
    """Print one line at once; several processes do, and short ones do not mix."""
    line = json.dumps({"about": about, **answer}) + "\n"
    os.write(sys.__stdout__.fileno() if sys.__stdout__ else 1, line.encode())


def _words(problem: BaseException) -> str:
    """Return an error as one line: its last, where a traceback was packed into it."""
    lines = [line for line in str(problem).strip().splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0].strip() if lines else ''}"[:300]


@contextlib.contextmanager
def _quiet() -> Any:
    """Swallow what libraries print."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


if __name__ == "__main__":
    main()
