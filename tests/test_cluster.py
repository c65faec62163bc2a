"""Nodes as schedulers tell them: the environments that their manuals describe."""

from __future__ import annotations

import pytest

from launcher.cluster import ONE, PORT, Cluster, cluster, hosts
from launcher.diagnostics import LauncherError

ENVIRONMENTS = {
    "Slurm": (
        {
            "SLURM_JOB_ID": "41234",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_NNODES": "2",
            "SLURM_NODEID": "1",
            "SLURM_PROCID": "1",
            "SLURM_NTASKS": "2",
            "SLURM_JOB_NODELIST": "gpu[07-08]",
        },
        Cluster(2, 1, "gpu07", 22_468, "Slurm", "41234"),
    ),
    "one training of many in a Slurm job": (
        {
            "SLURM_JOB_ID": "41234",
            "SLURM_JOB_NUM_NODES": "4",
            "SLURM_NNODES": "4",
            "SLURM_NODEID": "0",
            "SLURM_JOB_NODELIST": "gpu[05-08]",
            "SLURM_STEP_NUM_NODES": "1",
            "SLURM_STEP_NODELIST": "gpu06",
        },
        ONE,
    ),
    "half of a Slurm job": (
        {
            "SLURM_JOB_ID": "41234",
            "SLURM_JOB_NUM_NODES": "4",
            "SLURM_NODEID": "1",
            "SLURM_JOB_NODELIST": "gpu[05-08]",
            "SLURM_STEP_NUM_NODES": "2",
            "SLURM_STEP_NODELIST": "gpu[07-08]",
        },
        Cluster(2, 1, "gpu07", 22_468, "Slurm", "41234"),
    ),
    "SkyPilot": (
        {
            "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5\n10.0.0.6\n",
            "SKYPILOT_NODE_RANK": "2",
            "SKYPILOT_NUM_NODES": "3",
            "SKYPILOT_NUM_GPUS_PER_NODE": "8",
            "SKYPILOT_TASK_ID": "sky-2026-11-22-18-55-02-112233_dpo_1",
        },
        Cluster(3, 2, "10.0.0.4", PORT, "SkyPilot", "sky-2026-11-22-18-55-02-112233_dpo_1"),
    ),
    "dstack": (
        {
            "DSTACK_NODES_NUM": "2",
            "DSTACK_NODE_RANK": "0",
            "DSTACK_MASTER_NODE_IP": "10.1.0.2",
            "DSTACK_GPUS_PER_NODE": "8",
            "DSTACK_RUN_NAME": "calm-otter-1",
        },
        Cluster(2, 0, "10.1.0.2", PORT, "dstack", "calm-otter-1"),
    ),
    "Kubeflow trainer": (
        {
            "PET_NNODES": "4",
            "PET_NPROC_PER_NODE": "8",
            "PET_NODE_RANK": "3",
            "PET_MASTER_ADDR": "run-node-0-0.run",
            "PET_MASTER_PORT": "29400",
        },
        Cluster(4, 3, "run-node-0-0.run", 29_400, "torchrun's variables"),
    ),
    "PyTorchJob": (
        {
            "KUBERNETES_PORT": "tcp://10.96.0.1:443",
            "MASTER_ADDR": "job-master-0",
            "MASTER_PORT": "23456",
            "WORLD_SIZE": "2",
            "RANK": "1",
        },
        Cluster(2, 1, "job-master-0", 23_456, "MASTER_ADDR and RANK"),
    ),
    "RunPod": (
        {
            "NUM_NODES": "2",
            "NODE_RANK": "1",
            "MASTER_ADDR": "10.65.0.2",
            "MASTER_PORT": "29400",
            "NUM_TRAINERS": "8",
            "WORLD_SIZE": "16",
        },
        Cluster(2, 1, "10.65.0.2", 29_400, "NUM_NODES and NODE_RANK"),
    ),
    "Open MPI": (
        {
            "OMPI_COMM_WORLD_SIZE": "2",
            "OMPI_COMM_WORLD_RANK": "0",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
            "MASTER_ADDR": "node-a",
        },
        Cluster(2, 0, "node-a", PORT, "Open MPI"),
    ),
    "a single Slurm node": (
        {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"},
        ONE,
    ),
    "one machine of a cloud": ({"NODE_RANK": "0", "NUM_NODES": "1"}, ONE),
    "nothing": ({}, ONE),
    "nonsense": ({"NUM_NODES": "many", "NODE_RANK": "-1", "RANK": "²", "WORLD_SIZE": "2"}, ONE),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_a_scheduler_says(name: str) -> None:
    environ, expected = ENVIRONMENTS[name]
    assert cluster(environ) == expected


def test_a_kubernetes_job_says_which_node_it_is_and_the_flag_of_how_many() -> None:
    """As in a JobSet: one indexed Job, the head's name given to all pods."""
    pod = {"JOB_COMPLETION_INDEX": "3", "MASTER_ADDR": "train-workers-0-0.train"}
    assert cluster(pod) == ONE
    told = "JOB_COMPLETION_INDEX"
    assert cluster(pod, nodes=4) == Cluster(4, 3, "train-workers-0-0.train", PORT, told)
    assert cluster(pod, nodes=4, head="10.0.0.1") == Cluster(4, 3, "10.0.0.1", PORT, told)
    with pytest.raises(LauncherError, match="node rank 3 of 2 nodes"):
        cluster(pod, nodes=2)


def test_two_jobs_of_slurm_on_one_node_do_not_take_each_others_ports() -> None:
    """One launcher meets at its port and trains at the next; job numbers follow each other."""
    environ, _ = ENVIRONMENTS["Slurm"]
    found = [cluster({**environ, "SLURM_JOB_ID": str(job)}).port for job in (41234, 41235)]
    assert len({port + more for port in found for more in (0, 1)}) == 4


def test_flags_come_before_the_environment() -> None:
    environ, _ = ENVIRONMENTS["Slurm"]
    found = cluster(environ, head="10.0.0.9:1234")
    assert (found.nodes, found.rank, found.host, found.port) == (2, 1, "10.0.0.9", 1234)
    assert cluster(environ, nodes=1, rank=0).nodes == 1
    found = cluster({}, nodes=2, rank=1, head="[fe80::1]:99")
    assert found == Cluster(2, 1, "fe80::1", 99)
    assert str(found) == "node 1 of 2, head fe80::1:99"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"head": "a"}, "--head, but there is one node"),
        ({"nodes": 2}, "--nodes 2 without --node-rank"),
        ({"nodes": 2, "rank": 2, "head": "a"}, "node rank 2 of 2 nodes"),
        ({"nodes": 2, "rank": -1, "head": "a"}, "node rank -1 of 2 nodes"),
        ({"nodes": 0, "rank": 0}, "node rank 0 of 0 nodes"),
        ({"nodes": 2, "rank": 0}, "it is not known which is the head"),
        ({"nodes": 2, "rank": 0, "head": "a:b"}, '--head "a:b" is not HOST:PORT'),
        ({"nodes": 2, "rank": 0, "head": "a:70000"}, "is not HOST:PORT"),
        ({"nodes": 2, "rank": 0, "head": "a:65535"}, "is not HOST:PORT"),  # and the next one
        ({"nodes": 2, "rank": 0, "head": "http://a"}, "is not HOST:PORT"),
    ],
)
def test_what_cannot_be_is_refused(flags: dict[str, object], said: str) -> None:
    with pytest.raises(LauncherError) as caught:
        cluster({}, **flags)  # type: ignore[arg-type]
    assert said in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"WORLD_SIZE": "16", "RANK": "3", "LOCAL_RANK": "3"}, "once for each GPU"),
        (
            ENVIRONMENTS["Slurm"][0] | {"SLURM_NTASKS_PER_NODE": "8"},
            "Slurm starts 8 tasks a node",
        ),
        (
            ENVIRONMENTS["Open MPI"][0] | {"OMPI_COMM_WORLD_LOCAL_SIZE": "8"},
            "mpirun starts 8 processes a node",
        ),
    ],
)
def test_one_process_a_gpu_is_too_many(environ: dict[str, str], said: str) -> None:
    with pytest.raises(LauncherError) as caught:
        cluster(environ)
    assert said in caught.value.message
    assert "axr" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu01", ["gpu01"]),
        ("gpu[01-03,07],login", ["gpu01", "gpu02", "gpu03", "gpu07", "login"]),
        ("a,b[1-2]c[3-4]", ["a", "b1c3", "b1c4", "b2c3", "b2c4"]),
        ("r[9-11]", ["r9", "r10", "r11"]),
        ("", []),
        ("[", []),
        ("a[5-1]", []),
    ],
)
def test_slurms_list_of_hosts(text: str, expected: list[str]) -> None:
    assert hosts(text) == expected


def test_a_hostile_list_stays_small() -> None:
    assert len(hosts("a[0-999999999]b[0-999999999]")) <= 10_000
