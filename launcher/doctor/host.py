"""The machine around the GPUs: shared memory, limits, memory, clock, first process."""

from __future__ import annotations

from launcher.diagnostics import Code, Severity
from launcher.doctor.line import GIB, Line, Lines, bad, gib, ok, plural, unchecked
from launcher.doctor.need import Need
from launcher.node.host import UNLIMITED, Host
from launcher.survey import Facts

SMALL_SHM = Code(
    "N301",
    "shared-memory-small",
    Severity.ERROR,
    "/dev/shm is too small for processes that exchange data through it.\n\n"
    "Docker gives 64 MB unless told otherwise. NCCL and the data loader's workers die there: "
    "Bus error, ncclShmOpen: No space left on device.",
)
FEW_FILES = Code(
    "N302",
    "few-open-files",
    Severity.WARNING,
    "A process may open few files at once.\n\n"
    "Datasets of many parts and the data loader's workers end with: Too many open files.",
)
PINNING = Code(
    "N303",
    "memlock-limit",
    Severity.WARNING,
    "Little memory may be pinned: InfiniBand and offloading to the host need it.\n\n"
    "NCCL falls back to slow sockets, or fails to register memory.",
)
LITTLE_MEMORY = Code(
    "N304",
    "host-memory-short",
    Severity.ERROR,
    "The machine's own memory, or what its container may use of it, does not hold the weights that "
    "are loaded or offloaded.\n\n"
    "The kernel ends the processes without a word (exit code -9, 137).",
)
TIGHT_MEMORY = Code(
    "N305",
    "host-memory-tight",
    Severity.WARNING,
    "The machine's own memory is less than the plan's: weights and 4 GiB for each process.\n\n"
    "The kernel may end the processes without a word (exit code -9, 137), often while saving.",
)
HIDDEN = Code(
    "N308",
    "hidden-by-volume",
    Severity.WARNING,
    "The environment names folders below a mounted volume that are not there.\n\n"
    "The image had them at this place, until the volume was mounted over it: programs are missing, "
    "or others are taken.",
)
CLOCK = Code(
    "N310",
    "clock-off",
    Severity.WARNING,
    "The clock differs from that of the Hub.\n\n"
    "Certificates and signed addresses for downloads and uploads count as expired.",
)
NO_INIT = Code(
    "N313",
    "signals-not-passed-on",
    Severity.WARNING,
    "The container's first process is no init: when the machine is taken back, SIGTERM goes to it "
    "alone.\n\n"
    "axr saves on SIGTERM, if it gets one. A shell as the first process passes nothing on, and "
    "after some seconds all is killed.",
)
SHM_OF_ONE = 1 * GIB  # bytes a GPU: NCCL's buffers, and batches of the workers
FILES = 1024  # what most systems give
PINNED = 64 * 2**20  # bytes; a container's 64 KiB or 8 MiB registers nothing
CLOCK_SECONDS = 120  # signed addresses live for minutes
INITS = {
    "axr",
    "tini",
    "dumb-init",
    "docker-init",
    "catatonit",
    "systemd",
    "init",
    "s6-svscan",
    "runit",
}


def lines(facts: Facts, need: Need) -> Lines:
    """Yield what is to say of the machine."""
    host = facts.host
    if host.why:
        yield unchecked("machine", host.why)
        return
    yield _shm(host, need)
    yield from _limits(host, need)
    yield _memory(host, need)
    if host.hidden:
        words = f"the volume hides {', '.join(host.hidden)}"
        hint = "mount it elsewhere, or install there anew: make setup"
        yield bad("volume", HIDDEN, words, hint)
    if facts.hub and facts.hub.endpoint.ahead is not None:
        yield _clock(facts.hub.endpoint.ahead)
    if host.container and not need.on_cpu:  # what is rented has a GPU, and is taken back
        yield _init(host)
    if host.accelerate_config:
        words = f"{host.accelerate_config} is not used: axr gives every value itself"
        yield ok("accelerate", words)
    if need.recipe:
        yield ok("telemetry", "axolotl's is off: axr sets AXOLOTL_DO_NOT_TRACK=1")


def _shm(host: Host, need: Need) -> Line:
    if host.shm is None:
        return unchecked("shared memory", "there is no /dev/shm")
    workers = need.settings.get("dataloader_num_workers")
    shared = need.processes > 1 or bool(workers)
    wanted = SHM_OF_ONE * need.processes
    words = f"/dev/shm has {gib(host.shm)}"
    if shared and host.shm < wanted:
        words += f"; {plural(need.processes, 'GPU')} with NCCL and workers want {gib(wanted)}"
        hint = f"start the container with --shm-size={need.processes * 2}g, or --ipc=host"
        return bad("shared memory", SMALL_SHM, words, hint)
    return ok("shared memory", words if shared else f"{words}; one process needs little")


def _limits(host: Host, need: Need) -> Lines:
    files = host.open_files
    if files is not None:
        if files != UNLIMITED and files < FILES:
            hint = "ulimit -n 65536; in Docker: --ulimit nofile=65536"
            yield bad("open files", FEW_FILES, f"at most {files} at once", hint)
        else:
            yield ok("open files", "no limit" if files == UNLIMITED else f"{files:,} at once")
    pins = need.nodes > 1 or need.compiles
    if pins and host.memlock is not None:
        if host.memlock != UNLIMITED and host.memlock < PINNED:
            hint = "ulimit -l unlimited; in Docker: --ulimit memlock=-1"
            words = f"{gib(host.memlock)} may be pinned"
            yield bad("locked memory", PINNING, words, hint)
        else:
            yield ok("locked memory", "enough may be pinned")


def _memory(host: Host, need: Need) -> Line:
    if host.memory is None:
        return unchecked("host memory", "it is not known how much is free")
    limit = f" (the container's limit is {gib(host.memory_limit)})" if host.memory_limit else ""
    words = f"{gib(host.memory)} free{limit}"
    if need.forecast is None:
        return ok("host memory", words)
    plan = need.forecast.host
    certain = max(plan.loading, plan.offloaded)
    words += f"; the run takes {gib(plan.needed)}"
    hint = "take a machine with more memory, or fewer GPUs of it: --gpus"
    span = need.span("deepspeed" if need.deepspeed is not None else "base_model")
    if host.memory < certain:
        return bad("host memory", LITTLE_MEMORY, words, hint, span)
    if host.memory < plan.needed:
        return bad("host memory", TIGHT_MEMORY, words, hint, span)
    return ok("host memory", words)


def _clock(ahead: float) -> Line:
    if abs(ahead) < CLOCK_SECONDS:
        return ok("clock", f"within {max(1.0, abs(ahead)):.0f} s of the Hub's")
    way = "slow" if ahead > 0 else "fast"
    return bad("clock", CLOCK, f"{abs(ahead):,.0f} s {way}", "timedatectl set-ntp true")


def _init(host: Host) -> Line:
    first = host.first
    if not first:
        return unchecked("first process", "it cannot be seen from here")
    if first in INITS:
        return ok("first process", f"{first}: it passes signals on")
    words = f"the container's first process is {first}: it may not pass SIGTERM on"
    hint = "start the container with --init, or make axr train its command (exec axr train ...)"
    return bad("first process", NO_INIT, words, hint)
