"""Disk: the formulas against what the installed stack writes, and what stands when."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import child_environment, dpo_config, make_model, make_sft_rows

from launcher.hardware import GIB
from launcher.models import ModelFacts
from launcher.models.facts import from_config
from launcher.plan import disk as formulas
from launcher.plan.disk import SMALL, Saving, checkpoint, disk, host_memory, trained_model
from launcher.plan.job import (
    Adapter,
    Job,
    Method,
    Optimizer,
    Preference,
    Reference,
    Shard,
    Sharding,
)

# The stack warns about itself when it is imported.
pytestmark = pytest.mark.filterwarnings("default")

CONFIG = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 512,
}
TINY = from_config("tiny", CONFIG)
LLAMA = ModelFacts("llama-8b", "llama", 32, 4096, 14336, 32, 8, 128, 128256, 131072)
ADAMW = Optimizer("adamw_torch_fused", moments=2)
ADAMW_8BIT = Optimizer("adamw_8bit", bytes=2 * (1 + 4 / 256))
FULL = Job(TINY, Method.FULL, 512, 1, ADAMW)
LORA = replace(FULL, method=Method.LORA, adapter=Adapter(8, TINY.linears, 0.0, 4))
DPO = replace(LORA, preference=Preference(Reference.ADAPTER_OFF))
BIG = replace(FULL, model=LLAMA)
BIG_LORA = replace(BIG, method=Method.LORA, adapter=Adapter(32, LLAMA.linears, 0.0, 4))
HEADER = 512  # bytes of names and shapes for each tensor, at most


def built(dtype: str = "bfloat16") -> Any:
    """Return a random model of ``CONFIG``'s shape."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {key: value for key, value in CONFIG.items() if key != "model_type"}
    return LlamaForCausalLM(LlamaConfig(**size)).to(getattr(torch, dtype))


def stepped(model: Any, optimizer: Any) -> Any:
    """Return the optimizer after one step, when it has its states."""
    import torch

    row = torch.arange(8)[None]
    model(input_ids=row, labels=row).loss.backward()
    optimizer.step()
    return optimizer


def tensors(file: Path) -> int:
    """Return the bytes of the tensors in a safetensors file, without its header."""
    with file.open("rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    return file.stat().st_size - 8 - header


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 2), ("float32", 4)])
def test_a_saved_model(tmp_path: Path, dtype: str, width: int) -> None:
    built(dtype).save_pretrained(tmp_path)
    assert tensors(tmp_path / "model.safetensors") == trained_model(
        replace(FULL, weight_bytes=width)
    )


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 2), ("float32", 4)])
def test_a_checkpoint_of_a_full_fine_tune(tmp_path: Path, dtype: str, width: int) -> None:
    """As transformers writes it: the weights, and what torch.save makes of the optimizer."""
    import torch

    model = built(dtype)
    optimizer = stepped(model, torch.optim.AdamW(model.parameters()))
    model.save_pretrained(tmp_path)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    written = sum(file.stat().st_size for file in tmp_path.iterdir())
    predicted = checkpoint(replace(FULL, weight_bytes=width)) - SMALL
    assert 0 <= written - predicted <= 8 * HEADER * len(list(model.parameters()))


@pytest.mark.slow
def test_a_checkpoint_with_an_8_bit_optimizer(tmp_path: Path) -> None:
    import torch
    from bitsandbytes.optim import AdamW8bit

    model = built()
    optimizer = stepped(model, AdamW8bit(model.parameters()))
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    job = replace(FULL, optimizer=ADAMW_8BIT)
    predicted = checkpoint(job) - trained_model(job) - SMALL
    # small tensors stay in 32 bits, and each has two tables of 256 levels
    assert (tmp_path / "optimizer.pt").stat().st_size == pytest.approx(predicted, rel=0.05)


@pytest.mark.slow
def test_an_adapter_and_the_model_that_axolotl_saves_beside_it(tmp_path: Path) -> None:
    """Under DPO axolotl saves PEFT's model, then the base that PEFT put its layers into."""
    from peft import LoraConfig, get_peft_model

    base = built()
    names = [linear.name for linear in TINY.linears]
    adapted = get_peft_model(base, LoraConfig(r=8, target_modules=names))
    adapted.save_pretrained(tmp_path / "out")
    base.save_pretrained(tmp_path / "out")
    found = disk(DPO, Saving())
    assert tensors(tmp_path / "out" / "adapter_model.safetensors") == found.final - SMALL
    assert tensors(tmp_path / "out" / "model.safetensors") == found.beside


