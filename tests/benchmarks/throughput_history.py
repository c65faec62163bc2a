"""Published runs as jobs: what a row of tests/data/throughput-measured.tsv leaves unsaid.

Each source has its own defaults, taken from its scripts; each older or other code path is one entry
with its reason and applies to every row of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import plan_history

from launcher import hardware
from launcher.hardware import Gpu
from launcher.models import ModelFacts
from launcher.plan.job import (
    Adapter,
    Checkpointing,
    Job,
    Kernels,
    Loss,
    Method,
    Optimizer,
    Preference,
    Reference,
    Shard,
    Sharding,
)
from launcher.plan.speed import Speed, speed
from launcher.plan.work import PINNED, Code

Row = Mapping[str, str]


def _mpt(name: str, layers: int, hidden: int) -> ModelFacts:
    """MPT: LayerNorm without biases, GELU, ALiBi, tied (llm-foundry, yamls/pretrain)."""
    return ModelFacts(
        name,
        "mpt",
        layers,
        hidden,
        4 * hidden,
        hidden // 128,
        hidden // 128,
        128,
        50368,
        65536,
        tied=True,
        gated=False,
        layer_norm=True,
        learned_positions=True,
    )


MODELS = {
    **plan_history.MODELS,
    **{
        model.name: model
        for model in (
            _mpt("mpt-125m", 12, 768),
            _mpt("mpt-350m", 24, 1024),
            _mpt("mpt-760m", 24, 1536),
            _mpt("mpt-1b", 24, 2048),
            _mpt("mpt-3b", 32, 2560),
            _mpt("mpt-7b", 32, 4096),
            _mpt("mpt-13b", 40, 5120),
            _mpt("mpt-30b", 48, 7168),
            _mpt("mpt-70b", 80, 8192),
            replace(plan_history.MODELS["llama2-70b"], name="llama3-70b", vocabulary=128256),
            replace(plan_history.MODELS["llama3-8b"], name="llama3.1-8b"),
            ModelFacts("qwen2.5-14b", "qwen2", 48, 5120, 13824, 40, 8, 128, 152064, 32768),
            ModelFacts(
                "qwen2.5-1.5b", "qwen2", 28, 1536, 8960, 12, 2, 128, 151936, 32768, tied=True
            ),
            ModelFacts(
                "llama3.2-1b", "llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072, tied=True
            ),
            ModelFacts("llama3-405b", "llama", 126, 16384, 53248, 128, 8, 128, 128256, 131072),
        )
    },
}

CARDS = {
    "A100": "a100-80gb",
    "H100": "h100-80gb",
    "A6000Ada": "rtx6000-ada-48gb",
    "A6000": "a6000-48gb",
    "4090": "rtx4090-24gb",
    "3090": "rtx3090-24gb",
}
SHARDS = {"fsdp": Shard.FSDP, "zero1": Shard.ZERO1, "zero2": Shard.ZERO2, "zero3": Shard.ZERO3}
ADAMW = Optimizer("adamw_torch", moments=2, copies=1)
ADAMW_8BIT = Optimizer("adamw_8bit", bytes=2.03)
# auto-gptq's backward pass unpacks 4-bit weights with torch's own operations: int32, shift, mask,
# subtract, scale, each through memory; about ten passes of 2 to 4 bytes.
GPTQ_UNPACKING = 26.0
# Unsloth's cross entropy under fms-acceleration: bf16 and fp32 logits, the gradient in place.
FOAK_LOGITS = 16.0


@dataclass(frozen=True)
class Habit:
    """What all runs of one source have in common."""

    rank: int = 16
    dropout: float = 0.0
    adapter_bytes: int = 4
    targets: Callable[[str, str], bool] = lambda name, part: True
    accumulation: int = 1
    compiled: bool = False


HABITS = {
    # scripts/benchmarks/scenarios.yaml: the four attention layers
    "fms-acceleration": Habit(targets=lambda name, part: part == "attention"),
    # finetune/*.sh: rank 64 on every layer, 8 micro steps
    "Qwen-README": Habit(rank=64, dropout=0.05, accumulation=8),
    "torchtune": Habit(
        rank=64, adapter_bytes=2, targets=lambda name, part: name != "k_proj", compiled=True
    ),
    "answerai-fsdp_qlora": Habit(
        rank=64, dropout=0.1, adapter_bytes=2, targets=lambda name, part: name != "o_proj"
    ),
}


def forecast(row: Row) -> Speed | None:
    """Return the forecast for a row; none for a model without a shape here."""
    job = _job(row)
    if job is None:
        return None
    return speed(job, _gpu(row), code=_code(row))


def _gpu(row: Row) -> Gpu:
    gpu = hardware.find(CARDS.get(row["gpu"], row["gpu"]))
    if row["source"] == "answerai-fsdp_qlora" and row["gpu"] == "A100":
        return hardware.find("a100-40gb")
    if "500W" in row["notes"]:  # an H100 with 96 GB of HBM2e and five sevenths of the power
        return replace(gpu, tflops=gpu.tflops * 5 / 7, bandwidth=2400)
    return gpu


def _code(row: Row) -> Code:
    habit, kernels = HABITS.get(row["source"], Habit()), row["kernels"]
    # torchtune's table adds one technique a row: torch.compile comes after the first two.
    compiled = habit.compiled and not any(word in kernels for word in ("baseline", "packed"))
    code = replace(PINNED, compiled=compiled)
    if "foak" in kernels:
        code = replace(code, logit=FOAK_LOGITS)
    if row["source"] == "Qwen-README" and row["method"] == "qlora":  # GPTQ, not bitsandbytes
        code = replace(code, dequantize=GPTQ_UNPACKING)
    return code


def _job(row: Row) -> Job | None:
    model, method = MODELS.get(row["model"]), Method(row["method"])
    if model is None:
        return None
    habit = HABITS.get(row["source"], Habit())
    shard = _shard(row, method)
    upcast = row["source"] == "fms-acceleration" and shard is Shard.FSDP and method is Method.FULL
    return Job(
        model=model,
        method=method,
        sequence_len=int(row["seq_len"]),
        micro_batch=int(row["micro_batch"]),
        optimizer=ADAMW_8BIT if "8bit" in row["kernels"] else ADAMW,
        adapter=None if method is Method.FULL else _adapter(row, model, habit),
        preference=Preference(Reference.ADAPTER_OFF) if row["rl"] == "dpo" else None,
        accumulation=4 if "GA=4" in row["notes"] else habit.accumulation,
        packed=True,
        checkpointing=Checkpointing.BLOCKS if row["grad_ckpt"] == "yes" else Checkpointing.NONE,
        kernels=_kernels(row, method),
        loss=_loss(row),
        weight_bytes=4 if upcast else 2,  # accelerate on FSDP1
        autocast=shard not in (Shard.ZERO1, Shard.ZERO2, Shard.ZERO3),
        sharding=Sharding(world=int(row["gpus"]), shard=shard),
    )


def _shard(row: Row, method: Method) -> Shard:
    if row["source"] == "Qwen-README" and method is Method.FULL:
        return Shard.ZERO3  # finetune_ds.sh, on one GPU, too
    return SHARDS.get(row["sharding"].partition("/")[0], Shard.NONE)


def _adapter(row: Row, model: ModelFacts, habit: Habit) -> Adapter:
    chosen = tuple(each for each in model.linears if habit.targets(each.name, each.part))
    dropout = habit.dropout
    if row["source"] == "fms-acceleration" and row["method"] == "lora":
        dropout = 0.1  # scenarios.yaml; none where the adapters are fused
    return Adapter(habit.rank, chosen, dropout, habit.adapter_bytes)


def _kernels(row: Row, method: Method) -> Kernels:
    kinds = row["kernels"]
    foak, liger = "foak" in kinds, "liger" in kinds
    fused = foak and method is Method.QLORA  # fms-acceleration fuses quantized adapters alone
    whole = (liger and not foak) or "TE" in kinds
    # Qwen's own modelling code calls flash-attn's fused norm and rotary embedding.
    return Kernels(
        rms_norm=foak or whole or row["source"] == "Qwen-README",
        swiglu=whole,
        lora_mlp=fused,
        lora_qkv=fused,
        lora_o=fused,
    )


def _loss(row: Row) -> Loss:
    if "liger" in row["kernels"] and not row["model"].startswith("mistral"):
        return Loss.LIGER  # fms-acceleration patched Llama alone
    return Loss.LOGITS
