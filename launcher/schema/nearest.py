"""The key that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

# The same thing under the name it has in transformers, TRL, PEFT or LLaMA-Factory.
OTHER_TOOLS: Mapping[str, str] = {
    "model_name_or_path": "base_model",
    "per_device_train_batch_size": "micro_batch_size",
    "train_batch_size": "micro_batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
    "num_train_epochs": "num_epochs",
    "epochs": "num_epochs",
    "lr": "learning_rate",
    "optim": "optimizer",
    "lr_scheduler_type": "lr_scheduler",
    "max_seq_length": "sequence_len",
    "max_length": "sequence_len",
    "cutoff_len": "sequence_len",
    "packing": "sample_packing",
    "beta": "rl_beta",
    "dpo_beta": "rl_beta",
    "pref_beta": "rl_beta",
    "lora_rank": "lora_r",
    "lora_target": "lora_target_modules",
    "target_modules": "lora_target_modules",
    "finetuning_type": "adapter",
    "save_total": "save_total_limit",
    "hub_repo_id": "hub_model_id",
    "train_on_split": "split",
}

# The longest key has 39 letters; the time to compare grows with the square of the length.
MAX_LENGTH = 100
SURE_LENGTH = 4  # shorter names are too near to each other


def nearest_key(unknown: str, known: Iterable[str], cutoff: float = 0.75) -> str:
    """Return the known key that was probably meant, or an empty string. ``cutoff`` is the least
    likeness, as difflib measures it.
    """
    if len(unknown) > MAX_LENGTH:
        return ""
    candidates = list(known)
    other = OTHER_TOOLS.get(unknown, "")
    if other in candidates:
        return other
    squeezed = {_squeeze(key): key for key in candidates}
    if _squeeze(unknown) in squeezed:
        return squeezed[_squeeze(unknown)]
    swapped = [key for key in candidates if sorted(key) == sorted(unknown)]
    if swapped:
        return swapped[0]
    near = difflib.get_close_matches(unknown, candidates, n=1, cutoff=cutoff)
    return near[0] if near else ""


def is_certain(unknown: str, meant: str, known: Iterable[str]) -> bool:
    """Return whether ``unknown`` can only be ``meant`` misspelt: the same letters with other dashes
    or capitals, or one slip of the keyboard away from it and from no other name.
    """
    if _squeeze(unknown) == _squeeze(meant):
        return True
    slips = (key for key in known if _one_slip(_squeeze(unknown), _squeeze(key)))
    return len(meant) >= SURE_LENGTH and list(slips) == [meant]


def _one_slip(one: str, other: str) -> bool:
    """Whether one letter was left out, added, mistyped, or swapped with its neighbour."""
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if start is None:
        return abs(len(one) - len(other)) == 1
    left, right = one[start:], other[start:]
    return (
        left[1:] == right[1:]
        or left[1:] == right
        or left == right[1:]
        or (left[:2] == right[1::-1] and left[2:] == right[2:])
    )


def _squeeze(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")
