"""Facts of a base model: its shape from config.json, and with it every size that a plan needs.

Only dense decoders whose sizes are known exactly are read: Llama, Qwen2, Qwen3, Mistral, Phi-3 and
GPT-2. Anything else is refused with its reason. `launcher.models.find` gets config.json.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.diagnostics import LauncherError

HEAD = "lm_head"


class UnsupportedModel(LauncherError):
    """A model without formulas: ``model_type`` is what its config.json says, ``reason`` why."""

    def __init__(self, name: str, model_type: str, reason: str) -> None:
        super().__init__(
            f"{name}: no formulas for model_type {model_type}: {reason}",
            f"there are formulas for {', '.join(SUPPORTED)}",
            exit_code=1,
        )
        self.model_type = model_type
        self.reason = reason


@dataclass(frozen=True)
class Linear:
    """A linear layer of a block: its name as LoRA targets it, its features in and out."""

    name: str
    inputs: int
    outputs: int
    bias: bool
    part: str  # "attention" or "mlp"

    @property
    def weights(self) -> int:
        """Elements of the weight matrix, without the bias."""
        return self.inputs * self.outputs

    def adapter(self, rank: int) -> int:
        """Return the parameters of a LoRA of this rank on the layer: A (r x in), B (out x r)."""
        return rank * (self.inputs + self.outputs)


@dataclass(frozen=True)
class ModelFacts:
    """The shape of a dense decoder. ``quantization`` is the method of a checkpoint that is already
    quantized; ``source`` says where the facts come from.
    """

    name: str
    architecture: str  # model_type in config.json
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int  # tokens
    tied: bool = False
    gated: bool = True
    qkv_bias: bool = False
    output_bias: bool = False  # of the projection after attention
    mlp_bias: bool = False
    qk_norm: bool = False
    fused: bool = False  # q, k, v are one linear layer; gate and up another
    layer_norm: bool = False  # LayerNorm with a bias instead of RMSNorm
    learned_positions: bool = False
    quantization: str | None = None
    source: str = field(default="", compare=False)

    @property
    def query(self) -> int:
        """Features of all query heads."""
        return self.heads * self.head_dim

    @property
    def key_value(self) -> int:
        """Features of all key heads; as many are values."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one block, in the order of the forward pass."""
        return tuple(self._linears())

    def _linears(self) -> Iterator[Linear]:
        names = _NAMES.get(self.architecture, _SPLIT)
        h, q, kv, f = self.hidden, self.query, self.key_value, self.intermediate
        attention = (q + 2 * kv,) if self.fused else (q, kv, kv)
        up = (f, f) if self.gated else (f,)
        if self.fused:
            up = (sum(up),)
        for name, outputs in zip(names.attention, attention, strict=True):
            yield Linear(name, h, outputs, self.qkv_bias, "attention")
        yield Linear(names.output, q, h, self.output_bias, "attention")
        for name, outputs in zip(names.up[-len(up) :], up, strict=True):
            yield Linear(name, h, outputs, self.mlp_bias, "mlp")
        yield Linear(names.down, f, h, self.mlp_bias, "mlp")

    @property
    def linear_parameters(self) -> int:
        """Weights of all linear layers of all blocks: what 4 bits shrink. Without biases, head."""
        return self.layers * sum(linear.weights for linear in self.linears)

    @property
    def embedding_parameters(self) -> int:
        """Elements of one vocabulary matrix: the embedding, or the head."""
        return self.vocabulary * self.hidden

    @property
    def block_parameters(self) -> int:
        """Parameters of one block, norms and biases included."""
        biases = sum(linear.outputs for linear in self.linears if linear.bias)
        norms = 2 * self._norm + (2 * self.head_dim if self.qk_norm else 0)
        return sum(linear.weights for linear in self.linears) + biases + norms

    @property
    def parameters(self) -> int:
        """Exact parameter count; tied matrices count once, as in memory."""
        matrices = self.embedding_parameters * (1 if self.tied else 2)
        positions = self.context * self.hidden if self.learned_positions else 0
        return self.layers * self.block_parameters + matrices + positions + self._norm

    @property
    def _norm(self) -> int:
        return self.hidden * (2 if self.layer_norm else 1)

    def targets(self, names: Collection[str]) -> tuple[Linear, ...]:
        """Return the linear layers of a block whose name is in ``names`` (PEFT's suffix match).
        Raises ``ValueError`` naming those that the model has not.
        """
        found = tuple(linear for linear in self.linears if linear.name in names)
        missing = sorted(set(names) - {linear.name for linear in found})
        if missing:
            known = ", ".join(dict.fromkeys(linear.name for linear in self.linears))
            raise ValueError(f"{', '.join(missing)} not among the model's {known}")
        return found

    def adapter_parameters(self, targets: Collection[Linear], rank: int) -> int:
        """Return the parameters of a LoRA of this rank on ``targets`` in every block."""
        return self.layers * sum(linear.adapter(rank) for linear in targets)


