"""The child that tries the stack: it imports torch once and forks for each check, so that a library
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
from collections.abc import Callable
from functools import partial
from typing import Any

from launcher.node.child import left, limit

ELEMENTS = 16 * 2**20  # of float32 on each GPU: 64 MiB, enough to fill the links
ELEMENTS_ON_CPU = 2**18
ROUNDS = 5


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
