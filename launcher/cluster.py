"""Which nodes a run has, and which of them this one is: by flags, or as its scheduler says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from launcher.diagnostics import LauncherError

MOST = 10_000  # nodes
LAST_PORT = 65_534  # the training takes the one after it (launcher.launch)
PORT = 29400  # of the head; beside torch's own 29500, which another training may hold


@dataclass(frozen=True)
class Cluster:
    """The nodes of a run. ``rank``: this node's number, from 0; ``host``: the head's (rank 0's)
    name or address; ``told_by``: who said so; ``job``: what names the run on all nodes alike,
    empty where nothing does.
    """

    nodes: int = 1
    rank: int = 0
    host: str = ""
    port: int = PORT
    told_by: str = ""
    job: str = ""

    def __str__(self) -> str:
        """Return for instance "node 1 of 2, head gpu-01:29400 (Slurm)"."""
        by = f" ({self.told_by})" if self.told_by else ""
        return f"node {self.rank} of {self.nodes}, head {self.host}:{self.port}{by}"


ONE = Cluster()


def cluster(
    environ: Mapping[str, str],
    *,
    nodes: int | None = None,
    rank: int | None = None,
    head: str | None = None,
) -> Cluster:
    """Return the nodes of a run: as the flags say, else as the environment does, else one.

    Raises ``LauncherError`` for what contradicts itself or is not enough.
    """
    found = next((one for read in _READERS if (one := read(environ))), ONE)
    if nodes is None and rank is None and head is None:
        return _checked(found)
    if found == ONE:
        found = _indexed(environ)
    host, port = _address(head) if head else (found.host, found.port)
    count = found.nodes if nodes is None else nodes
    own = found.rank if rank is None else rank
    if head and count == 1:
        fact = "--head, but there is one node"
        raise LauncherError(fact, "add --nodes 2 and --node-rank", exit_code=2)
    if rank is None and count > 1 and not found.told_by:
        raise LauncherError(
            f"--nodes {count} without --node-rank",
            "on the first node --node-rank 0, on the others 1, 2, ...",
            exit_code=2,
        )
    return _checked(Cluster(count, own, host, port, found.told_by, found.job))


def hosts(text: str) -> list[str]:
    """Return the hosts of Slurm's list: ``gpu[01-03,7],login`` are gpu01, gpu02, gpu03, gpu7,
    login.
    """
    found = []
    for part in re.findall(r"[^,\[\]]+(?:\[[^\]]*\][^,\[\]]*)*|\[[^\]]*\][^,\[\]]*", text):
        names = [""]
        for plain, inner in re.findall(r"([^\[\]]+)|\[([^\]]*)\]", part):
            ends = _numbers(inner) if inner else [plain]
            names = list(islice((name + end for name in names for end in ends), MOST))
        found += names
    return found[:MOST]


def _numbers(text: str) -> list[str]:
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if dash and first.isdecimal() and last.isdecimal():
            stop = min(int(last), int(first) + MOST)
            found += [str(n).zfill(len(first)) for n in range(int(first), stop + 1)]
        else:
            found.append(part)
    return found


def _slurm(environ: Mapping[str, str]) -> Cluster | None:
    count, names = _slurm_nodes(environ)
    rank = _whole(environ.get("SLURM_NODEID"))
    if count < 2 or rank < 0:
        return None
    if _whole(environ.get("SLURM_NTASKS_PER_NODE")) > 1:
        fact = f"Slurm starts {environ['SLURM_NTASKS_PER_NODE']} tasks a node"
        hint = "axr starts the processes itself: srun --ntasks-per-node=1 axr train ..."
        raise LauncherError(fact, hint, exit_code=2)
    job = environ.get("SLURM_JOB_ID", "")
    # two jobs may share a node, and each takes two ports: the next one is the training's
    port = 20_000 + 2 * (_whole(job) % 5_000) if _whole(job) >= 0 else PORT
    return Cluster(count, rank, names[0] if names else "", port, "Slurm", job)


def _slurm_nodes(environ: Mapping[str, str]) -> tuple[int, list[str]]:
    """Return how many nodes `srun` runs this on, and which; without it those of the whole job. A
    job of many nodes may run many trainings of one: srun --nodes=1.
    """
    if (count := _whole(environ.get("SLURM_STEP_NUM_NODES"))) > 0:
        return count, hosts(environ.get("SLURM_STEP_NODELIST", ""))
    count = _whole(environ.get("SLURM_JOB_NUM_NODES") or environ.get("SLURM_NNODES"))
    return count, hosts(environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST", ""))


def _skypilot(environ: Mapping[str, str]) -> Cluster | None:
    addresses = environ.get("SKYPILOT_NODE_IPS", "").split()
    rank = _whole(environ.get("SKYPILOT_NODE_RANK"))
    if rank < 0 or len(addresses) < 2:
        return None
    job = environ.get("SKYPILOT_TASK_ID", "")
    return Cluster(len(addresses), rank, addresses[0], PORT, "SkyPilot", job)


def _dstack(environ: Mapping[str, str]) -> Cluster | None:
    count, rank = _whole(environ.get("DSTACK_NODES_NUM")), _whole(environ.get("DSTACK_NODE_RANK"))
    if count < 2 or rank < 0:
        return None
    head, job = environ.get("DSTACK_MASTER_NODE_IP", ""), environ.get("DSTACK_RUN_NAME", "")
    return Cluster(count, rank, head, PORT, "dstack", job)


def _torchrun(environ: Mapping[str, str]) -> Cluster | None:
    """What Kubeflow's trainer sets for torchrun."""
    count, rank = _whole(environ.get("PET_NNODES")), _whole(environ.get("PET_NODE_RANK"))
    if count < 2 or rank < 0:
        return None
    head, port = environ.get("PET_MASTER_ADDR", ""), _port(environ.get("PET_MASTER_PORT"))
    return Cluster(count, rank, head, port, "torchrun's variables", "")


def _runpod(environ: Mapping[str, str]) -> Cluster | None:
    """RunPod's clusters, and whoever sets the same names by hand."""
    count = _whole(environ.get("NUM_NODES") or environ.get("NNODES"))
    rank = _whole(environ.get("NODE_RANK"))
    if count < 2 or rank < 0:
        return None
    head = environ.get("MASTER_ADDR") or environ.get("PRIMARY_ADDR", "")
    port = _port(environ.get("MASTER_PORT") or environ.get("PRIMARY_PORT"))
    return Cluster(count, rank, head, port, "NUM_NODES and NODE_RANK", "")


def _kubeflow(environ: Mapping[str, str]) -> Cluster | None:
    """Kubeflow's PyTorchJob: WORLD_SIZE and RANK count pods. Inside torchrun they count processes,
    and there LOCAL_RANK is set, too.
    """
    count, rank = _whole(environ.get("WORLD_SIZE")), _whole(environ.get("RANK"))
    if "LOCAL_RANK" in environ:
        fact = "LOCAL_RANK is set: a launcher started this process once for each GPU"
        hint = "axr starts the processes itself: start it once a node"
        raise LauncherError(fact, hint, exit_code=2)
    if count < 2 or rank < 0 or not environ.get("MASTER_ADDR"):
        return None
    port = _port(environ.get("MASTER_PORT"))
    return Cluster(count, rank, environ["MASTER_ADDR"], port, "MASTER_ADDR and RANK", "")


def _mpi(environ: Mapping[str, str]) -> Cluster | None:
    """Open MPI with one process a node; the head's address has to be given."""
    count = _whole(environ.get("OMPI_COMM_WORLD_SIZE"))
    rank = _whole(environ.get("OMPI_COMM_WORLD_RANK"))
    if count < 2 or rank < 0:
        return None
    if _whole(environ.get("OMPI_COMM_WORLD_LOCAL_SIZE")) > 1:
        fact = f"mpirun starts {environ['OMPI_COMM_WORLD_LOCAL_SIZE']} processes a node"
        raise LauncherError(fact, "mpirun --map-by ppr:1:node axr train ...", exit_code=2)
    return Cluster(count, rank, environ.get("MASTER_ADDR", ""), PORT, "Open MPI", "")


def _indexed(environ: Mapping[str, str]) -> Cluster:
    """A Kubernetes Job with an index, as JobSet makes them: it tells which node this one is, not of
    how many.
    """
    rank = _whole(environ.get("JOB_COMPLETION_INDEX"))
    head = environ.get("MASTER_ADDR", "")
    return Cluster(1, rank, head, PORT, "JOB_COMPLETION_INDEX") if rank >= 0 else ONE


_READERS: tuple[Callable[[Mapping[str, str]], Cluster | None], ...] = (
    _skypilot,
    _dstack,
    _slurm,
    _torchrun,
    _runpod,
    _mpi,
    _kubeflow,
)


def _checked(found: Cluster) -> Cluster:
    if found.nodes < 1 or not 0 <= found.rank < found.nodes:
        fact = f"node rank {found.rank} of {found.nodes} node{'s' * (found.nodes != 1)}"
        raise LauncherError(fact, "ranks go from 0 to the number of nodes less 1", exit_code=2)
    if found.nodes > 1 and not found.host:
        fact = f"{found.nodes} nodes, and it is not known which is the head"
        raise LauncherError(fact, "--head HOST:PORT, the same on every node", exit_code=2)
    return found


def _address(text: str) -> tuple[str, int]:
    """Return host and port of ``host``, ``host:port``, ``[v6]:port``."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.%]+)\]|([^:\s/]+))(?::(\d{1,5}))?", text)
    port = int(match[3] or PORT) if match else 0
    if match is None or not 0 < port <= LAST_PORT:
        raise LauncherError(f'--head "{text}" is not HOST:PORT', "--head 10.0.0.1", exit_code=2)
    return match[1] or match[2], port


def _port(text: str | None) -> int:
    found = _whole(text)
    return found if 0 < found <= LAST_PORT else PORT


def _whole(text: str | None) -> int:
    """Return a number of the environment, -1 where it is none."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else -1
