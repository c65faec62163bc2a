"""Everything that the arithmetic of a run needs, decided: no YAML, no defaults left to guess.

`launcher.plan.reading` makes a `Job` of a recipe as the pinned axolotl would run it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from launcher.diagnostics import LauncherError
from launcher.models import Linear, ModelFacts


class Unplanned(LauncherError):
    """A setting that changes memory and has no formula here; ``key`` is the setting."""

    def __init__(self, key: str, reason: str, hint: str = "") -> None:
        super().__init__(f"no memory formula for {key}: {reason}", hint, exit_code=1)
        self.key = key
        self.reason = reason


class Method(Enum):
    """What is trained, and in what the frozen weights are held."""

    FULL = "full"
    LORA = "lora"
    LORA8 = "8-bit lora"
    QLORA = "qlora"


class Attention(Enum):
    """Code paths of attention that differ in what they keep."""

    FLASH = "flash"  # keeps q, k, v, the output and one number a row
    MASKED = "sdpa with a mask"  # torch's efficient kernel: repeated heads and the mask, too
    EAGER = "eager"  # keeps the scores


class Loss(Enum):
    """How hidden states become a loss."""

    LOGITS = "logits"  # all logits at once
    LIGER = "liger"  # fused linear cross entropy, in chunks
    CUT = "cut cross entropy"  # logits never leave the kernel


class Checkpointing(Enum):
    """What of a block is kept for the backward pass."""

    NONE = "none"
    BLOCKS = "blocks"  # its input; the rest is computed again
    OFFLOADED = "offloaded"  # its input, in host memory


class Reference(Enum):
    """Where the reference log-probabilities of a preference run come from."""

    COPY = "copy"  # a second, frozen model
    ADAPTER_OFF = "adapter off"  # the same model without its adapter
    NONE = "none"  # computed before, and the copy let go


class Shard(Enum):
    """What is divided among the GPUs."""

    NONE = "none"  # one GPU, or each holds all
    ZERO1 = "zero1"  # optimizer states
    ZERO2 = "zero2"  # and gradients
    ZERO3 = "zero3"  # and parameters
    FSDP = "fsdp2"  # all three, block by block


@dataclass(frozen=True)
class Adapter:
    """LoRA matrices of one rank on ``targets`` of every block; ``bytes`` of one element."""

    rank: int
    targets: tuple[Linear, ...]
    dropout: float
    bytes: int


@dataclass(frozen=True)
class Preference:
    """A DPO run: a row is a pair. ``supervised``: the loss on the chosen answer is added;
    ``precomputed``: the reference is not asked during training.
    """

    reference: Reference
    supervised: bool = False
    precomputed: bool = False


@dataclass(frozen=True)
class Optimizer:
    """An optimizer's states: ``moments`` of the dtype of what is trained, or ``bytes`` a parameter
    whatever the dtype. ``copies``: transient copies of the gradients' size at the step.
    """

    name: str
    moments: int = 0
    bytes: float = 0.0
    copies: int = 0
    paged: bool = False  # kept in memory that can move to the host


@dataclass(frozen=True)
class Kernels:
    """Fused kernels that change what a block keeps."""

    rms_norm: bool = False  # Liger
    swiglu: bool = False  # Liger
    lora_mlp: bool = False  # axolotl's own, as the next two
    lora_qkv: bool = False
    lora_o: bool = False


@dataclass(frozen=True)
class Sharding:
    """How the run is spread over ``world`` GPUs. Sizes in elements, as in DeepSpeed's JSON."""

    world: int = 1
    shard: Shard = Shard.NONE
    reduce_bucket: int = 500_000_000
    allgather_bucket: int = 500_000_000
    overlap: bool = False  # two reduce buckets at once
    live: int = 1_000_000_000  # gathered parameters that ZeRO-3 keeps
    prefetch: int = 50_000_000
    subgroup: int = 1_000_000_000  # parameters of one optimizer step of ZeRO-3
    offload_optimizer: bool = False
    offload_parameters: bool = False

    @property
    def deepspeed(self) -> bool:
        """Whether DeepSpeed runs it, without autocast."""
        return self.shard in (Shard.ZERO1, Shard.ZERO2, Shard.ZERO3)

    @property
    def parameter_parts(self) -> int:
        """Into how many parts the weights are divided."""
        return self.world if self.shard in (Shard.ZERO3, Shard.FSDP) else 1

    @property
    def gradient_parts(self) -> int:
        """Into how many parts the gradients are divided."""
        return self.world if self.shard not in (Shard.NONE, Shard.ZERO1) else 1

    @property
    def state_parts(self) -> int:
        """Into how many parts the optimizer states are divided."""
        return self.world if self.shard is not Shard.NONE else 1


@dataclass(frozen=True)
class Job:
    """One training run. ``weight_bytes`` is one element of an unquantized weight as loaded,
    ``compute_bytes`` one of an activation; ``autocast``: accelerate's mixed precision is on.
    """

    model: ModelFacts
    method: Method
    sequence_len: int  # tokens of a row
    micro_batch: int  # rows, or pairs, that a GPU takes at once
    optimizer: Optimizer
    adapter: Adapter | None = None
    preference: Preference | None = None
    accumulation: int = 1
    packed: bool = False
    checkpointing: Checkpointing = Checkpointing.NONE
    attention: Attention = Attention.FLASH
    kernels: Kernels = field(default_factory=Kernels)
    loss: Loss = Loss.LOGITS
    weight_bytes: int = 2
    compute_bytes: int = 2
    autocast: bool = True
    double_quantization: bool = True
    sharding: Sharding = field(default_factory=Sharding)

    @property
    def rows(self) -> int:
        """Sequences in one micro batch: a pair is two."""
        return self.micro_batch * (2 if self.preference else 1)

    @property
    def tokens(self) -> int:
        """Tokens of one micro batch on one GPU, padding included: exact if packed, else a bound."""
        return self.rows * self.sequence_len

    @property
    def trained(self) -> int:
        """Parameters that get a gradient."""
        if self.adapter is None:
            return self.model.parameters
        return self.model.adapter_parameters(self.adapter.targets, self.adapter.rank)

    @property
    def trained_bytes(self) -> int:
        """Bytes of one trained parameter."""
        return self.weight_bytes if self.adapter is None else self.adapter.bytes