@pytest.mark.slow
def test_the_quantized_model_beside_an_adapter(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    built().save_pretrained(tmp_path / "base")
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", quantization_config=four_bits, dtype=torch.bfloat16, device_map="cpu"
    )
    get_peft_model(model, LoraConfig(r=8, target_modules=[each.name for each in TINY.linears]))
    model.save_pretrained(tmp_path / "out")
    predicted = disk(replace(DPO, method=Method.QLORA), Saving()).beside
    # each layer has tables of its own, of 1.3 kB, which count in a model as small as this
    tables = 1400 * len(TINY.linears) * TINY.layers
    written = tensors(tmp_path / "out" / "model.safetensors")
    assert 0 <= written - predicted <= tables


DEEPSPEED = """
import json, sys, deepspeed, torch
from transformers import LlamaConfig, LlamaForCausalLM
# A C++ extension for several ranks: not needed, a minute to compile. deepspeed.comm imports torch
# over the name of its own module.
sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None
stage, out, size = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
model = LlamaForCausalLM(LlamaConfig(**size)).to(torch.bfloat16)
engine, *_ = deepspeed.initialize(
    model=model,
    optimizer=torch.optim.AdamW(model.parameters()),
    config={
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
    },
)
row = torch.arange(8)[None]
engine.backward(engine(input_ids=row, labels=row).loss)
engine.step()
engine.save_checkpoint(out)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "shard"), [(2, Shard.ZERO2), (3, Shard.ZERO3)])
def test_a_deepspeed_checkpoint(tmp_path: Path, stage: int, shard: Shard) -> None:
    """What DeepSpeed adds to the weights that transformers saves."""
    size = json.dumps({key: value for key, value in CONFIG.items() if key != "model_type"})
    rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "DS_ACCELERATOR": "cpu"}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29600 + stage)}
    done = subprocess.run(
        [sys.executable, "-c", DEEPSPEED, str(stage), str(tmp_path / "out"), size],
        env=child_environment(tmp_path, **rank, **place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    states = [file.stat().st_size for file in (tmp_path / "out").rglob("*_states.pt")]
    job = replace(FULL, autocast=False, sharding=Sharding(shard=shard))
    predicted = checkpoint(job) - trained_model(job) - SMALL
    assert sum(states) == pytest.approx(predicted, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_a_prepared_dataset(tmp_path: Path, packed: bool) -> None:
    """What axolotl's own preprocessing writes for a supervised run."""
    # From 512 rows on axolotl saves in several processes, each of which imports all of it again.
    rows = make_sft_rows(tmp_path / "rows.jsonl", 500)
    config = dpo_config(make_model(tmp_path / "model"), rows, tmp_path / "out")
    kept = {key: value for key, value in config.items() if not key.startswith("rl")}
    kept["datasets"] = [{"path": str(rows), "ds_type": "json", "type": "alpaca"}]
    kept |= {"sample_packing": packed, "val_set_size": 0}
    kept |= {"attn_implementation": "flash_attention_2"} if packed else {}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(kept))
    subprocess.run(
        [sys.executable, "-m", "axolotl.cli.preprocess", str(tmp_path / "config.yaml")],
        env=child_environment(tmp_path),
        capture_output=True,
        check=True,
    )
    from datasets import load_from_disk

    (folder,) = (file.parent for file in (tmp_path / "prepared").glob("*/dataset_info.json"))
    tokens = sum(len(row) for row in load_from_disk(str(folder))["input_ids"])
    written = sum(file.stat().st_size for file in folder.glob("*.arrow"))
    predicted = disk(replace(FULL, packed=packed), Saving(), tokens=tokens).prepared
    assert written == pytest.approx(predicted, rel=0.03)


