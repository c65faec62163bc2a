"""Published runs as jobs: what older code did otherwise than the stack that is pinned here.

`launcher.plan` has the coefficients of the installed versions only. The measured runs come from
older transformers, FSDP1, torchtune, litgpt and others; ``spec_json`` says which. Each difference
is one entry here, with its reason, and applies to every run of that code path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from launcher.hardware import GIB
from launcher.models import ModelFacts
from launcher.plan import activations, states
from launcher.plan.job import (
    Adapter,
    Attention,
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
from launcher.plan.memory import Memory, Phase, memory


def _model(
    name: str, layers: int, sizes: tuple[int, int, int, int, int], **more: Any
) -> ModelFacts:
    """Return a Llama-like shape: hidden, intermediate, heads, key heads, vocabulary."""
    hidden, inner, heads, kv, vocabulary = sizes
    shape = {"architecture": "llama", "head_dim": hidden // heads, "context": 8192, **more}
    return ModelFacts(
        name=name,
        layers=layers,
        hidden=hidden,
        intermediate=inner,
        heads=heads,
        kv_heads=kv,
        vocabulary=vocabulary,
        **shape,
    )


# Shapes from each model's config.json. Those that launcher.models refuses or does not ship are here
# for the sake of the rows alone: Llama-like to within what memory shows.
MODELS = {
    model.name: model
    for model in (
        _model("mistral-7b", 32, (4096, 14336, 32, 8, 32000)),
        _model("llama3-8b", 32, (4096, 14336, 32, 8, 128256)),
        _model("llama2-7b", 32, (4096, 11008, 32, 32, 32000)),
        _model("llama2-13b", 40, (5120, 13824, 40, 40, 32000)),
        _model("llama2-70b", 80, (8192, 28672, 64, 8, 32000)),
        _model("llama3.2-3b", 28, (3072, 8192, 24, 8, 128256), tied=True),
        _model("powerlm-3b", 40, (2304, 9216, 36, 36, 49152), tied=True),
        _model("tinyllama-1.1b", 22, (2048, 5632, 32, 4, 32000)),
        _model("yi-34b", 60, (7168, 20480, 56, 8, 64000)),
        _model("mistral-24b", 40, (5120, 32768, 32, 8, 131072), head_dim=128),
        _model("ministral-8b", 36, (4096, 12288, 32, 8, 131072)),
        _model("phi3-mini", 32, (3072, 8192, 32, 32, 32064), architecture="phi3", fused=True),
        _model("seed-oss-36b", 64, (5120, 27648, 80, 8, 155136), head_dim=128, qkv_bias=True),
        _model("mimo-7b", 36, (4096, 11008, 32, 8, 151680), qkv_bias=True),
        _model("qwen1-1.8b", 24, (2048, 5504, 16, 16, 151936), qkv_bias=True),
        _model("qwen1-7b", 32, (4096, 11008, 32, 32, 151936), qkv_bias=True),
        _model("qwen1-14b", 40, (5120, 13696, 40, 40, 152064), qkv_bias=True),
        _model("qwen1-72b", 80, (8192, 24576, 64, 64, 152064), qkv_bias=True),
        _model("qwen2.5-0.5b", 24, (896, 4864, 14, 2, 151936), tied=True, qkv_bias=True),
        _model("qwen2.5-3b", 36, (2048, 11008, 16, 2, 151936), tied=True, qkv_bias=True),
        _model("qwen2.5-7b", 28, (3584, 18944, 28, 4, 152064), qkv_bias=True),
        _model("qwen2.5-32b", 64, (5120, 27648, 40, 8, 152064), qkv_bias=True),
        _model("qwen3-4b", 36, (2560, 9728, 32, 8, 151936), tied=True, head_dim=128, qk_norm=True),
        _model("apertus-8b", 32, (4096, 21504, 32, 8, 131072), gated=False, qk_norm=True),
        _model("afm-4.5b", 36, (2560, 18432, 20, 4, 128004), gated=False, head_dim=128),
    )
}

# Bytes per token and vocabulary entry of older losses.
LOGIT_BYTES = {
    "hf": 12.0,  # transformers 5: see launcher.plan.loss
    "hf_shift": 14.0,  # to 4.50: logits[..., :-1, :].contiguous() in bf16 is kept beside
    "hf_old": 16.0,  # to 4.44: logits.float() before the shift, a shifted copy in fp32
    "ds16": 16.0,  # the same under DeepSpeed, outputs kept
    "foak": 8.0,  # Unsloth's loss: fp32 logits, gradient in place
    "foak10": 10.0,  # its first version kept bf16 logits, too
    "qwen1": 16.0,  # its own modelling code under autocast, outputs kept
    "qwen1_half": 9.0,  # the same under DeepSpeed: fp16 logits, shifted copy, log-probabilities
    "litgpt_chunk": 8.0,
    "tt_chunk": 2.0,  # bf16 logits; the loss and its gradient go chunk by chunk, compiled
    "dpo_fp32_old": 28.0,
}
# Losses whose peak is in the forward pass, where Python still holds the hidden states before and
# after the last norm.
IN_FORWARD = ("hf_shift", "hf_old", "ds16", "foak", "foak10")
# nvidia-smi shows the context and the allocator's cache, too. The least above the allocated peak,
# in GiB, on one GPU and on several: 47 and 45 runs of fms-acceleration.
SMI = (0.92, 3.76)
# The Qwen README's G cannot be GiB: one of its figures, 81.0 a GPU, is more than an A100-80 has.
GIGA = 10**9
QWEN1 = ("qwen1-1.8b", "qwen1-7b", "qwen1-14b", "qwen1-72b")
# Its 4 bits are GPTQ's, groups of 128: an fp16 scale and a 4-bit zero each.
GPTQ = 0.5 + (2 + 0.5) / 128
_TARGETS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj"}
_OPTIMIZERS = {
    "adamw": Optimizer("adamw", moments=2, copies=1),
    "adamw_fused": Optimizer("adamw_fused", moments=2),
    "adamw8": Optimizer("adamw8", bytes=2.03),
    "inbwd": Optimizer("inbwd", moments=2),
    "inbwd8": Optimizer("inbwd8", bytes=2.03),
    "inbwd_paged": Optimizer("inbwd_paged", bytes=2.03, paged=True),
}


@dataclass(frozen=True)
class Run:
    """A published run: its job, the differences of its code, how its memory was read."""

    job: Job
    spec: Mapping[str, Any]
    metric: str

    def predicted(self) -> Memory:
        """Return the memory that the formulas and the history give."""
        plain = memory(self.job)
        return replace(plain, phases=tuple(_as_it_was(self, phase) for phase in plain.phases))

    def figure(self) -> float:
        """Return the prediction in GiB, as the source read it: nvidia-smi shows the context."""
        outside = SMI[self.job.sharding.world > 1] * GIB if self.metric == "smi" else 0.0
        unit = GIGA if self.job.model.name in QWEN1 else GIB
        return (self.predicted().allocated + outside) / unit


def run(spec_json: str, metric: str) -> Run | None:
    """Return the run of a row; none where there is no shape or formula."""
    if not spec_json:
        return None
    spec = json.loads(spec_json)
    if spec["model"] == "mistral-7b" and spec.get("kern") == "foak" and spec.get("loss") == "flce":
        spec["loss"] = "foak"  # to the MiB what the runs without Liger show: it patched Llama only
    if spec["model"] not in MODELS:
        return None
    if spec["model"] in QWEN1:
        spec["loss"] = "qwen1_half" if spec["loss"] == "ds16" else "qwen1"
        if spec.get("ngpu") == 1 and spec.get("shard") == "zero3":
            spec["shard"] = "zero2"  # not stated; no length up to 2048 changes its memory
    return Run(_job(spec), spec, metric)


def _job(spec: Mapping[str, Any]) -> Job:
    model, method = MODELS[spec["model"]], Method(spec.get("method", "full"))
    if spec.get("loss") == "litgpt_chunk":  # litgpt keeps a head of its own beside the embedding
        model = replace(model, tied=False)
    autocast = spec.get("amp", True) and not str(spec.get("shard", "")).startswith("zero")
    full = method is Method.FULL
    upcast = full and autocast and spec.get("shard") == "fsdp"  # accelerate on FSDP1
    loss = {"flce": Loss.LIGER, "cce": Loss.CUT}.get(spec.get("loss", "hf"), Loss.LOGITS)
    return Job(
        model=model,
        method=method,
        sequence_len=spec["S"],
        micro_batch=spec["mbs"],
        optimizer=_OPTIMIZERS[spec.get("opt", "adamw_fused")],
        adapter=None if full else _adapter(spec, model),
        preference=_preference(spec),
        accumulation=spec.get("ga", 1),
        checkpointing=Checkpointing.BLOCKS if spec.get("gc", True) else Checkpointing.NONE,
        attention=Attention.MASKED if spec.get("attn") == "sdpa" else Attention.FLASH,
        kernels=_kernels(spec),
        loss=loss,
        weight_bytes=4 if upcast else spec.get("w_bytes", 2),
        autocast=autocast,
        double_quantization=spec.get("dq", True),
        sharding=_sharding(spec),
    )


def _kernels(spec: Mapping[str, Any]) -> Kernels:
    kind = spec.get("kern")
    return Kernels(rms_norm=kind in ("foak", "liger"), swiglu=kind == "liger")


def _adapter(spec: Mapping[str, Any], model: ModelFacts) -> Adapter:
    letters = spec.get("targets", "qkvom")
    width = 2 if str(spec.get("shard", "")).startswith("zero") else spec.get("ab", 4)
    names = {_TARGETS[letter] for letter in letters if letter != "m"}
    chosen = tuple(
        linear
        for linear in model.linears
        if linear.name in names
        or (linear.part == "mlp" and "m" in letters)
        or (model.fused and linear.name == "qkv_proj" and "q" in letters)
    )
    return Adapter(spec["r"], chosen, float(spec.get("dropout", 0.0)), width)


def _preference(spec: Mapping[str, Any]) -> Preference | None:
    if spec.get("rl") != "dpo":
        return None
    kinds = {"adapter": Reference.ADAPTER_OFF, "copy": Reference.COPY}
    return Preference(kinds.get(spec.get("ref", ""), Reference.NONE))


def _sharding(spec: Mapping[str, Any]) -> Sharding:
    kind = {"fsdp": Shard.FSDP}.get(spec.get("shard", "none"))
    return Sharding(
        world=spec.get("ngpu", 1),
        shard=kind or Shard(spec.get("shard", "none")),
        reduce_bucket=200_000_000,  # Qwen's and ms-swift's own DeepSpeed files
        overlap=True,
        live=int(spec.get("live", 0)),
        offload_optimizer=spec.get("offload") == "all",
        offload_parameters=spec.get("offload") == "all",
    )


def _as_it_was(run: Run, phase: Phase) -> Phase:
    """Return a phase with what older code did otherwise."""
    job, spec = run.job, run.spec
    changed = _states_as_they_were(run, phase)
    if phase.name == "loss" and job.loss is Loss.LOGITS and "loss" in spec:
        each = LOGIT_BYTES[spec["loss"]]
        changed = replace(changed, logits=each * job.tokens * job.model.vocabulary)
    if phase.name == "optimizer step":
        return changed
    return replace(changed, activations=changed.activations + _more_activations(run, phase.name))


def _states_as_they_were(run: Run, phase: Phase) -> Phase:
    """Return a phase with older quantization, and optimizers that step in the backward pass."""
    job, kind = run.job, run.spec.get("opt", "")
    changed = phase
    if job.model.name in QWEN1 and job.method is Method.QLORA:
        nf4 = job.model.linear_parameters * (states.NF4 + states.ABSMAX)
        gptq = job.model.linear_parameters * GPTQ
        changed = replace(changed, weights=phase.weights - nf4 + gptq)
    if kind.startswith("inbwd"):  # a gradient lives until its own step
        largest = job.model.embedding_parameters * job.weight_bytes
        changed = replace(changed, gradients=largest)
    return changed


def _more_activations(run: Run, phase: str) -> float:
    """Return what older code kept beside, in bytes."""
    job, spec = run.job, run.spec
    h, layers = job.model.hidden, job.model.layers
    more = 0.0
    if spec.get("resid_bytes") == 4:  # prepare_model_for_kbit_training left the stream in fp32
        more += 2 * h * (layers + 1)
    if spec.get("shard") == "fsdp" and job.adapter and job.checkpointing is Checkpointing.BLOCKS:
        # FSDP1 with frozen weights: its multi-grad hooks hold the gradient of each block's input
        # until the step ends (torch 2.4); seen as 0.94 x 2hL in 40 fms-acceleration runs.
        more += 2 * h * (layers - 2) if phase == "backward" else 0.0
    if phase == "loss" and spec.get("loss") in IN_FORWARD:
        more += 4 * h
    if phase == "backward" and spec.get("loss") == "hf_old" and not spec.get("amp", True):
        more += 4 * job.model.vocabulary  # fsdp_qlora's script holds the outputs, fp32 logits
    if spec.get("kern") == "compile":  # inductor keeps less; found on torchtune's seven runs
        more += layers * (_compiled(job) - activations.block(job)) if _whole(job) else 0.0
    if spec.get("act_off"):  # checkpoints lie in host memory, two on their way
        more -= 2 * h * (layers - 2)
    if spec.get("old_bnb"):  # bitsandbytes to 0.42 kept the input of each 4-bit product
        more += layers * (2 * 2 * h + 2 * job.model.intermediate)
    return more * job.tokens


def _whole(job: Job) -> bool:
    return job.checkpointing is Checkpointing.NONE


def _compiled(job: Job) -> float:
    model = job.model
    return 11 * model.hidden + 4 * (model.query + model.key_value) + 6 * model.intermediate
