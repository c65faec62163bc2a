"""The GPUs that a plan knows: memory as torch reports it, speed, links between cards.

Sources. Memory: ``total_memory`` of torch.cuda.get_device_properties as logged by users of the card
(A100-80 79.15, RTX 3090 and 4090 23.6, A10G 22.0, A100-40 39.4 GiB stand in
tests/data/vram-measured.tsv); it is below the nominal size, as driver and ECC keep a part. Peak
speed: dense bf16 tensor-core TFLOPS (fp16 where the card has no bf16) of NVIDIA's data sheets,
without sparsity; GeForce cards with fp32 accumulation, which is what PyTorch uses. Memory bandwidth
likewise. Links: what one card sends in one direction, GB/s, of the data sheets (NVLink's totals
halved; PCIe 4.0 x16 is 32, 3.0 x16 is 16, 5.0 x16 is 64).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from launcher.diagnostics import LauncherError

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU. Memory in GiB, speed in TFLOPS, bandwidths in GB/s (10^9 bytes)."""

    name: str
    title: str
    memory: float
    tflops: float  # dense, bf16
    bandwidth: float  # of its memory
    capability: tuple[int, int]
    pcie: float  # to the host and to cards without NVLink, one direction
    nvlink: float | None = None  # between cards of a node, one direction; None: not made

    @property
    def bf16(self) -> bool:
        """Whether its tensor cores compute in bf16: from Ampere on."""
        return self.capability >= (8, 0)

    @property
    def memory_bytes(self) -> int:
        """Usable memory in bytes."""
        return int(self.memory * GIB)


AMPERE, ADA, HOPPER = (8, 6), (8, 9), (9, 0)
GPUS: tuple[Gpu, ...] = (
    Gpu("b200-180gb", "NVIDIA B200 SXM 180 GB", 178.3, 2250, 8000, (10, 0), 64, 900),
    Gpu("h200", "NVIDIA H200 SXM 141 GB", 139.8, 989, 4800, HOPPER, 64, 450),
    Gpu("h100-80gb", "NVIDIA H100 SXM 80 GB", 79.1, 989, 3350, HOPPER, 64, 450),
    Gpu("h100-pcie-80gb", "NVIDIA H100 PCIe 80 GB", 79.1, 756, 2000, HOPPER, 64, 300),
    Gpu("a100-80gb", "NVIDIA A100 SXM 80 GB", 79.15, 312, 2039, (8, 0), 32, 300),
    Gpu("a100-pcie-80gb", "NVIDIA A100 PCIe 80 GB", 79.15, 312, 1935, (8, 0), 32, 300),
    Gpu("a100-40gb", "NVIDIA A100 40 GB", 39.4, 312, 1555, (8, 0), 32, 300),
    Gpu("l40s-48gb", "NVIDIA L40S 48 GB", 44.4, 362, 864, ADA, 32),
    Gpu("a40-48gb", "NVIDIA A40 48 GB", 44.4, 150, 696, AMPERE, 32, 56),
    Gpu("a6000-48gb", "NVIDIA RTX A6000 48 GB", 47.5, 155, 768, AMPERE, 32, 56),
    Gpu("rtx6000-ada-48gb", "NVIDIA RTX 6000 Ada 48 GB", 47.5, 364, 960, ADA, 32),
    Gpu("rtx5090-32gb", "NVIDIA GeForce RTX 5090 32 GB", 31.4, 210, 1792, (12, 0), 64),
    Gpu("rtx4090-24gb", "NVIDIA GeForce RTX 4090 24 GB", 23.6, 165, 1008, ADA, 32),
    Gpu("rtx3090-24gb", "NVIDIA GeForce RTX 3090 24 GB", 23.6, 71, 936, AMPERE, 32, 56),
    Gpu("a10g-24gb", "NVIDIA A10G 24 GB", 22.0, 70, 600, AMPERE, 32),
    Gpu("l4-24gb", "NVIDIA L4 24 GB", 22.0, 121, 300, ADA, 32),
    Gpu("v100-32gb", "NVIDIA V100 SXM2 32 GB", 31.7, 125, 900, (7, 0), 16, 150),
    Gpu("v100-16gb", "NVIDIA V100 SXM2 16 GB", 15.8, 125, 900, (7, 0), 16, 150),
    Gpu("t4-16gb", "NVIDIA T4 16 GB", 14.6, 65, 320, (7, 5), 16),
)
_BY_NAME = {gpu.name: gpu for gpu in GPUS}
# What people write for them.
_ALIASES = {
    "a100": "a100-80gb",
    "a10g": "a10g-24gb",
    "h100": "h100-80gb",
    "h200-141gb": "h200",
    "l4": "l4-24gb",
    "l40s": "l40s-48gb",
    "rtx3090": "rtx3090-24gb",
    "rtx4090": "rtx4090-24gb",
    "rtx5090": "rtx5090-32gb",
    "t4": "t4-16gb",
    "v100": "v100-16gb",
}


# The names by which nvidia-smi calls them, without "NVIDIA"; the first that fits counts.
_DEVICES = (
    (r"B200", "b200-180gb"),
    (r"H200", "h200"),
    (r"H100.*PCIe", "h100-pcie-80gb"),
    (r"H100", "h100-80gb"),
    (r"A100.*80GB.*PCIe|A100-PCIE-80GB", "a100-pcie-80gb"),
    (r"A100.*80GB", "a100-80gb"),
    (r"A100", "a100-40gb"),
    (r"L40S", "l40s-48gb"),
    (r"A40\b", "a40-48gb"),
    (r"RTX A6000", "a6000-48gb"),
    (r"RTX 6000 Ada", "rtx6000-ada-48gb"),
    (r"RTX 5090$", "rtx5090-32gb"),
    (r"RTX 4090$", "rtx4090-24gb"),
    (r"RTX 3090$", "rtx3090-24gb"),
    (r"A10G", "a10g-24gb"),
    (r"L4$", "l4-24gb"),
    (r"V100.*32GB", "v100-32gb"),
    (r"V100", "v100-16gb"),
    (r"T4$", "t4-16gb"),
)


def of_device(name: str) -> Gpu | None:
    """Return the GPU that nvidia-smi calls by this name; none for one that is not in the table."""
    fits = (kind for pattern, kind in _DEVICES if re.search(pattern, name))
    kind = next(fits, None)
    return _BY_NAME[kind] if kind else None


def named(name: str) -> Gpu | None:
    """Return the GPU of that name, or none."""
    known = name.lower().replace("_", "-")
    return _BY_NAME.get(_ALIASES.get(known, known))


def find(name: str) -> Gpu:
    """Return the GPU of that name. Raises ``LauncherError`` with the nearest names."""
    if gpu := named(name):
        return gpu
    known = name.lower().replace("_", "-")
    near = difflib.get_close_matches(known, [*_BY_NAME, *_ALIASES], n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(_BY_NAME)}"
    raise LauncherError(f'no GPU "{name}"', hint, exit_code=2)