@pytest.mark.parametrize(
    ("saving", "peak", "kept"),
    [
        (Saving(limit=1), 2, 1),  # the newest whole one stands until the next is written
        (Saving(limit=2), 2, 2),  # the oldest goes before
        (Saving(limit=4), 4, 4),
        (Saving(limit=1, best=True), 3, 2),
        (Saving(limit=3, best=True), 3, 3),
        (Saving(limit=1, best=True, checkpoints=1), 1, 1),
    ],
)
def test_checkpoints_that_stand_while_one_is_written(saving: Saving, peak: int, kept: int) -> None:
    found = disk(BIG, saving)
    one = 6 * LLAMA.parameters + SMALL  # 2 weights, 4 moments
    assert found.checkpoint == one
    assert (found.checkpoints, found.kept) == (peak * one, kept * one)
    assert found.saving == found.model + peak * one
    assert found.end == found.model + kept * one + 2 * LLAMA.parameters + SMALL
    assert found.needed == max(found.saving, found.end)


def test_a_run_that_writes_fewer_keeps_fewer() -> None:
    found = disk(BIG, Saving(limit=4, checkpoints=1, weights_only=True))
    assert found.checkpoints == found.kept == 2 * LLAMA.parameters + SMALL
    assert found.needed == found.end  # the final model comes on top
    assert disk(BIG, Saving(checkpoints=0)).saving == found.model


def test_terms_of_a_lora_run() -> None:
    found = disk(BIG_LORA, Saving(limit=2, merged=True), dataset=1e9, tokens=1e8)
    assert found.model == pytest.approx(15 * GIB, rel=0.01)
    assert found.dataset == 2e9
    assert found.prepared == 13e8
    assert found.merged == pytest.approx(15 * GIB, rel=0.01)
    assert found.final == 4 * BIG_LORA.trained + SMALL
    assert found.checkpoint == 12 * BIG_LORA.trained + SMALL
    assert found.beside == 0
    assert disk(BIG_LORA, Saving()).merged == 0
    packed, preferred = replace(BIG_LORA, packed=True), replace(DPO, model=LLAMA)
    assert disk(packed, Saving(), tokens=1e8).prepared == 21e8
    assert disk(preferred, Saving(), tokens=1e8).prepared == 5e8


@pytest.mark.parametrize(
    ("shard", "each"), [(Shard.NONE, 6), (Shard.ZERO2, 16), (Shard.ZERO3, 14), (Shard.FSDP, 8)]
)
def test_what_shards_write(shard: Shard, each: int) -> None:
    job = replace(BIG, sharding=Sharding(world=8, shard=shard))
    assert checkpoint(job) - SMALL == each * LLAMA.parameters
    assert checkpoint(job, weights_only=True) - SMALL == 2 * LLAMA.parameters


def test_the_model_beside_is_of_dpo_with_whole_weights_alone() -> None:
    dpo = replace(BIG_LORA, preference=Preference(Reference.ADAPTER_OFF))
    beside = disk(dpo, Saving()).beside
    assert beside == 2 * LLAMA.parameters + 4 * dpo.trained
    assert disk(replace(dpo, method=Method.QLORA), Saving()).beside < 0.45 * beside
    for shard in (Shard.ZERO3, Shard.FSDP):
        assert disk(replace(dpo, sharding=Sharding(8, shard)), Saving()).beside == 0
    copy = replace(BIG, preference=Preference(Reference.COPY))
    assert disk(copy, Saving()).beside == 0


def test_host_memory_of_loading() -> None:
    plain = host_memory(replace(BIG, sharding=Sharding(world=8)))
    assert (plain.loading, plain.processes) == (0, 8 * formulas.PROCESS)
    three = replace(BIG, sharding=Sharding(8, Shard.ZERO3))
    assert host_memory(three).loading == 8 * 2 * LLAMA.parameters
    assert host_memory(three, per_node=4).loading == 4 * 2 * LLAMA.parameters
    fsdp = replace(BIG, sharding=Sharding(8, Shard.FSDP))
    assert host_memory(fsdp).loading == 2 * LLAMA.parameters
    assert host_memory(fsdp, efficient=False).loading == 16 * LLAMA.parameters


def test_host_memory_of_offloading() -> None:
    spread = Sharding(8, Shard.ZERO2, offload_optimizer=True)
    found = host_memory(replace(BIG, sharding=spread), workers=2)
    assert found.offloaded == 18 * LLAMA.parameters
    assert found.workers == 8 * 2 * formulas.WORKER
    assert found.needed == found.processes + found.offloaded + found.workers
    two = host_memory(replace(BIG, sharding=replace(spread, world=16)))
    assert two.offloaded == 9 * LLAMA.parameters  # each node holds its half
