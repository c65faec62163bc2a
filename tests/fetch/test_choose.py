"""Which files, which repositories, which disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import source
from launcher.doctor.need import Need
from launcher.fetch import room, wanted
from launcher.fetch.choose import ADAPTER, FILES, WEIGHTS, files
from launcher.recipe import from_document

SMALL = ["config.json", "generation_config.json", "tokenizer.json", "merges.txt"]
LLAMA = [
    *SMALL,
    *("README.md", "LICENSE", ".gitattributes", "USE_POLICY.md"),
    *("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
    *("model.safetensors.index.json", "pytorch_model.bin.index.json"),
    *("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"),
    *("original/consolidated.00.pth", "original/params.json", "original/tokenizer.model"),
    *("onnx/model.onnx", "model-q4.gguf", "tf_model.h5", "flax_model.msgpack", "modeling_x.py"),
    *("chat_template.jinja", "additional_chat_templates/tools.jinja", "trainer_state.json"),
]


@pytest.mark.parametrize(
    ("there", "kind", "chosen"),
    [
        (
            LLAMA,
            WEIGHTS,
            {
                *SMALL,
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "chat_template.jinja",
                "additional_chat_templates/tools.jinja",
            },
        ),
        (["a.json", "pytorch_model.bin", "tf_model.h5"], WEIGHTS, {"a.json", "pytorch_model.bin"}),
        (["model.safetensors", "model.safetensors.index.json"], WEIGHTS, {"model.safetensors"}),
        (["model.fp16.safetensors", "diffusion-00001-of-00002.safetensors"], WEIGHTS, set()),
        (["tokenizer.json", "model.safetensors"], FILES, {"tokenizer.json"}),
        (
            ["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "o.pt"],
            ADAPTER,
            {"adapter_config.json", "adapter_model.safetensors"},
        ),
        ([], WEIGHTS, set()),
    ],
)  # fmt: skip
def test_only_what_is_loaded_is_chosen(there: list[str], kind: str, chosen: set[str]) -> None:
    assert set(files(there, kind)) == chosen


def test_modules_come_where_they_may_be_run() -> None:
    assert "modeling_x.py" in files(LLAMA, WEIGHTS, code=True)


def need(text: str) -> Need:
    recipe = from_document(source.parse(text, "my.yaml"))
    return Need(recipe, recipe.settings)


def test_a_model_that_is_its_own_tokenizer_is_wanted_whole(tmp_path: Path) -> None:
    text = """\
base_model: org/model
tokenizer_config: org/model
base_model_config: org/config
revision_of_model: v1
lora_model_dir: me/adapter
datasets: [{path: org/rows}, {path: recipes/data/concise-pairs.jsonl}, {path: 3}, 7]
test_datasets: [{path: org/test}]
attn_implementation: flash_attention_2
"""
    found = wanted.models(need(text))
    assert {(one.name, one.revision, one.wanted) for one in found} == {
        ("org/model", "v1", WEIGHTS),
        ("org/config", "v1", FILES),
        ("me/adapter", "main", ADAPTER),
    }
    assert list(wanted.rows(need(text).settings)) == [("datasets", 0), ("test_datasets", 0)]
    assert wanted.kernel(need(text)) == "flash_attention_2"
    assert wanted.kernel(need("attn_implementation: sdpa")) == ""
    streamed = need(text + "streaming: true\n").settings
    assert list(wanted.rows(streamed)) == [("test_datasets", 0)]


def test_what_shares_a_disk_is_added_up(tmp_path: Path) -> None:
    free = room._free(tmp_path)
    assert free
    model, rows = str(tmp_path / "not/there/yet"), str(tmp_path / "rows")
    assert room.shortages({model: 1000, rows: 0}) == []
    ((folder, needed, left),) = room.shortages({model: free, rows: 10})
    assert (folder, needed) == (model, free + 10)
    assert left <= needed
