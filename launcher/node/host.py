"""The machine around the GPUs: memory, limits, disks, toolkit. `look` is run as a child, since a
dead network disk holds whoever asks for its free space.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from launcher.node import VOLUME
from launcher.node.child import ask
from launcher.node.places import Place, look, mount
from launcher.node.record import from_data

_XID = re.compile(r"NVRM: Xid \(PCI:[^)]*\): (\d+)")
# What a container's first process is where signals are passed on.
_DOCKER, _PODMAN = Path("/.dockerenv"), Path("/run/.containerenv")
UNLIMITED = -1


@dataclass(frozen=True)
class Host:
    """Bytes, and limits in the kernel's own units (`UNLIMITED` for none). ``memory`` is what a run
    may still take, a container's limit considered; ``first`` the program of process 1; ``hidden``
    folders that the environment names and a mounted volume has not; ``xids`` errors of the GPUs in
    the kernel's log, none where it may not be read.
    """

    container: bool = False
    first: str = ""
    shm: int | None = None
    memory: int | None = None
    memory_limit: int | None = None
    open_files: int | None = None
    memlock: int | None = None
    places: tuple[Place, ...] = ()
    hidden: tuple[str, ...] = ()
    accelerate_config: str = ""
    cuda_home: str = ""
    nvcc: str = ""
    compiler: str = ""
    xids: tuple[int, ...] | None = None
    why: str = ""


def host(places: Mapping[str, str], environ: Mapping[str, str], seconds: float) -> Host:
    """Return what the machine is like, and the folders of ``places`` (role to path)."""
    answer = ask("launcher.node.host", dict(places), environ, seconds)
    facts: Mapping[str, Any] = next((line["host"] for line in answer.lines if "host" in line), {})
    known = {line["place"]["role"]: line["place"] for line in answer.lines if "place" in line}
    silent = answer.trouble or "no answer"
    found = (
        known.get(role) or {"role": role, "path": path, "why": silent}
        for role, path in places.items()
    )
    return from_data(Host, {**facts, "places": list(found), "why": "" if facts else answer.trouble})


def main() -> None:
    """Print the machine, then each place as its disk answers."""
    places = json.load(sys.stdin)
    threads = [
        threading.Thread(target=_say_place, args=item, daemon=True) for item in places.items()
    ]
    for thread in threads:
        thread.start()
    _say(host=_machine())
    for thread in threads:
        thread.join()


def _say(**line: Any) -> None:
    """Print a line at once, so that those of two threads do not mix."""
    os.write(sys.stdout.fileno(), json.dumps(line).encode() + b"\n")


def _machine() -> dict[str, Any]:
    import psutil

    limit, used = _cgroup()
    available = psutil.virtual_memory().available
    if limit is not None:
        available = min(available, max(0, limit - used))
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or ""
    nvcc = shutil.which("nvcc", path=f"{home}/bin" if home else None)
    home = home or (str(Path(nvcc).resolve().parents[1]) if nvcc else "")
    shm = Path("/dev/shm")
    return {
        "container": _in_container(),
        "first": _first(),
        "shm": shutil.disk_usage(shm).total if shm.is_dir() else None,
        "memory": available,
        "memory_limit": limit,
        "open_files": _limit(resource.RLIMIT_NOFILE),
        "memlock": _limit(resource.RLIMIT_MEMLOCK),
        "hidden": _hidden(),
        "accelerate_config": _accelerate_config(),
        "cuda_home": home,
        "nvcc": _nvcc(nvcc) if nvcc else "",
        "compiler": shutil.which("c++") or shutil.which("g++") or "",
        "xids": _xids(),
    }


def _limit(which: int) -> int:
    soft, _ = resource.getrlimit(which)
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def _first() -> str:
    """Return the program of process 1: axr itself where it asks."""
    import psutil

    if os.getppid() == 1:
        return "axr"
    try:
        return str(psutil.Process(1).name())
    except psutil.Error:
        return ""


def _cgroup(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> tuple[int | None, int]:
    """Return the tightest limit on this process's memory, and what is taken of it without the page
    cache: of its group and those above, which a container sees as the root (cgroup v2 and v1).
    """
    found: list[tuple[int, int]] = []
    for folder in _groups(root, own):
        old = folder.is_relative_to(root / "memory")
        limit, used = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if old
            else ("memory.max", "memory.current")
        )
        most, taken = _number(folder / limit), _number(folder / used) or 0
        if most is not None and most < 2**60:  # v1 writes "no limit" as a huge number
            found.append((most, max(0, taken - _cache(folder / "memory.stat"))))
    return min(found, key=lambda one: one[0] - one[1], default=(None, 0))


def _groups(root: Path, own: Path) -> Iterator[Path]:
    """Yield the folders of this process's groups that may limit its memory."""
    bases = {"": root, "memory": root / "memory"}
    yield from bases.values()
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, names, path = line.split(":", 2)
            inner = Path(path.strip("/"))
            for name in {*names.split(",")} & bases.keys():
                yield from (bases[name] / part for part in (inner, *inner.parents))


def _number(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # not there, or "max"
        return int(file.read_text(encoding="ascii"))
    return None


def _cache(stat: Path) -> int:
    """Return the bytes of files in memory, which the kernel gives back."""
    with contextlib.suppress(OSError, ValueError):
        lines = (line.split() for line in stat.read_text(encoding="ascii").splitlines())
        values = {name: int(value) for name, value in lines}
        return values.get("total_inactive_file", values.get("inactive_file", 0))
    return 0


def _in_container() -> bool:
    """Whether this is one: Docker, Podman, or Kubernetes, whose root is an overlay as well."""
    files = _DOCKER.exists() or _PODMAN.exists()
    return files or "KUBERNETES_SERVICE_HOST" in os.environ or mount("/")[1] == "overlay"


def _hidden(volume: Path = VOLUME) -> list[str]:
    """Return the folders below a mounted volume that the environment names and that are not there:
    the image had them, until the volume was mounted over it.
    """
    if not os.path.ismount(volume):
        return []
    names = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX")
    folders = (part for name in names for part in os.environ.get(name, "").split(os.pathsep))
    below = (part for part in folders if part.startswith(f"{volume}/"))
    return sorted({part for part in below if not os.path.exists(part)})


def _accelerate_config() -> str:
    """Return the file that `accelerate config` wrote, or nothing (accelerate's config_args.py)."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    base = Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser()
    file = base / "accelerate" / "default_config.yaml"
    return str(file) if file.is_file() else ""


def _nvcc(program: str) -> str:
    """Return the version of the compiler, "12.1", or nothing."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=3)
        found = re.search(r"release (\d+\.\d+)", done.stdout)
        return found[1] if found else ""
    return ""


def _xids(log: Path = Path("/dev/kmsg")) -> list[int] | None:
    """Return the numbers of the GPU errors that the kernel wrote down since it started; NVML tells
    only those that come while one waits for them.
    """
    try:
        stream = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    found: set[int] = set()
    with open(stream, "rb", buffering=0) as entries:
        while entry := _entry(entries):
            found |= {int(number) for number in _XID.findall(entry)}
    return sorted(found)


def _entry(log: IO[bytes]) -> str:
    """Return the next entry; nothing at the end, or where it may not be read."""
    while True:
        try:
            return (log.read(8192) or b"").decode("utf-8", errors="replace")
        except BrokenPipeError:  # overwritten meanwhile: the next one
            continue
        except OSError:
            return ""


def _say_place(role: str, path: str) -> None:
    _say(place=look(role, path))


if __name__ == "__main__":
    main()
