"""``axr fetch`` as a person runs it, against a Hub over real HTTP; a training without one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import Axr
from loopback_hub import Faults, Token, hub
from tiny import dpo_config, make_dpo_rows, make_model

TOKEN = "hf_" + "Qq77" * 8
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder with a recipe that names two repositories of models and one of rows."""
    rows = tmp_path / "repositories/datasets/org/rows"
    rows.mkdir(parents=True)
    make_dpo_rows(rows / "short.jsonl", 8)
    make_dpo_rows(rows / "other.jsonl", 8)
    config = dpo_config(Path("org/model"), Path("org/rows"), tmp_path / "out")
    config |= {"tokenizer_config": "org/words", "max_steps": 1, "learning_rate": 1e-5}
    config["datasets"][0]["data_files"] = ["short.jsonl"]
    del config["datasets"][0]["ds_type"], config["dataset_prepared_path"]
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def environment(home: Path, url: str, **other: str) -> dict[str, str]:
    places = {"HOME": str(home), "HF_HOME": str(home / "hf"), "AXR_RUNS": str(home / "runs")}
    return {**places, "HF_ENDPOINT": url, "CUDA_VISIBLE_DEVICES": "", **other}


def interrupted(home: Path, url: str) -> tuple[int, str]:
    """Fetch, press Ctrl-C while it downloads, and return exit code and words."""
    command = [sys.executable, "-m", "launcher", "fetch", "my.yaml"]
    env = {**os.environ, **environment(home, url)}
    said = ""
    with subprocess.Popen(command, cwd=home, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            said += line
            if line == "fetch: downloading\n":
                process.send_signal(signal.SIGINT)
        return process.wait(timeout=60), said


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_what_was_fetched_trains_without_a_network(home: Path, axr: Axr) -> None:
    model = make_model(home / "repositories/models/org/model")
    words = home / "repositories/models/org/words"
    shutil.copytree(model, words)
    for file, text in {"pytorch_model.bin": "again", "original/consolidated.00.pth": "raw"}.items():
        (model / file).parent.mkdir(exist_ok=True)
        (model / file).write_text(text)
    (model / "tokenizer.json").unlink()
    with hub(home / "repositories", faults=Faults(rate=1e5)) as url:
        code, said = interrupted(home, url)
    assert code == 130
    assert "stopped; what is here stays. Go on: axr fetch my.yaml" in said
    seen: list[str] = []
    stall = Faults(downloads={"model.safetensors": ["stall"]})
    with hub(home / "repositories", faults=stall, seen=seen) as url:
        env = environment(home, url)
        done = axr("fetch", "my.yaml", "--stall-minutes", "0.05", "--json", cwd=home, env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ready"], found
    assert set(found["offline"]) == {"config", "tokenizer", "weights", "datasets.0"}
    got = {line.split("/")[-1].split()[0] for line in seen if line.startswith("GET /")}
    assert {"model.safetensors", "short.jsonl"} <= got
    assert not {"pytorch_model.bin", "consolidated.00.pth", "other.jsonl"} & got
    assert not any("org/words" in line and "safetensors" in line for line in seen)
    assert (words / "model.safetensors").exists()  # it is there, and not what is wanted of it
    env = environment(home, NOWHERE, HF_HUB_OFFLINE="1")
    done = axr("train", "my.yaml", "--cpu", "--skip-doctor", cwd=home, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(home.glob("runs/*/model/adapter_model.safetensors"))


def test_what_may_not_be_read_is_told_in_the_doctors_words(home: Path, axr: Axr) -> None:
    (home / "repositories/models/org/model").mkdir(parents=True)
    (home / "repositories/models/org/model/config.json").write_text("{}")
    tokens = {TOKEN: Token("me")}
    with hub(home / "repositories", gated=["org/model"], tokens=tokens) as url:
        env = environment(home, url, HF_TOKEN=TOKEN)
        done = axr("fetch", "my.yaml", cwd=home, env=env)
    assert done.returncode == 1
    assert 'error[N404 gated-repository]: "org/model" is gated' in done.stderr
    assert 'error[N405 repository-missing]: the Hub has no model "org/words"' in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_without_a_network_one_line_says_so(home: Path, axr: Axr) -> None:
    for env in (environment(home, NOWHERE), environment(home, NOWHERE, HF_HUB_OFFLINE="1")):
        done = axr("fetch", "my.yaml", cwd=home, env=env)
        assert done.returncode == 3
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert error.endswith("; not here: org/model, org/words, org/rows")
        assert "help: where there is one: axr fetch my.yaml" in done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_check_says_what_is_missing_and_brings_none_of_it(home: Path, axr: Axr) -> None:
    model = make_model(home / "repositories/models/org/model")
    shutil.copytree(model, home / "repositories/models/org/words")
    seen: list[str] = []
    with hub(home / "repositories", seen=seen) as url:
        env = environment(home, url)
        done = axr("fetch", "my.yaml", "--check", cwd=home, env=env)
    assert done.returncode == 1
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines] == [
        ["model", "org/model"],
        ["model", "org/words"],
        ["dataset", "org/rows"],
    ]
    assert all(line[-1] == "missing" for line in lines)
    assert done.stderr.count("error[N426 not-offline]") == 3
    assert "help: axr fetch my.yaml" in done.stderr
    got = [line for line in seen if line.startswith("GET /org/") or ".jsonl" in line]
    assert [line for line in got if "bytes=" not in line] == []  # but for the sample of its speed


def test_code_from_outside_is_asked_for(home: Path, axr: Axr) -> None:
    env = environment(home, NOWHERE)
    done = axr("fetch", "my.yaml", "trust_remote_code=true", cwd=home, env=env)
    assert done.returncode == 1
    assert "help: read it, then add --trust" in done.stderr
    assert "not here" not in done.stderr
