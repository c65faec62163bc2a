"""A model of the same architecture with a few million random weights: what a rehearsal trains.

From config.json alone; no weights are read. The same classes and the same names of modules, few and
narrow layers. `shrunk` is pure arithmetic; `make` imports torch and belongs into a child process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = 0
MOST_EMBEDDINGS = 10_000_000  # weights of embedding and head, where a narrower model makes do
MOST_EXPERTS = 4
WIDEST = 128
# key/value heads and their width, the first that fits MOST_EMBEDDINGS; 8 and 16 halve for rotation
_WIDTHS = ((2, 16), (2, 8), (1, 16), (1, 8))

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_INNER = (
    "intermediate_size",
    "n_inner",
    "ffn_dim",
    "ffn_hidden_size",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
)
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk")
_LATENT = {  # DeepSeek's attention
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
_ROTATIONS = ("short_factor", "long_factor")
_BESIDE_TEXT = ("vision_config", "audio_config", "text_config", "image_token_id")


class CannotShrink(ValueError):
    """A model that no stand-in can be made of, and why."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of the stand-in."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int


def shrunk(
    config: Mapping[str, Any], full: Mapping[str, Any], *, vocabulary: int, all_layers: bool
) -> dict[str, Any]:
    """Return a config.json with the sizes of a stand-in.

    ``full`` is the same with every default of its class filled in. Kept: the share of query heads
    to key/value heads, tied embeddings, context, rotation, the pattern of layer types.
    ``all_layers`` keeps their number, for a recipe that names layers by number. Raises
    `CannotShrink`.
    """
    if any(key in config for key in _BESIDE_TEXT):
        raise CannotShrink("it reads images or audio beside text")
    sizes = _sizes(full, vocabulary, all_layers)
    new = {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}
    new.pop("quantization_config", None)  # random weights are not quantized
    _set(new, full, _LAYERS, sizes.layers)
    _set(new, full, _HIDDEN, sizes.hidden)
    _set(new, full, _HEADS, sizes.heads)
    _set(new, full, ("num_key_value_heads",), sizes.kv_heads)
    _set(new, full, ("head_dim",), sizes.head_dim)
    _set(new, full, _INNER, 2 * sizes.hidden)
    _set(new, full, _EXPERTS, MOST_EXPERTS, at_most=True)
    _set(new, full, _CHOSEN, 2, at_most=True)
    _set(new, full, ("max_window_layers", "first_k_dense_replace"), 1, at_most=True)
    for key, size in _LATENT.items():
        _set(new, full, (key,), size, at_most=True)
    new["vocab_size"] = vocabulary
    return _shorter_lists(new, full, sizes)


def _set(
    new: dict[str, Any],
    full: Mapping[str, Any],
    keys: tuple[str, ...],
    size: int,
    *,
    at_most: bool = False,
) -> None:
    """Set those of the keys that the model's class has and uses."""
    for key in keys:
        if isinstance(full.get(key), int):
            new[key] = min(size, full[key]) if at_most else size


def _sizes(full: Mapping[str, Any], vocabulary: int, all_layers: bool) -> Sizes:
    layers, heads = _first(full, _LAYERS), _first(full, _HEADS)
    kv_heads = full.get("num_key_value_heads") or heads
    if heads % kv_heads:
        raise CannotShrink(f"{heads} heads do not divide by {kv_heads} key/value heads")
    group = heads // kv_heads
    matrices = 1 if full.get("tie_word_embeddings") else 2
    least = layers if all_layers else _fewest_layers(full, layers)
    for kept, head_dim in _WIDTHS:
        kept = min(kept, kv_heads)
        hidden = kept * group * head_dim
        if hidden <= WIDEST and hidden * vocabulary * matrices <= MOST_EMBEDDINGS:
            break
    return Sizes(least, hidden, kept * group, kept, head_dim)


def _first(full: Mapping[str, Any], keys: tuple[str, ...]) -> int:
    for key in keys:
        if isinstance(full.get(key), int) and full[key] > 0:
            return int(full[key])
    raise CannotShrink(f"its config.json has no {keys[0]}")


def _fewest_layers(full: Mapping[str, Any], layers: int) -> int:
    """Return the number of first layers among which every type of layer is, two at least."""
    types = full.get("layer_types") or []
    needed = max((types.index(kind) + 1 for kind in set(types)), default=2)
    return min(layers, max(2, needed))


def _shorter_lists(new: dict[str, Any], full: Mapping[str, Any], sizes: Sizes) -> dict[str, Any]:
    """Cut the lists that hold one entry a layer, or one a pair of rotated features."""
    layers = _first(full, _LAYERS)
    for key, value in new.items():
        if isinstance(value, list) and len(value) == layers:
            new[key] = value[: sizes.layers]
    share = full.get("partial_rotary_factor") or 1.0
    pairs = math.floor(sizes.head_dim * share) // 2
    for key in ("rope_scaling", "rope_parameters"):
        if isinstance(new.get(key), Mapping):
            new[key] = {
                name: value[:pairs] if name in _ROTATIONS and isinstance(value, list) else value
                for name, value in new[key].items()
            }
    return new


def make(source: Path, target: Path, *, stand_in_tokenizer: bool, all_layers: bool) -> int:
    """Write the stand-in of ``source`` (config.json and a tokenizer) to ``target``; return the
    number of its weights. Raises `CannotShrink`.
    """
    import json

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(source)
    kind = str(config.get("model_type"))
    try:
        full = AutoConfig.for_model(**config).to_dict()
    except ValueError:
        raise CannotShrink(f"transformers has no code for model_type {kind}") from None
    vocabulary = -(-len(tokenizer) // 64) * 64
    if not stand_in_tokenizer:
        vocabulary = max(int(full.get("vocab_size") or 0), len(tokenizer))
    small = shrunk(config, full, vocabulary=vocabulary, all_layers=all_layers)
    _end_tokens(small, full, tokenizer, anew=stand_in_tokenizer)
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**small), dtype=torch.float32)
    if (source / "generation_config.json").is_file() and not stand_in_tokenizer:
        model.generation_config = GenerationConfig.from_pretrained(source)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return int(model.num_parameters())


def _end_tokens(
    small: dict[str, Any], full: Mapping[str, Any], tokenizer: Any, *, anew: bool
) -> None:
    """Give the config the tokenizer's special tokens: where that is a stand-in, all of them."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if anew or (full.get(name) is None and name != "pad_token_id"):
            small[name] = getattr(tokenizer, name)
