"""Files come over real HTTP, whatever the Hub does meanwhile; what is here stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from loopback_hub import Faults, hub

SIZE = 3_000_000  # bytes

# What the child of `axr fetch` does of a model, without axolotl's imports.
MODEL = """
import json, sys
from huggingface_hub import HfApi
from launcher.fetch import listing
from launcher.fetch.download import download
one = {"name": "org/model", "revision": "main", "wanted": "weights", "code": False}
files = listing.of_model(HfApi(), one)
print(json.dumps([vars(one) for one in files]), flush=True)
told = lambda number, size: print(json.dumps([number, size]), flush=True)
print(json.dumps([[one.code, one.words] for one in download(HfApi(), files, told)]))
"""
# A kernel as the child installs it, then as transformers asks for it without a network.
INSTALL = """
from huggingface_hub import HfApi
from launcher.fetch import kernel
print([one.file for one in kernel.files(HfApi(), "kernels-org/attn", "v2")])
print(repr(kernel.install("kernels-org/attn", "v2")))
"""
LOAD = """
from launcher.fetch import kernel
print(repr(kernel.found("kernels-org/attn", "v2")))
from kernels import get_kernel
print(get_kernel("kernels-org/attn", version=2).answer)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "repositories/models/org/model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(os.urandom(SIZE))
    (model / "pytorch_model.bin").write_bytes(b"the same once more")
    return tmp_path


def child(folder: Path, url: str, code: str, **environ: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    given = {"HF_ENDPOINT": url, "HF_HOME": str(folder / "hf"), "HOME": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**clean, **given, "HF_HUB_DOWNLOAD_TIMEOUT": "1", **environ},
        stdout=subprocess.PIPE,
        text=True,
    )


def fetched(folder: Path, seen: list[str], **faults: Sequence[str]) -> list[list[str]]:
    """Fetch the model and return what did not come."""
    with hub(folder / "repositories", faults=Faults(downloads=named(faults)), seen=seen) as url:
        out, _ = child(folder, url, MODEL).communicate(timeout=120)
    answer: list[list[str]] = json.loads(out.strip().splitlines()[-1])
    return answer


def named(faults: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    names = {"weights": "model.safetensors", "config": "config.json"}
    return {names[name]: todo for name, todo in faults.items()}


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return the files that a start without a network finds."""
    home = folder / "hf/hub/models--org--model"
    commit = (home / "refs/main").read_text()
    return {file.name: file.read_bytes() for file in (home / "snapshots" / commit).iterdir()}


def test_a_connection_that_breaks_and_errors_that_pass(folder: Path) -> None:
    seen: list[str] = []
    assert fetched(folder, seen, weights=["cut", "503", "stall"], config=["502"]) == []
    original = folder / "repositories/models/org/model/model.safetensors"
    here = snapshot(folder)
    assert here == {"config.json": b"{}", "model.safetensors": original.read_bytes()}
    asked = [line.split() for line in seen if line.startswith("GET /org/model/resolve")]
    starts = [part[2] for part in asked if "model.safetensors" in part[1] and len(part) > 2]
    assert f"bytes={2**20}-" in starts  # it went on from where it was


def test_a_host_that_does_not_get_better_is_named_with_the_file(folder: Path) -> None:
    ((code, words),) = fetched(folder, [], weights=["503..."])
    assert code == "LIMITED"
    assert words == "org/model/model.safetensors: 127.0.0.1 answers HTTP 503"
    ((code, words),) = fetched(folder, [], weights=["404..."])
    assert (code, "HTTP 404" in words) == ("BROKEN", True)
    assert snapshot(folder) == {"config.json": b"{}"}  # and what did come stays


def test_a_fetch_that_is_killed_goes_on_where_it_was(folder: Path) -> None:
    seen: list[str] = []
    with hub(folder / "repositories", faults=Faults(rate=2e6), seen=seen) as url:
        process = child(folder, url, MODEL)
        assert process.stdout
        process.stdout.readline()
        for line in process.stdout:
            if json.loads(line)[1] > 2**20:  # the first piece is written by now
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen.clear()
        out, _ = child(folder, url, MODEL).communicate(timeout=60)
    (before,) = [one for one in json.loads(out.splitlines()[0]) if one["file"].startswith("model.")]
    assert 0 < before["part"] < SIZE
    assert json.loads(out.splitlines()[-1]) == []
    assert any(f"bytes={before['part']}-" in line for line in seen)
    assert len(snapshot(folder)["model.safetensors"]) == SIZE


def test_a_kernel_is_found_by_its_version_without_a_network(folder: Path) -> None:
    build = folder / "repositories/kernels/kernels-org/attn/build/torch-cpu"
    build.mkdir(parents=True)
    (build / "__init__.py").write_text("answer = 42\n")
    about = {"id": "attn", "name": "attn", "version": 2, "license": "MIT", "python-depends": []}
    (build / "metadata.json").write_text(json.dumps({**about, "backend": {"type": "cpu"}}))
    with hub(folder / "repositories") as url:
        told, _ = child(folder, url, INSTALL).communicate(timeout=120)
        refused, _ = child(folder, url, INSTALL.replace("kernels-org", "org")).communicate()
    files, why = told.splitlines()
    assert (files.count("torch-cpu"), why) == (2, "''")
    assert refused == ""  # its maker is nobody whom the Hub trusts
    out, _ = child(folder, "http://127.0.0.1:9", LOAD, HF_HUB_OFFLINE="1").communicate(timeout=120)
    assert out.split() == ["''", "42"]
