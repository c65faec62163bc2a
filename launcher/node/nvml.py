"""The GPUs as NVIDIA's management library has them: run as a child, for a sick driver may never
answer, or take the process that asks down with it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

GIB = 2**30
MAX_NVLINKS = 18  # of one GPU: H100 and B200; NVML_NVLINK_MAX_LINKS
# What slows a GPU down that should not: a limit of power or clocks that was set is none of it.
_THROTTLES = {
    0x20: "software thermal slowdown",
    0x08: "hardware slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


def main() -> None:
    """Print one object: the driver, and each GPU with what it says of itself."""
    try:
        import pynvml as nvml
    except ImportError:
        print(json.dumps({"trouble": "nvidia-ml-py is not installed: make setup"}))
        return
    try:
        nvml.nvmlInit()
        found = {
            "driver": nvml.nvmlSystemGetDriverVersion(),
            "cuda": _cuda(nvml),
            "gpus": [gpu for index in range(nvml.nvmlDeviceGetCount()) for gpu in _at(nvml, index)],
        }
    except nvml.NVMLError as problem:
        found = {"trouble": str(problem)}
    print(json.dumps(found))


def _cuda(nvml: Any) -> str:
    """Return the newest CUDA that the driver knows, "12.2"."""
    number = _or_none(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def _at(nvml: Any, index: int) -> Iterator[dict[str, Any]]:
    """Yield the GPU at an index, or the slices that it is cut into."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        mig = _or_none(nvml, nvml.nvmlDeviceGetMigMode, handle)
        if not mig or not mig[0]:
            yield _gpu(nvml, handle, index)
            return
        for slot in range(_or_none(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
            part = _or_none(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, slot)
            if part is not None:
                whole = _gpu(nvml, handle, index)
                kept = {key: whole[key] for key in ("serial", "capability", "uncorrected", "remap")}
                yield {**_gpu(nvml, part, index), **kept, "mig": True}
    except nvml.NVMLError as problem:  # one that fell off the bus leaves the others
        yield {"index": index, "name": "", "memory_gib": 0.0, "trouble": str(problem)}


def _gpu(nvml: Any, handle: Any, index: int) -> dict[str, Any]:
    memory = _or_none(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    capability = _or_none(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    return {
        "index": index,
        "name": nvml.nvmlDeviceGetName(handle),
        "uuid": _or_none(nvml, nvml.nvmlDeviceGetUUID, handle) or "",
        "serial": _or_none(nvml, nvml.nvmlDeviceGetSerial, handle) or "",
        "memory_gib": round(memory.total / GIB, 1) if memory else 0.0,
        "free_gib": round(memory.free / GIB, 2) if memory else None,
        "capability": list(capability) if capability else None,
        "users": _users(nvml, handle),
        "uncorrected": _or_none(nvml, nvml.nvmlDeviceGetTotalEccErrors, handle, 1, 0),
        "remap": _remap(nvml, handle),
        "throttled": _throttled(nvml, handle),
        "nvlinks": _nvlinks(nvml, handle),
    }


def _users(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    """Return the processes that hold memory. In a container those of others have no name here."""
    found = _or_none(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    return [
        {
            "pid": one.pid,
            "name": _or_none(nvml, nvml.nvmlSystemGetProcessName, one.pid) or "",
            "gib": round((one.usedGpuMemory or 0) / GIB, 2),
        }
        for one in found
    ]


def _remap(nvml: Any, handle: Any) -> str:
    """Return what is left to do for broken rows of memory: nothing, a reset, or another card."""
    rows = _or_none(nvml, nvml.nvmlDeviceGetRemappedRows, handle)
    if not rows:
        return ""
    _, _, pending, failed = rows
    return "failed" if failed else "pending" if pending else ""


def _throttled(nvml: Any, handle: Any) -> list[str]:
    bits = _or_none(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
    return [name for bit, name in _THROTTLES.items() if bits & bit]


def _nvlinks(nvml: Any, handle: Any) -> int | None:
    """Return the links that are up; none where the card does not say."""
    states = [
        _or_none(nvml, nvml.nvmlDeviceGetNvLinkState, handle, link) for link in range(MAX_NVLINKS)
    ]
    known = [state for state in states if state is not None]
    return sum(known) if known else None


def _or_none(nvml: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call returns, or none: not every card and driver knows every question."""
    with contextlib.suppress(nvml.NVMLError):
        return call(*arguments)
    return None


if __name__ == "__main__":
    main()
