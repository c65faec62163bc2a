"""`axr doctor` as a person or a script meets it: real processes, a Hub over HTTP, stand-in GPUs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import stand_in_nvml
from conftest import Axr, hidden
from loopback_hub import Token, hub
from stand_in_nvml import a100, described

from launcher.node.record import from_data
from launcher.survey import Facts

TOKEN = "hf_" + "Qq77" * 8
KEY = "0123456789abcdef0123456789abcdef"
RECIPE = """\
x-recipe: {title: Mine, method: sft, needs: {gpu: none, gpus: 1, disk: 1, secrets: [HF_TOKEN]}}
base_model: org/model
datasets: [{path: rows.jsonl, type: alpaca}]
micro_batch_size: 1
learning_rate: 1.0e-4
output_dir: out
hub_model_id: me/new
hub_strategy: end
wandb_project: mine
"""
CPU = {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "repositories" / "models" / "org" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (tmp_path / "my.yaml").write_text(RECIPE)
    return tmp_path


def home(folder: Path, **other: str) -> dict[str, str]:
    wandb = "http://127.0.0.1:9"  # nothing listens there: no test asks the real one
    return {"HOME": str(folder), "WANDB_BASE_URL": wandb, **other}


def test_two_gpus_as_data(axr: Axr, folder: Path) -> None:
    machine = described(a100(0), a100(1, free=9000, pid=77, used=72000))
    env = home(folder, HF_TOKEN=TOKEN, WANDB_API_KEY=KEY)
    env |= stand_in_nvml.environment(folder, machine)
    with hub(folder / "repositories", tokens={TOKEN: Token("me", role="read")}) as url:
        done = axr("doctor", "my.yaml", "--json", env={**env, "HF_ENDPOINT": url})
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["ready"] is False
    facts = from_data(Facts, told["facts"])
    assert [gpu.free_gib for gpu in facts.node.gpus] == [79.49, 8.79]
    codes = {line["code"] for line in told["lines"]}
    assert codes >= {"N104", "N203", "N406"}  # torch here is one for a CPU
    (push,) = (line for line in told["lines"] if line["code"] == "N406")
    assert (push["verdict"], push["line"]) == ("error", 7)
    for secret in (TOKEN, KEY):
        assert secret not in done.stdout + done.stderr


def test_ready_on_a_cpu(axr: Axr, folder: Path) -> None:
    env = home(folder, **CPU, HF_TOKEN=TOKEN, WANDB_API_KEY=KEY)
    with hub(folder / "repositories", tokens={TOKEN: Token("me")}) as url:
        done = axr("doctor", "my.yaml", env={**env, "HF_ENDPOINT": url})
    assert done.returncode == 0, done.stdout
    assert "all-reduce" in done.stdout
    assert "ok           push              me/new will be made; the token may\n" in done.stdout
    assert "ok           Weights & Biases  WANDB_API_KEY is set; not tried: " in done.stdout
    first = "next: axr fetch my.yaml  # not here: org/model\n"
    assert done.stderr == first + "      axr train my.yaml\n"
    assert not (folder / "runs").exists()
    assert not (folder / "out").exists()


def test_nobody_is_asked_offline(axr: Axr, folder: Path) -> None:
    seen: list[str] = []
    env = home(folder, **CPU)
    with hub(folder / "repositories", seen=seen) as url:
        done = axr("doctor", "my.yaml", "--offline", env={**env, "HF_ENDPOINT": url})
    assert seen == []
    assert "not checked  Hub " in done.stdout
    assert "error        secrets" in done.stdout  # HF_TOKEN: L101 stands for it
    assert "WANDB_API_KEY is not set [N410]" in done.stdout
    assert "next: axr explain L101" in done.stderr


def test_without_the_stack_it_says_so(axr: Axr, folder: Path) -> None:
    without = hidden(folder / "hidden", "torch", "axolotl", "huggingface_hub")["PYTHONPATH"]
    path = os.pathsep.join(filter(None, [without, os.environ.get("PYTHONPATH")]))
    done = axr("doctor", env=home(folder, **CPU, PYTHONPATH=path))
    assert done.returncode == 1
    assert "not checked  Hub            huggingface_hub is not installed" in done.stdout
    assert "torch is not installed for this Python [N201]" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "fact"),
    [
        ("nothing", 2, 'no recipe "nothing"'),
        ("my.yaml learning_rat=1", 1, 'unknown key "learning_rat"'),
        ("--head a:b", 2, '--head "a:b" is not HOST:PORT'),
        ("--head 10.0.0.1:99999", 2, "is not HOST:PORT"),
        ("--nodes 2 --node-rank 2", 2, "node rank 2 of 2 nodes"),
        ("--head 10.0.0.1:29500", 2, "--head, but there is one node"),
        ("--timeout 0", 2, "--timeout"),
    ],
)
def test_what_cannot_be_asked(axr: Axr, folder: Path, words: str, code: int, fact: str) -> None:
    done = axr("doctor", *words.split(), env=home(folder, **CPU))
    assert (done.returncode, done.stdout) == (code, "")
    assert fact in done.stderr
    assert "Traceback" not in done.stderr


def test_a_time_limit_holds_and_says_what_is_not_known(axr: Axr, folder: Path) -> None:
    done = axr("doctor", "--offline", "--timeout", "0.1", env=home(folder, **CPU))
    assert "not checked  torch" in done.stdout
    assert "no answer within 0.1 s" in done.stdout


def test_gpus_that_are_asked_for_and_not_here(axr: Axr, folder: Path) -> None:
    done = axr("doctor", "--gpus", "4", "--offline", env=home(folder, **CPU))
    assert done.returncode == 1
    assert "4 x GPU are needed, and this machine has no GPU [N101]" in done.stdout


def test_hints_can_be_pasted_whatever_the_name_of_the_file(axr: Axr, folder: Path) -> None:
    (folder / "my own.yaml").write_text((folder / "my.yaml").read_text())
    busy = stand_in_nvml.environment(folder, described(a100(free=8000)))
    env = home(folder, **busy)
    done = axr("doctor", "my own.yaml", "--gpus", "4", "--offline", "--json", env=env)
    found = {line["code"]: line for line in json.loads(done.stdout)["lines"]}
    assert "--gpus 4, and this machine has 1 x" in found["N113"]["words"]
    words = ["x-recipe.needs.gpu=a100-80gb", "x-recipe.needs.gpus=4"]
    done = axr("doctor", "my own.yaml", *words, "--offline", "--json", env=env)
    found = {line["code"]: line for line in json.loads(done.stdout)["lines"]}
    hint = f"axr plan 'my own.yaml' {' '.join(words)} --gpus 1"
    assert hint in found["N102"]["remedy"]


def test_gpus_that_the_environment_leaves_out_are_no_reason_to_rent_some(
    axr: Axr, folder: Path
) -> None:
    here = stand_in_nvml.environment(folder, described(a100()))
    env = home(folder, **here, CUDA_VISIBLE_DEVICES="7")
    done = axr("doctor", "--gpus", "1", "--offline", env=env)
    assert "no GPU to use: CUDA_VISIBLE_DEVICES leaves out 1 GPU [N101]" in done.stdout
    assert "help: unset CUDA_VISIBLE_DEVICES" in done.stdout


def test_two_nodes(axr: Axr, folder: Path) -> None:
    words = ["doctor", "my.yaml", "--offline", "--nodes", "2", "--node-rank", "0", "--head"]
    done = axr(*words, "127.0.0.1:29517", env=home(folder, **CPU))
    assert "ok           rendezvous" in done.stdout
    done = axr(*words, "192.0.2.1:29517", env=home(folder, **CPU))
    assert "192.0.2.1 is not an address of this machine [N311]" in done.stdout


def test_train_looks_first_and_stops_at_an_error(axr: Axr, folder: Path) -> None:
    (folder / "my.yaml").write_text(RECIPE.replace(", secrets: [HF_TOKEN]", ""))
    env = home(folder, **CPU, HF_TOKEN=TOKEN)
    seen: list[str] = []
    with hub(folder / "repositories", tokens={TOKEN: Token("me", role="read")}, seen=seen) as url:
        env["HF_ENDPOINT"] = url
        done = axr("train", "my.yaml", "--dry-run", env=env)
        assert (done.returncode, seen) == (0, [])
        done = axr("train", "my.yaml", env=env)
    assert done.returncode == 1
    assert (
        "error[N406 cannot-push]: me/new: the token may only read\n  --> my.yaml:7" in done.stderr
    )
    assert "error[N410 tracker-key-missing]: WANDB_API_KEY is not set" in done.stderr
    assert "add --skip-doctor" in done.stderr
    assert "ok " not in done.stderr
    assert not (folder / "runs").exists()


def test_on_a_terminal_it_is_a_table(folder: Path) -> None:
    import test_cli

    env = home(folder, **CPU, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    code, said = test_cli.on_a_terminal("doctor", "--offline", cwd=folder, env=env)
    assert code == 0
    assert "found" in said
    assert "\x1b[32mok" in said
