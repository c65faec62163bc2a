"""One training step on fake tensors. Imports torch: only the dry run's child imports this."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from launcher.plan.dry.layers import attention, kernels, materialize, quantize

BLOCK = 512  # bytes: torch's CUDA allocator rounds up to it
NAME = "axr_plan"


class Ledger(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of all storages that live, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it allocates."""
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._count, out)
        return out

    def _count(self, tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage not in self._seen:
            size = -(-storage.nbytes() // BLOCK) * BLOCK
            self._seen[storage] = size
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._free, size)
        return tensor

    def _free(self, size: int) -> None:
        self.live -= size

    def part(self) -> int:
        """Return the peak since the last call, in bytes."""
        found, self.peak = self.peak, self.live
        return found


def step(asked: Mapping[str, Any]) -> dict[str, float]:
    """Return the peaks of a step, in bytes, after one that gave the optimizer its states."""
    ledger = Ledger()
    with _as_on_a_gpu():
        model = _model(asked)
        second = (
            _model({**asked, "adapter": None}) if (asked["preference"] or {}).get("copy") else None
        )
        with FakeTensorMode(allow_non_fake_inputs=True), ledger:
            run = Run(asked, materialize(model), second and materialize(second))
            run.micro_batch(ledger)
            run.update()
            ledger.part()
            found = {"forward": 0.0, "backward": 0.0}
            for _ in range(2 if asked["accumulates"] else 1):
                forward, backward = run.micro_batch(ledger)
                found = {
                    "forward": max(found["forward"], forward),
                    "backward": max(found["backward"], backward),
                }
            run.update()
            return {**found, "step": ledger.part()}


@contextmanager
def _as_on_a_gpu() -> Iterator[None]:
    """Answer as CUDA would: autocast is on where it is, dropout keeps a boolean mask."""
    enabled, dropout = torch.is_autocast_enabled, torch.nn.functional.dropout

    def fused(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        return torch.native_dropout(x, p, training)[0] if training and p > 0 else x

    torch.is_autocast_enabled = lambda *device: enabled(*(device or ("cpu",)))
    torch.nn.functional.dropout = fused
    try:
        yield
    finally:
        torch.is_autocast_enabled, torch.nn.functional.dropout = enabled, dropout


def _model(asked: Mapping[str, Any]) -> Any:
    """Return the model as the trainer gets it, on the meta device."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, lambda *args, **kwargs: None)
    config = AutoConfig.for_model(**asked["config"])
    torch.set_default_dtype(torch.bfloat16 if asked["half"] else torch.float32)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, attn_implementation="eager" if asked["eager"] else NAME
        )
    torch.set_default_dtype(torch.float32)
    model.tie_weights()
    model.train()
    if asked["quantized"]:
        quantize(model, double=asked["double"])
    if asked["checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return _with_adapter(model, asked) if asked["adapter"] else model


def _with_adapter(model: Any, asked: Mapping[str, Any]) -> Any:
    from peft import LoraConfig, get_peft_model

    adapter = asked["adapter"]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if asked["checkpointing"]:
        model.enable_input_require_grads()
    config = LoraConfig(
        r=adapter["rank"],
        lora_dropout=adapter["dropout"],
        target_modules=adapter["targets"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, config, autocast_adapter_dtype=not adapter["half"])
    if adapter["half"]:  # TRL does so for quantized models
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    return kernels(model, asked["kernels"])


class Run:
    """A model, its reference and its optimizer, stepped by hand as transformers and TRL do."""

    def __init__(self, asked: Mapping[str, Any], model: Any, second: Any) -> None:
        self.asked, self.model, self.second = asked, model, second
        if second is not None:
            second.eval().requires_grad_(False)
        self.forward = self._wrapped(model)
        self.reference = self._wrapped(second) if second is not None else self.forward
        self.trained = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = self._optimizer()
        self.states: list[Any] = []

    def _wrapped(self, model: Any) -> Callable[..., Any]:
        """Return the forward pass in accelerate's autocast and fp32 outputs."""
        from accelerate.utils import convert_outputs_to_fp32

        if not self.asked["autocast"]:
            return model.forward  # type: ignore[no-any-return]
        autocast = torch.autocast("cpu", dtype=torch.bfloat16)
        return convert_outputs_to_fp32(autocast(model.forward))  # type: ignore[no-any-return]

    def _optimizer(self) -> Any:
        if not self.asked["optimizer"]["moments"]:
            return None
        if self.asked["optimizer"]["foreach"]:
            return torch.optim.AdamW(self.trained, foreach=True)
        return torch.optim.AdamW(self.trained, fused=True)

    def micro_batch(self, ledger: Ledger) -> tuple[int, int]:
        """Go forward and backward; return the peaks of both."""
        loss = self._preferred() if self.asked["preference"] else self._supervised()
        forward = ledger.part()
        loss.backward()
        del loss
        return forward, ledger.part()

    def update(self) -> None:
        """Step the optimizer; what is not torch's own keeps its states as flat bytes."""
        if self.optimizer is not None:
            self.optimizer.step()
        elif not self.states:
            each = self.asked["optimizer"]["bytes"]
            self.states = [
                torch.empty(int(weight.numel() * each), dtype=torch.uint8)
                for weight in self.trained
            ]
        for weight in self.trained:
            weight.grad = None

    def _ids(self) -> Any:
        return torch.zeros(self.asked["rows"], self.asked["sequence_len"], dtype=torch.long)

    def _supervised(self) -> Any:
        ids = self._ids()
        return self.forward(input_ids=ids, labels=ids, use_cache=False)["loss"]

    def _preferred(self) -> Any:
        """Follow trl.DPOTrainer._compute_loss with its own selective_log_softmax."""
        from trl.trainer.utils import entropy_from_logits, selective_log_softmax

        ids = self._ids()
        labels = ids[..., 1:]
        logits = self.forward(input_ids=ids, use_cache=False).logits[..., :-1, :]
        chosen, rejected = selective_log_softmax(logits, labels).sum(dim=1).chunk(2)
        if self.asked["preference"]["asked"]:
            with torch.no_grad(), self._off():
                outputs = self.reference(input_ids=ids, use_cache=False)
            found = selective_log_softmax(outputs.logits[..., :-1, :], labels).sum(dim=1)
            first, second = found.chunk(2)
            chosen, rejected = chosen - first, rejected - second
        loss = -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).mean()
        if self.asked["preference"]["supervised"]:
            loss = loss + torch.nn.functional.cross_entropy(
                logits.chunk(2)[0].flatten(0, 1).clone(),  # what a mask of ones selects
                labels.chunk(2)[0].flatten(),
            )
        entropy_from_logits(logits.detach())
        return loss

    @contextmanager
    def _off(self) -> Iterator[None]:
        """Switch the adapter and checkpointing off for the reference (trl, use_adapter)."""
        again = self.asked["checkpointing"]
        if again:
            self.model.gradient_checkpointing_disable()
        with self.model.disable_adapter() if self.asked["adapter"] else nullcontext():
            yield
        if again:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
