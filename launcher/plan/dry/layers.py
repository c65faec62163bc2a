"""Stand-ins for what a GPU does inside one kernel, and tensors without data. Imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

BLOCKSIZE, NESTED = 64, 256  # weights an absmax, absmaxes a second absmax: bitsandbytes' NF4


class _Flash(torch.autograd.Function):  # type: ignore[misc]
    """What FlashAttention-2 keeps and makes (csrc/flash_attn/flash_api.cpp, mha_fwd, mha_bwd)."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        batch, heads, length, size = query.shape
        out = query.new_empty(batch, length, heads, size)
        sums = query.new_empty(batch, heads, length, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        query, key, value, _, sums = ctx.saved_tensors
        made = [torch.empty_like(tensor) for tensor in (query, key, value)]
        scratch = [query.new_empty(query.shape, dtype=torch.float32), torch.empty_like(sums)]
        if key.shape[1] != query.shape[1]:  # gradients of keys and values for all heads
            scratch += [torch.empty_like(query), torch.empty_like(query)]
        return tuple(made)


def attention(
    module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any
) -> tuple[Any, None]:
    """Attend as transformers' interface asks, with nothing but the allocations."""
    return _Flash.apply(query, key, value), None


def quantize(model: Any, *, double: bool) -> None:
    """Make every linear layer but the head a 4-bit layer of bitsandbytes, as transformers does."""
    import bitsandbytes

    for name, layer in list(model.named_modules()):
        if isinstance(layer, torch.nn.Linear) and "lm_head" not in name:
            new = bitsandbytes.nn.Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=layer.bias is not None,
                compute_dtype=torch.bfloat16,
                compress_statistics=double,
                quant_type="nf4",
                device="meta",
            )
            new.bias = layer.bias
            new.weight = _packed(new, layer.weight.shape, double=double)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, new)
    model.is_loaded_in_4bit = model.is_quantized = True


def _packed(layer: Any, shape: Any, *, double: bool) -> Any:
    import bitsandbytes
    from bitsandbytes.functional import QuantState

    def meta(count: int, dtype: torch.dtype) -> Any:
        return torch.empty(count, dtype=dtype, device="meta")

    blocks = math.ceil(shape.numel() / BLOCKSIZE)
    nested = {
        "offset": torch.empty((), device="meta"),
        "state2": QuantState(
            absmax=meta(math.ceil(blocks / NESTED), torch.float32),
            code=meta(256, torch.float32),
            blocksize=NESTED,
            dtype=torch.float32,
        ),
    }
    state = QuantState(
        absmax=meta(blocks, torch.uint8 if double else torch.float32),
        shape=shape,
        code=meta(16, torch.float32),
        blocksize=BLOCKSIZE,
        quant_type="nf4",
        dtype=torch.bfloat16,
        **(nested if double else {}),
    )
    return bitsandbytes.nn.Params4bit(
        torch.empty(shape.numel() // 4, 1, dtype=torch.bfloat16, device="meta"),
        requires_grad=False,
        quant_state=state,
        bnb_quantized=True,
        quant_storage=torch.bfloat16,
        compress_statistics=double,
        quant_type="nf4",
        module=layer,
    )


def kernels(model: Any, names: Sequence[str]) -> Any:
    """Patch axolotl's LoRA kernels in; their Triton code has stand-ins of its own for such runs."""
    if not names:
        return model
    from axolotl.kernels import lora
    from axolotl.monkeypatch.lora_kernels import apply_lora_kernel_patches, patch_self_attn_lora
    from axolotl.utils.dict import DictDefault

    lora.dequantize = _dequantized

    wanted = {f"{name}_kernel": True for name in names}
    inner = model.get_base_model()
    config = DictDefault({**wanted, "base_model": inner.config.name_or_path})
    _patch_class(patch_self_attn_lora, config, inner)
    return apply_lora_kernel_patches(model, config)


def _dequantized(weight: Any, state: Any = None, out: Any = None) -> Any:
    """Return what axolotl's own 4-bit kernel does: the weight in 16 bits, turned as it came."""
    if state is None:
        return weight
    whole = torch.empty(state.shape, dtype=state.dtype)
    return whole.t() if weight.shape[0] == 1 else whole


def _patch_class(patch: Any, config: Any, inner: Any) -> None:
    from axolotl.monkeypatch import lora_kernels

    kept = lora_kernels.get_attention_cls_from_config
    lora_kernels.get_attention_cls_from_config = lambda cfg: type(inner.model.layers[0].self_attn)
    try:
        patch(config)
    finally:
        lora_kernels.get_attention_cls_from_config = kept


def materialize(model: Any) -> Any:
    """Replace every meta tensor of a model by a fake one that has storage; tied ones stay tied."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                if id(weight) not in made:
                    made[id(weight)] = _parameter(weight, module)
                module._parameters[name] = made[id(weight)]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return model


def _parameter(weight: Any, module: Any) -> Any:
    data = torch.empty(weight.shape, dtype=weight.dtype)
    new = torch.nn.Parameter(data, requires_grad=weight.requires_grad)
    state = getattr(weight, "quant_state", None)
    if state is not None:
        for part in (state, state.state2 or SimpleNamespace()):
            for name in ("absmax", "code", "offset"):
                found = getattr(part, name, None)
                if isinstance(found, torch.Tensor):
                    setattr(part, name, torch.empty(found.shape, dtype=found.dtype))
        new.quant_state = module.quant_state = state
        new.bnb_quantized, new.quant_storage, new.module = True, torch.bfloat16, module
    return new
