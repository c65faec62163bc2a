"""A traceback becomes its cause: the words of the stack as real runs ended with them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from launcher.causes import known, told

# What a log said, and the name of the cause.
ENDS = [
    (
        "stalled: nothing has moved for 30 min (after step 12): 7 of 8 ranks wait in all_reduce",
        "stalled",
    ),
    ("node 1 (gpu-02) was lost: it closed the connection", "node-lost"),
    ("node 1 (gpu-02) stopped: its training ended with exit code 1", "node-lost"),
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total "
        "capacity of 79.15 GiB of which 1.20 GiB is free.",
        "out-of-memory",
    ),
    (
        "[rank3]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.",
        "out-of-memory",
    ),
    (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12010).",
        "driver-too-old",
    ),
    ("OSError: [Errno 28] No space left on device", "disk-full"),
    (
        "RuntimeError: [enforce fail at inline_container.cc:815] . PytorchStreamWriter failed "
        "writing file data/12: file write failed",
        "disk-full",
    ),
    (
        "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-6)",
        "gated",
    ),
    (
        "OSError: You are trying to access a gated repo.",
        "gated",
    ),
    (
        "huggingface_hub.errors.HfHubHTTPError: 403 Forbidden: You don't have the rights to create "
        "a model under the namespace",
        "hub-cannot-write",
    ),
    ("huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error.", "hub-no-repository"),
    ("huggingface_hub.errors.HfHubHTTPError: 401 Client Error: Unauthorized for url", "hub-token"),
    ("huggingface_hub.errors.HFValidationError: Repo id must be in the form", "hub-name"),
    ("wandb.errors.UsageError: No API key configured. Use `wandb login`", "wandb-key"),
    (
        "RuntimeError: CometCallback requires comet-ml to be installed. Run `pip install`.",
        "comet-missing",
    ),
    (
        "ImportError: /lib/flash_attn_2_cuda.so: undefined symbol: _ZN3c105ErrorC2ENS_14Source",
        "flash-attn-abi",
    ),
    ("RuntimeError: FlashAttention only supports Ampere GPUs or newer.", "no-flash-attn"),
    (
        "deepspeed.ops.op_builder.builder.MissingCUDAException: CUDA_HOME does not exist, unable to"
        " compile CUDA op(s)",
        "no-nvcc",
    ),
    ("torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered", "hardware"),
    ("AssertionError: Torch not compiled with CUDA enabled", "no-cuda"),
    (
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local "
        "network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE",
        "port-in-use",
    ),
    (
        "torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError",
        "rendezvous",
    ),
    (
        "[rank5]:[E ProcessGroupNCCL.cpp:632] [Rank 5] Watchdog caught collective operation "
        "timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE, Timeout(ms)=1800000) ran for 1800012 ms",
        "nccl-timeout",
    ),
    (
        "torch.distributed.DistBackendError: NCCL error in: ../NCCLUtils.hpp:275, remote process "
        "exited or there was a network error, NCCL version 2.27.5",
        "rank-lost",
    ),
    (
        "RuntimeError: Error(s) in loading state_dict for PeftModelForCausalLM:",
        "resume-mismatch",
    ),
    (
        "ValueError: Target modules {'q_prj'} not found in the base model. Please check",
        "lora-targets",
    ),
    (
        "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",
        "nothing-trains",
    ),
    ("ValueError: Please set lora_modules_to_save to [`embed_tokens`]", "lora-new-token"),
    ("ValueError: num_samples should be a positive integer value, but got 0", "no-rows-left"),
    (
        "RuntimeError: DataLoader worker (pid 41) is killed by signal: Bus error. It is possible "
        "that dataloader's workers are out of shared memory.",
        "shared-memory",
    ),
    ("AttributeError: libbitsandbytes_cuda126.so: undefined symbol: cget_col", "bitsandbytes"),
    (
        "ValueError: Cannot use chat template functions because tokenizer.chat_template is not set",
        "no-chat-template",
    ),
    ("ValueError: eval dataset split is too small for sample_packing.", "eval-too-small"),
    ("datasets.exceptions.DatasetGenerationCastError: An error occurred", "rows-differ"),
    ("ValueError: The dataset could not be loaded. This could be due to", "dataset-not-found"),
    (
        "safetensors_rust.SafetensorError: Error while deserializing header: "
        "MetadataIncompleteBuffer",
        "damaged-download",
    ),
    ("  exitcode  : -9 (pid: 2411)", "host-memory"),
    ("RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed. ", "host-memory"),
    ("ModuleNotFoundError: No module named 'flash_attn'", "no-flash-attn"),
    ("httpx.ConnectTimeout: timed out", "hub-hiccup"),
    (
        "huggingface_hub.errors.HfHubHTTPError: 503 Server Error: Service Unavailable for url",
        "hub-hiccup",
    ),
    ("ModuleNotFoundError: No module named 'liger_kernel'", "package-missing"),
]


@pytest.mark.parametrize(("line", "name"), ENDS)
def test_the_cause_of(line: str, name: str) -> None:
    log = ["[INFO] loading", "Traceback (most recent call last):", line, *CHILD]
    found = told(log, 1)
    assert found is not None
    assert (found.cause.name, found.line) == (name, line.strip())


CHILD = [
    "subprocess.CalledProcessError: Command '['python', 'x']' returned non-zero exit status 1.",
]


def test_what_is_not_known_has_no_cause() -> None:
    assert told(["Traceback (most recent call last):", "ValueError: the moon is full"], 1) is None
    assert told([], 1) is None


def test_what_was_raised_counts_before_what_was_printed() -> None:
    log = ["[WARNING] wandb: no API key, 503 Service Unavailable Error", "ValueError: no"]
    log += ["torch.OutOfMemoryError: CUDA out of memory."]
    found = told(log, 1)
    assert found is not None
    assert found.cause.name == "out-of-memory"


def test_an_old_failure_that_training_survived_is_none() -> None:
    log = ["httpx.ReadTimeout: retrying", *["{'loss': 0.6}"] * 1000, "ValueError: the moon is full"]
    assert told(log, 1) is None


def test_one_that_is_killed_without_a_word_ran_out_of_memory() -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    code = subprocess.run([sys.executable, "-c", script], check=False).returncode
    found = told(["{'loss': 0.6}"], code)
    assert found is not None
    assert found.cause.name == "host-memory"


def test_every_cause_of_the_table_is_told_by_a_case() -> None:
    names = [cause.name for cause in known()]
    assert len(names) == len(set(names))
    assert set(names) == {name for _, name in ENDS}


@pytest.mark.parametrize("text", ["x" * 100_000, "(" * 5000, "a" * 50_000 + "Error: 503"])
def test_a_hostile_log_takes_no_time(text: str) -> None:
    told([text] * 400, 1)


def test_what_is_worth_another_start() -> None:
    retried = {cause.name for cause in known() if cause.retry}
    assert {"nccl-timeout", "rank-lost", "hub-hiccup", "hardware"} <= retried
    assert not {"out-of-memory", "disk-full", "rows-differ", "gated", "driver-too-old"} & retried


def test_what_axolotl_only_remarks_is_no_cause() -> None:
    remark = (
        "[2026-11-23 06:29:09,981] [WARNING] [axolotl.utils.environment] Torch not compiled with "
        "CUDA enabled"
    )
    assert told([remark, "RuntimeError: the moon is full"]) is None
    found = told([remark, "AssertionError: Torch not compiled with CUDA enabled"])
    assert found is not None
    assert found.cause.name == "no-cuda"


def test_what_was_raised_counts_before_what_was_only_printed() -> None:
    found = told(["tried again after CUDA out of memory", "ConnectionError: 503 Server Error"])
    assert found is not None
    assert found.cause.name == "hub-hiccup"
