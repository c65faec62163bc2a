"""How real runs fail on a machine, or at the Hub: for every known failure that shows there stands a
machine on which the doctor tells it, and one on which it is silent; or another part is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from machine import about, codes, machine, need, said, shipped, written

from launcher.doctor.line import Verdict

GIB = 2**30
SFT = "base_model: Qwen/Qwen2.5-3B-Instruct\nmicro_batch_size: 1\nlearning_rate: 1.0e-5\n"
DATA = "datasets: [{path: org/rows, type: alpaca, split: train}]\n"
DPO = "qwen25-dpo"


def hub(*access: dict[str, Any], **account: Any) -> dict[str, Any]:
    return {"account": account, "access": list(access)}


def package(module: str, **other: str) -> dict[str, Any]:
    return {"packages": [{"module": module, "version": "1.0", **other}]}


MODEL = {"kind": "model", "name": "Qwen/Qwen2.5-3B-Instruct"}
ROWS = {"kind": "dataset", "name": "org/rows"}
PUSH = f"{SFT}hub_model_id: org/new\nhub_strategy: end\n"
WRITER = {"writing": [{"kind": "model", "name": "org/new", "state": "missing"}]}
FA2 = f"{SFT}attn_implementation: flash_attention_2\n"
CCE = f"{SFT}plugins: [axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin]\n"
OFFLOAD = f"{SFT}deepspeed: recipes/deepspeed/zero2-offload.json\n"
ZERO3_OFFLOAD = f"{SFT}deepspeed: recipes/deepspeed/zero3-offload.json\n"
WANDB = f"{SFT}wandb_project: mine\n"
COMET = f"{SFT}comet_project_name: mine\n"
BNB = f"{SFT}optimizer: adamw_8bit\n"
FULL = f"{SFT}sequence_len: 512\noptimizer: adamw_torch_fused\n"
FULL_DISK = [
    {"role": role, "path": path, "mount": mount, "kind": "ext4", "free": free * GIB}
    for role, path, mount, free in (
        ("run folder", "/workspace/runs", "/workspace", 900),
        ("Hub cache", "/root/hub", "/", 4),
        ("data cache", "/root/datasets", "/", 4),
    )
]
ONE_DISK = [
    {"role": role, "path": f"/{role}", "mount": "/", "kind": "ext4", "free": 15 * GIB}
    for role in ("run folder", "Hub cache", "data cache")
]
# failure, recipe (shipped name or text), code, what is wrong on an 8 x A100 node, and what of it
# is right again; {} is the node as it is
CASES: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    (
        "cuda13-driver",
        DPO,
        "N103",
        {"node": {"driver": "535.161.08"}, "stack": {"torch": {"cuda": "13.0"}}},
        {"node": {"driver": "535.161.08"}, "stack": {"torch": {"cuda": "12.6"}}},
    ),
    ("hf-cache-full", DPO, "N306", {"host": {"places": FULL_DISK}}, {}),
    ("ckpt-disk-full", DPO, "N306", {"host": {"places": ONE_DISK}}, {}),
    (
        "fa-abi",
        FA2,
        "N202",
        {"stack": package("flash_attn", trouble="ImportError: undefined symbol: _ZN3c105Error")},
        {"stack": package("flash_attn")},
    ),
    ("final-push", PUSH, "N402", {"hub": hub(state="expired")}, {"hub": WRITER}),
    ("final-push", PUSH, "N403", {"hub": hub(state="none")}, {"hub": WRITER}),
    (
        "hub-write",
        PUSH,
        "N406",
        {"hub": hub(role="read")},
        {"hub": {**WRITER, **hub(orgs=["org"])}},
    ),
    ("hub-write", PUSH, "N406", {"hub": hub()}, {"hub": {**WRITER, **hub(orgs=["org"])}}),
    ("oom-dpo-full", DPO, "N105", {"gpus": {"free_gib": 12.0}}, {}),
    (
        "gpu-busy",
        DPO,
        "N104",
        {"gpus": {"users": [{"pid": 7, "name": "python3", "gib": 20.0}]}},
        {},
    ),
    ("gpu-busy", DPO, "N104", {"gpus": {"free_gib": 60.0}}, {}),
    ("xet-hang", DPO, "N407", {"hub": {"endpoint": {"speed": 1e6}}}, {}),
    (
        "wandb-key",
        WANDB,
        "N410",
        {"trackers": [{"name": "wandb", "installed": True}]},
        {"trackers": [{"name": "wandb", "installed": True, "key": True}]},
    ),
    (
        "wandb-key",
        WANDB,
        "N412",
        {"trackers": [{"name": "wandb", "installed": True, "key": True, "valid": False}]},
        {"trackers": [{"name": "wandb", "installed": True, "key": True, "valid": True}]},
    ),
    (
        "comet-missing",
        COMET,
        "N411",
        {"trackers": [{"name": "comet", "installed": False, "key": True}]},
        {"trackers": [{"name": "comet", "installed": True, "key": True}]},
    ),
    (
        "comet-missing",
        COMET,
        "N410",
        {"trackers": [{"name": "comet", "installed": True}]},
        {"trackers": [{"name": "comet", "installed": True, "key": True}]},
    ),
    ("shm", SFT, "N301", {"host": {"shm": 64 * 2**20}}, {}),
    (
        "sigterm",
        DPO,
        "N313",
        {"host": {"container": True, "first": "bash"}},
        {"host": {"container": True, "first": "tini"}},
    ),
    ("host-ram", ZERO3_OFFLOAD, "N304", {"host": {"memory": 16 * GIB}}, {}),
    ("host-ram", SFT, "N305", {"host": {"memory": 16 * GIB}}, {}),
    ("workspace-hidden", SFT, "N308", {"host": {"hidden": ["/workspace/venv/bin"]}}, {}),
    ("cuda-home", OFFLOAD, "N204", {"host": {"nvcc": ""}}, {}),
    ("cuda-home", OFFLOAD, "N204", {"host": {"nvcc": "13.0"}}, {}),
    (
        "ds-missing",
        OFFLOAD,
        "N201",
        {"stack": {"packages": [{"module": "deepspeed"}]}},
        {"stack": package("deepspeed")},
    ),
    ("pre-ampere", f"{SFT}bf16: true\n", "N111", {"gpus": {"capability": [7, 5]}}, {}),
    ("pre-ampere", FA2, "N111", {"gpus": {"capability": [7, 0]}}, {}),
    (
        "fa3-a100",
        f"{SFT}attn_implementation: flash_attention_3\n",
        "N111",
        {},
        {"gpus": {"capability": [9, 0]}},
    ),
    ("fp8-a100", f"{SFT}fp8: true\n", "N111", {}, {"gpus": {"capability": [9, 0]}}),
    (
        "bnb-lib",
        BNB,
        "N202",
        {"stack": package("bitsandbytes", trouble="AttributeError: undefined symbol")},
        {"stack": package("bitsandbytes")},
    ),
    (
        "cce-liger-version",
        CCE,
        "N201",
        {"stack": {"packages": [{"module": "cut_cross_entropy.transformers"}]}},
        {"stack": package("cut_cross_entropy.transformers")},
    ),
    (
        "cce-liger-version",
        CCE,
        "N202",
        {
            "stack": package(
                "cut_cross_entropy.transformers", trouble="ModuleNotFoundError: No module named"
            )
        },
        {"stack": package("cut_cross_entropy.transformers")},
    ),
    (
        "gated",
        DPO,
        "N404",
        {"hub": hub({**MODEL, "state": "gated"})},
        {"hub": hub({**MODEL, "state": "open"})},
    ),
    (
        "split-key",
        f"{SFT}{DATA}",
        "N409",
        {"hub": hub({**ROWS, "state": "open", "splits": ["test"]})},
        {"hub": hub({**ROWS, "state": "open", "splits": ["test", "train"]})},
    ),
    (
        "ds-path",
        f"{SFT}{DATA}",
        "N405",
        {"hub": hub({**ROWS, "state": "missing"})},
        {"hub": hub({**ROWS, "state": "open"})},
    ),
]
# failure -> who answers it, and why not the doctor
ELSEWHERE = {
    "nccl-tokenise": "not foreseen: how long axolotl takes to tokenize has not been measured",
    "oom-eval": "the plan, in full: its memory is what N105 compares",
    "resume-oom": "the plan: loading takes no more than a step, see below",
    "final-save-crash": "rehearse: it saves, reloads and resumes before the real run",
    "accelerate-default": "launch gives every value itself: said as ok, see below",
    "telemetry": "launch sets AXOLOTL_DO_NOT_TRACK: said as ok, see below",
}
FAILURES = 33  # rows of the catalogue that show on the machine (N) or at the Hub (H)


def on(recipe: str, changes: dict[str, Any], **other: Any) -> set[str]:
    found = written(recipe) if "\n" in recipe else shipped(recipe)
    gpus = 1 if recipe == DPO else None  # its batch is one pair
    return codes(said(found, machine("8-a100", **changes), **{"gpus": gpus, **other}))


@pytest.mark.parametrize(("failure", "recipe", "code", "ill", "well"), CASES)
def test_told_where_it_is_and_nowhere_else(
    failure: str, recipe: str, code: str, ill: dict[str, Any], well: dict[str, Any]
) -> None:
    assert code in on(recipe, ill), failure
    assert code not in on(recipe, well), failure


def test_multinode() -> None:
    there: dict[str, Any] = {"host": "10.0.0.1", "port": 29500, "rank": 1}
    late = {**there, "why": "no answer within 5 s"}
    assert "N312" in on(SFT, {"head": late}, nodes=2)
    assert "N312" not in on(SFT, {"head": {**there, "ok": True}}, nodes=2)
    taken = {**there, "rank": 0, "why": "port 29500 is taken"}
    assert "N311" in on(SFT, {"head": taken}, nodes=2)
    assert "N311" not in on(SFT, {"head": {**there, "rank": 0, "ok": True}}, nodes=2)
    assert {"N302", "N303"} <= on(SFT, {"host": {"open_files": 256, "memlock": 65536}}, nodes=2)


@pytest.mark.parametrize("bf16", ["true", "false"])
def test_resume_oom_is_no_more_than_the_plan_of_a_step(bf16: str) -> None:
    """With several processes the optimizer's states go to the GPU twice while a checkpoint is
    loaded (transformers' trainer.py, _load_optimizer_and_scheduler): no more than gradients and
    DDP's buckets take in a step.
    """
    forecast = need(written(f"{FULL}bf16: {bf16}\n"), machine("8-a100")).forecast
    assert forecast
    held = forecast.memory.phases[0]
    assert held.weights + 2 * held.optimizer <= forecast.memory.allocated


def test_resume_deepspeed(tmp_path: Path) -> None:
    states = tmp_path / "checkpoint-10" / "global_step10"
    states.mkdir(parents=True)
    for rank in range(4):
        (states / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
    text = f"{SFT}deepspeed: recipes/deepspeed/zero2.json\n"
    text += f"resume_from_checkpoint: {states.parent}\n"
    assert "N206" in on(text, {})
    assert "N206" not in on(text, {}, gpus=4)


@pytest.mark.parametrize(
    ("installed", "code"),
    [
        ({"flash_attn", "kernels"}, None),
        ({"flash_attn"}, None),
        ({"kernels"}, None),
        (set(), "N201"),
    ],
)
def test_flash_attention_comes_as_a_package_or_from_the_hub(
    installed: set[str], code: str | None
) -> None:
    packages = [
        {"module": name, "version": "1.0" if name in installed else ""}
        for name in ("flash_attn", "kernels")
    ]
    assert on(FA2, {"stack": {"packages": packages}}) == ({code} if code else set())


def test_what_the_launcher_makes_harmless_is_said_as_ok() -> None:
    file = "/root/.cache/huggingface/accelerate/default_config.yaml"
    lines = said(written(SFT), machine("8-a100", host={"accelerate_config": file}))
    assert about(lines, "accelerate").verdict is Verdict.OK
    assert file in about(lines, "accelerate").words
    assert "AXOLOTL_DO_NOT_TRACK" in about(lines, "telemetry").words


def test_no_failure_is_forgotten() -> None:
    alone = {name[5:].replace("_", "-") for name in globals() if name.startswith("test_")}
    told = {failure for failure, *_ in CASES} | (alone & {"multinode", "resume-deepspeed"})
    assert told.isdisjoint(ELSEWHERE)
    assert len(told | ELSEWHERE.keys()) == FAILURES
