"""From a recipe to a `Job`: its settings as the pinned axolotl 0.19, TRL 1.9 and accelerate 1.13
take them. What changes memory and has no formula is refused by name, never left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launcher.models import Linear, ModelFacts
from launcher.plan import optimizers, spreading
from launcher.plan.job import (
    Adapter,
    Attention,
    Checkpointing,
    Job,
    Kernels,
    Loss,
    Method,
    Preference,
    Reference,
    Shard,
    Sharding,
    Unplanned,
)
from launcher.recipe import Recipe
from launcher.rules.batch import whole
from launcher.schema.validator import is_on

# Settings that change what stands in memory in a way that no formula here follows.
_REFUSED = {
    "tensor_parallel_size": "tensor parallelism splits every layer",
    "context_parallel_size": "context parallelism splits every sequence",
    "expert_parallel_size": "it is for mixtures of experts",
    "lora_modules_to_save": "whole matrices are trained beside the adapter",
    "lora_target_parameters": "it is for mixtures of experts",
    "lora_rank_pattern": "adapters of several ranks",
    "peft_layers_to_transform": "adapters on some layers only",
    "peft_layer_replication": "layers are repeated",
    "peft_use_dora": "DoRA keeps more than LoRA",
    "relora": "adapters are merged on the way",
    "rl_adapter_ref_model": "a second model beside an adapter",
    "dpo_use_liger_kernel": "Liger's DPO loss has not been followed tensor by tensor",
    "unfrozen_parameters": "a part of the model is trained",
    "layer_offloading": "weights move between host and GPU",
    "selective_checkpointing": "some operations are kept, others not",
    "tiled_mlp": "the MLP goes piece by piece",
    "torch_compile": "inductor decides what is kept",
    "chunked_cross_entropy": "the loss goes piece by piece",
    "liger_cross_entropy": "Liger's unfused loss has not been followed",
    "fp8": "activations of 8 bits",
    "qat": "weights are quantized on the way",
    "gptq": "GPTQ kernels",
    "reward_model": "a head for one number",
    "process_reward_model": "a head for one number",
    "fp32_norms": "norms in fp32 beside bf16 layers",
    "lora_on_cpu": "adapters in host memory",
    "gpu_memory_limit": "layers are placed on several devices",
}
_SWITCHES = {  # axolotl's old names (LEGACY_ATTN_FLAG_TO_IMPL)
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
}
_FLASH = ("flash_attention_2", "flash_attention_3", "flash_attention_4")
_SEVERAL = ("tensor_parallel_size", "context_parallel_size", "expert_parallel_size")
_PREFERENCES = ("dpo", "ipo")


def job(
    recipe: Recipe, facts: ModelFacts, *, gpus: int = 1, accumulation: int | None = None
) -> Job:
    """Return what a recipe runs on each of ``gpus`` GPUs, with ``accumulation`` steps of gradient
    accumulation (none: the recipe's own). Raises `Unplanned` for a setting without a formula.
    """
    settings = recipe.settings
    _refuse(settings, facts)
    sharding = spreading.sharding(settings, facts, gpus)
    method = _method(settings)
    half = _half(settings)
    adapter = None if method is Method.FULL else _adapter(settings, facts, method, sharding)
    return Job(
        model=facts,
        method=method,
        sequence_len=whole(settings.get("sequence_len")) or 512,  # axolotl's default
        micro_batch=whole(settings.get("micro_batch_size")) or 1,
        optimizer=optimizers.find(str(settings.get("optimizer") or "adamw_torch_fused")),
        adapter=adapter,
        preference=_preference(settings),
        accumulation=accumulation or whole(settings.get("gradient_accumulation_steps")) or 1,
        packed=_packed(settings),
        checkpointing=_checkpointing(settings),
        attention=_attention(settings),
        kernels=_kernels(settings, facts, adapter),
        loss=_loss(settings),
        weight_bytes=2 if half else 4,
        compute_bytes=2 if half else 4,
        autocast=half and not sharding.deepspeed,
        double_quantization=_double(settings),
        sharding=sharding,
    )


def _refuse(settings: Mapping[str, Any], facts: ModelFacts) -> None:
    for key, reason in _REFUSED.items():
        value = settings.get(key)
        if value and not (key in _SEVERAL and whole(value) <= 1):
            raise Unplanned(key, reason)
    if facts.quantization:
        raise Unplanned("base_model", f"{facts.name} is already quantized ({facts.quantization})")
    method = settings.get("rl")
    if method and method not in _PREFERENCES:
        raise Unplanned(f"rl: {method}", "only supervised runs and DPO have been followed")
    if settings.get("pretraining_dataset") or is_on(settings.get("streaming")):
        raise Unplanned("pretraining_dataset", "streamed data has not been followed")


def _half(settings: Mapping[str, Any]) -> bool:
    """Whether weights and activations take two bytes (axolotl/utils/config, resolve_dtype)."""
    bf16 = settings.get("bf16", "auto")
    return bf16 in ("auto", "full") or is_on(bf16) or is_on(settings.get("fp16"))


def _method(settings: Mapping[str, Any]) -> Method:
    """Return how the frozen weights are held: 4 bits need ``adapter: qlora``, 8 bits ``lora``
    (axolotl/loaders/model.py, _set_quantization_config).
    """
    match settings.get("adapter"):
        case None | "":
            return Method.FULL
        case "qlora":
            return Method.QLORA if is_on(settings.get("load_in_4bit")) else Method.LORA
        case "lora":
            return Method.LORA8 if is_on(settings.get("load_in_8bit")) else Method.LORA
        case other:
            raise Unplanned(f"adapter: {other}", "only lora and qlora have been followed")


def _adapter(
    settings: Mapping[str, Any], facts: ModelFacts, method: Method, sharding: Sharding
) -> Adapter:
    return Adapter(
        rank=whole(settings.get("lora_r")) or 8,  # PEFT's default
        targets=_targets(settings, facts),
        # TRL switches dropout off in DPO (DPOConfig.disable_dropout)
        dropout=0.0 if settings.get("rl") else float(settings.get("lora_dropout") or 0.0),
        bytes=_adapter_bytes(settings, method, sharding),
    )


def _adapter_bytes(settings: Mapping[str, Any], method: Method, sharding: Sharding) -> int:
    """Return the bytes of one adapter element.

    PEFT makes adapters of 16-bit models fp32. In DPO, TRL makes those of quantized models bf16
    again, and axolotl all under FSDP; DeepSpeed casts the whole model to its own 16 bits.
    """
    if not _half(settings):
        return 4
    kept = settings.get("peft_autocast_adapter_dtype") is False
    preferred = bool(settings.get("rl"))
    quantized = method in (Method.QLORA, Method.LORA8)
    in_fsdp = sharding.shard is Shard.FSDP
    bf16 = kept or sharding.deepspeed or (preferred and (quantized or in_fsdp))
    return 2 if bf16 else 4


def _targets(settings: Mapping[str, Any], facts: ModelFacts) -> tuple[Linear, ...]:
    given = settings.get("lora_target_modules") or []
    names = set(given if isinstance(given, Sequence) and not isinstance(given, str) else [given])
    if is_on(settings.get("lora_target_linear")) or "all-linear" in names:
        if facts.architecture == "gpt2":
            raise Unplanned("lora_target_linear", "GPT-2 has no linear layers, but Conv1D")
        names = (names - {"all-linear"}) | {linear.name for linear in facts.linears}
    if not names:
        raise Unplanned("lora_target_modules", "no layer is named")
    try:
        return facts.targets(names)
    except ValueError as problem:
        raise Unplanned("lora_target_modules", str(problem)) from None


def _preference(settings: Mapping[str, Any]) -> Preference | None:
    """Return how a DPO run gets its reference.

    axolotl loads the copy for every full fine-tune (axolotl/train.py, setup_reference_model) and
    TRL keeps what it is given, with precompute_ref_log_probs, too.
    """
    if settings.get("rl") not in _PREFERENCES:
        return None
    losses = settings.get("dpo_loss_type") or []
    return Preference(
        reference=Reference.ADAPTER_OFF if settings.get("adapter") else Reference.COPY,
        supervised="sft" in (losses if isinstance(losses, list) else [losses]),
        precomputed=is_on(settings.get("precompute_ref_log_probs")),
    )


def _packed(settings: Mapping[str, Any]) -> bool:
    return is_on(settings.get("sample_packing")) and not settings.get("rl")


def _checkpointing(settings: Mapping[str, Any]) -> Checkpointing:
    """Return what of a block is kept (axolotl/core/builders/base.py, loaders/model.py)."""
    found = settings.get("gradient_checkpointing")
    offloading = settings.get("activation_offloading") or found in ("offload", "offload_disk")
    if offloading and settings.get("adapter") and offloading != "hidden_states":
        raise Unplanned("activation_offloading", "with an adapter all activations leave the GPU")
    if offloading:
        return Checkpointing.OFFLOADED
    fsdp = settings.get("fsdp_config")
    wrapped = isinstance(fsdp, Mapping) and is_on(fsdp.get("activation_checkpointing"))
    return Checkpointing.BLOCKS if is_on(found) or wrapped else Checkpointing.NONE


def _attention(settings: Mapping[str, Any]) -> Attention:
    """Return the code path. sdpa has no mask only where one unpadded row is alone."""
    name = settings.get("attn_implementation")
    for switch, meaning in _SWITCHES.items():
        name = name or (meaning if is_on(settings.get(switch)) else None)
    name = name or "sdpa"  # transformers' default
    if name in _FLASH:
        return Attention.FLASH
    if name == "eager":
        return Attention.EAGER
    if name != "sdpa":
        raise Unplanned(f"attn_implementation: {name}", "what it keeps has not been followed")
    alone = (whole(settings.get("micro_batch_size")) or 1) == 1 and not settings.get("rl")
    return Attention.FLASH if alone and not _packed(settings) else Attention.MASKED


def _kernels(settings: Mapping[str, Any], facts: ModelFacts, adapter: Adapter | None) -> Kernels:
    """Return the fused kernels that will be at work: Liger's where its plugin is listed, axolotl's
    own where all layers of the group have an adapter (monkeypatch/lora_kernels.py).
    """
    liger = _plugin(settings, "liger")
    swiglu = settings.get("liger_glu_activation") or settings.get("liger_swiglu")
    names = {linear.name for linear in adapter.targets} if adapter else set()
    return Kernels(
        rms_norm=liger and is_on(settings.get("liger_rms_norm")) and not facts.layer_norm,
        swiglu=liger and is_on(swiglu) and facts.gated,
        lora_mlp=_own(settings, "lora_mlp_kernel")
        and {"gate_proj", "up_proj", "down_proj"} <= names,
        lora_qkv=_own(settings, "lora_qkv_kernel") and {"q_proj", "k_proj", "v_proj"} <= names,
        lora_o=_own(settings, "lora_o_kernel") and "o_proj" in names,
    )


def _plugin(settings: Mapping[str, Any], part: str) -> bool:
    return any(f".{part}." in str(name) for name in settings.get("plugins") or [])


def _own(settings: Mapping[str, Any], key: str) -> bool:
    """Whether one of axolotl's LoRA kernels is on: where none is set, all are, in a supervised run
    that is not in 8 bits (schemas/config.py, check_auto_enable_lora_kernels).
    """
    keys = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel")
    if any(settings.get(name) is not None for name in keys):
        return is_on(settings.get(key))
    eight = settings.get("adapter") == "lora" and is_on(settings.get("load_in_8bit"))
    return not (eight or settings.get("rl") or is_on(settings.get("trust_remote_code")))


def _loss(settings: Mapping[str, Any]) -> Loss:
    if settings.get("rl"):
        return Loss.LOGITS
    if _plugin(settings, "cut_cross_entropy") and is_on(settings.get("cut_cross_entropy", True)):
        return Loss.CUT
    fused = is_on(settings.get("liger_fused_linear_cross_entropy"))
    return Loss.LIGER if _plugin(settings, "liger") and fused else Loss.LOGITS


def _double(settings: Mapping[str, Any]) -> bool:
    given = settings.get("bnb_config_kwargs")
    found = given.get("bnb_4bit_use_double_quant") if isinstance(given, Mapping) else None
    return found is None or is_on(found)