@dataclass(frozen=True)
class _Names:
    attention: tuple[str, ...]
    output: str
    up: tuple[str, ...]
    down: str


_SPLIT = _Names(("q_proj", "k_proj", "v_proj"), "o_proj", ("gate_proj", "up_proj"), "down_proj")
_NAMES = {
    "phi3": _Names(("qkv_proj",), "o_proj", ("gate_up_proj",), "down_proj"),
    "gpt2": _Names(("c_attn",), "c_proj", ("c_fc",), "c_proj"),
}

SUPPORTED = ("llama", "qwen2", "qwen3", "mistral", "phi3", "gpt2")

# Why the rest is refused; a model that is in no row is unknown.
_REASONS = (
    ("mixture of experts", ("num_experts", "num_local_experts", "n_routed_experts", "moe_layers")),
    ("images or audio beside text", ("vision_config", "audio_config", "text_config")),
    ("not attention alone (state space or linear attention)", ("ssm_cfg", "mamba_d_state")),
    ("it caps attention scores, on eager code", ("attn_logit_softcapping",)),
)


def from_config(name: str, config: Mapping[str, Any], source: str = "") -> ModelFacts:
    """Return the facts in a model's config.json. Raises ``UnsupportedModel``, and ``LauncherError``
    where a size is missing.
    """
    kind = str(config.get("model_type") or "unknown")
    if reason := _refusal(kind, config):
        raise UnsupportedModel(name, kind, reason)
    try:
        return (_gpt2 if kind == "gpt2" else _llama_like)(name, config, source)
    except (KeyError, TypeError, ValueError) as problem:
        fact = f"{name}: config.json has no usable size of the model: {problem}"
        raise LauncherError(fact, "it must be a causal language model's config.json") from None


def _refusal(kind: str, config: Mapping[str, Any]) -> str:
    for reason, keys in _REASONS:
        if any(config.get(key) for key in keys):
            return reason
    if kind not in SUPPORTED:
        return "the sizes of its layers are not known here"
    if kind == "gpt2" and config.get("add_cross_attention"):
        return "cross-attention"
    return ""


def _llama_like(name: str, config: Mapping[str, Any], source: str) -> ModelFacts:
    kind = str(config["model_type"])
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    biased = bool(config.get("attention_bias"))
    default = 128 if kind == "qwen3" else hidden // heads  # Qwen3Config's own default
    return ModelFacts(
        name=name,
        architecture=kind,
        layers=_size(config, "num_hidden_layers"),
        hidden=hidden,
        intermediate=_size(config, "intermediate_size"),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or default),
        vocabulary=_size(config, "vocab_size"),
        context=_size(config, "max_position_embeddings"),
        tied=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=kind == "qwen2" or (biased and kind in ("llama", "qwen3")),
        output_bias=biased and kind in ("llama", "qwen3"),
        mlp_bias=kind == "llama" and bool(config.get("mlp_bias")),
        qk_norm=kind == "qwen3",
        fused=kind == "phi3",
        quantization=_quantization(config),
        source=source,
    )


def _gpt2(name: str, config: Mapping[str, Any], source: str) -> ModelFacts:
    hidden, heads = _size(config, "n_embd"), _size(config, "n_head")
    return ModelFacts(
        name=name,
        architecture="gpt2",
        layers=_size(config, "n_layer"),
        hidden=hidden,
        intermediate=int(config.get("n_inner") or 4 * hidden),
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        vocabulary=_size(config, "vocab_size"),
        context=_size(config, "n_positions"),
        tied=bool(config.get("tie_word_embeddings", True)),
        gated=False,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        fused=True,
        layer_norm=True,
        learned_positions=True,
        quantization=_quantization(config),
        source=source,
    )


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key} is {value!r}")
    return value


def _quantization(config: Mapping[str, Any]) -> str | None:
    found = config.get("quantization_config")
    return str(found.get("quant_method") or "unknown") if isinstance(found, dict) else None
