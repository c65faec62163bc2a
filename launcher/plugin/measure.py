"""Bytes of a checkpoint that is not written yet, without tokenizer and other small files; and of
the room for it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

# DeepSpeed and FSDP save of each trained weight a copy in fp32 and two moments (launcher/plan/disk)
STATES = 12


def weight_bytes(model: Any) -> float:
    """Return the bytes of what is saved of a model: all of it, or what an adapter trains."""
    return float(sum(_count(one) * one.element_size() for one in _saved(model)))


def state_bytes(optimizer: Any) -> float:
    """Return the bytes of the optimizer's states, which torch.save writes as they are."""
    states = optimizer.state.values() if optimizer is not None else ()
    held = (one for state in states for one in state.values() if isinstance(one, torch.Tensor))
    return float(sum(one.numel() * one.element_size() for one in held))


def shared_state_bytes(model: Any) -> float:
    """Return the bytes that the ranks of this node save of the states, each its part."""
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    return (
        STATES * sum(_count(one) for one in model.parameters() if one.requires_grad) * local / world
    )


def free_bytes(place: Path) -> int | None:
    """Return the free bytes of a disk; none where it does not say, as some network volumes."""
    try:
        found = shutil.disk_usage(place)
    except OSError:
        return None
    return found.free if found.total else None


def _saved(model: Any) -> Iterator[Any]:
    """Yield the weights that are saved: those of PEFT's adapter are what is trained."""
    adapted = hasattr(model, "peft_config")
    return (one for one in model.parameters() if one.requires_grad or not adapted)


def _count(weight: Any) -> int:
    """Return the weights of a tensor; of one that ZeRO-3 has divided, of the whole."""
    return int(getattr(weight, "ds_numel", weight.numel()))
