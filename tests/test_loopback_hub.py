"""The Hub of the tests is one for the real clients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loopback_hub import Token, hub

TOKEN = "hf_" + "t" * 20


@pytest.fixture
def repositories(tmp_path: Path) -> Path:
    rows = tmp_path / "datasets" / "org" / "rows"
    rows.mkdir(parents=True)
    (rows / "train.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(50)))
    model = tmp_path / "models" / "org" / "model" / "inner"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    return tmp_path


def test_files_rights_and_ranges(repositories: Path, tmp_path: Path) -> None:
    from huggingface_hub import HfApi, HfFileSystem
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    tokens = {TOKEN: Token("me", orgs={"org": "write"})}
    with hub(repositories, tokens=tokens, gated=["org/rows"]) as url:
        api = HfApi(endpoint=url, token=TOKEN)
        assert api.whoami()["name"] == "me"
        file = api.hf_hub_download("org/model", "inner/config.json", cache_dir=tmp_path / "cache")
        assert Path(file).read_text() == "{}"
        assert api.list_repo_files("org/model") == ["inner/config.json"]
        api.auth_check("org/model", write=True)
        with pytest.raises(GatedRepoError):
            api.auth_check("org/rows", repo_type="dataset")
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("org/none")
        with pytest.raises(HfHubHTTPError, match="Invalid user token"):
            HfApi(endpoint=url, token="hf_other").whoami()
    tokens = {TOKEN: Token("me", accepted=["org/rows"])}
    with hub(repositories, tokens=tokens, gated=["org/rows"]) as url:
        files = HfFileSystem(endpoint=url, token=TOKEN, skip_instance_cache=True)
        assert files.ls("datasets/org/rows", detail=False) == ["datasets/org/rows/train.jsonl"]
        with files.open("datasets/org/rows/train.jsonl", block_size=64) as stream:
            stream.seek(9)
            assert stream.read(8) == b'{"n": 1}'
