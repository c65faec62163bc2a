"""How busy the GPUs are, every few seconds, as lines of JSON: run as a child, for a sick driver may
hold whoever asks it. It ends with its stdin: when whoever started it has gone.
"""

from __future__ import annotations

import contextlib
import json
import select
import sys
from typing import Any

EVERY = 3.0  # seconds; the driver's own figure is the mean of up to one


def main() -> None:
    """Print an array of GPUs again and again. Ends where there is nothing to ask."""
    try:
        import pynvml as nvml

        nvml.nvmlInit()
    except (ImportError, OSError):
        return
    except nvml.NVMLError:
        return
    while True:
        print(json.dumps([_use(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]))
        sys.stdout.flush()
        if select.select([sys.stdin], [], [], EVERY)[0]:
            return


def _use(nvml: Any, index: int) -> dict[str, Any]:
    """Return what a GPU says of itself; of one in slices, or off the bus, less or nothing."""
    found: dict[str, Any] = {"index": index}
    with contextlib.suppress(nvml.NVMLError):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        found["uuid"] = nvml.nvmlDeviceGetUUID(handle)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        found["used_gib"], found["total_gib"] = memory.used / 2**30, memory.total / 2**30
        found["percent"] = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
    return found


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # nobody reads any more
        main()
