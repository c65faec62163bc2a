"""Optimizers by what they keep. Names are values of axolotl's ``optimizer``."""

from __future__ import annotations

from launcher.plan.job import Optimizer, Unplanned

# bitsandbytes in 8 bits: a byte a state, an fp32 absmax for each 256 (optim/optimizer.py).
BYTE = 1 + 4 / 256
_PAGED = "paged_"


def _known() -> dict[str, Optimizer]:
    adam8, adam32 = Optimizer("adamw_8bit", bytes=2 * BYTE), Optimizer("adamw_32bit", bytes=8)
    lion8, lion32 = Optimizer("lion_8bit", bytes=BYTE), Optimizer("lion_32bit", bytes=4)
    return {
        # torch: moments in the dtype of what is trained; without fused, foreach copies it once
        "adamw_torch_fused": Optimizer("adamw_torch_fused", moments=2),
        "adamw_torch": Optimizer("adamw_torch", moments=2, copies=1),
        "sgd": Optimizer("sgd", copies=1),
        "adamw_8bit": adam8,
        "adamw_bnb_8bit": adam8,
        "paged_adamw_8bit": adam8,
        "paged_adamw_32bit": adam32,
        "lion_8bit": lion8,
        "lion_32bit": lion32,
        "paged_lion_8bit": lion8,
        "paged_lion_32bit": lion32,
    }


def find(name: str) -> Optimizer:
    """Return the optimizer of that name. Raises `Unplanned` for one that has not been followed."""
    known = _known()
    if name not in known:
        hint = f"known: {', '.join(known)}"
        raise Unplanned(f"optimizer: {name}", "its states have not been followed", hint)
    found = known[name]
    return Optimizer(name, found.moments, found.bytes, found.copies, paged=name.startswith(_PAGED))
