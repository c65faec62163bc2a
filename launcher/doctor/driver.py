"""The driver against the CUDA of the installed torch, and the cards against what a recipe uses."""

from __future__ import annotations

from launcher import hardware, upstream
from launcher.diagnostics import Code, Severity
from launcher.doctor.line import Line, Lines, bad, ok, plural, unchecked
from launcher.doctor.need import Need
from launcher.node import Gpu
from launcher.node.stack import Torch
from launcher.schema.validator import is_on
from launcher.survey import Facts

TOO_OLD = Code(
    "N103",
    "driver-too-old",
    Severity.ERROR,
    "The driver is older than the CUDA that torch was built for.\n\n"
    'CUDA 12 needs 525, CUDA 13 needs 580: "The NVIDIA driver on your system is too old", and no '
    "GPU is seen. What PyPI gives is built for CUDA 13; a build for 12.6 runs on older drivers.",
)
LACKING = Code(
    "N111",
    "gpu-lacks-feature",
    Severity.ERROR,
    "The recipe asks for what this card cannot do.\n\n"
    "bf16 and FlashAttention 2 need Ampere (8.0), fp8 and FlashAttention 3 and 4 Hopper (9.0). "
    "axolotl looks whether the package is there, seldom at the card: it dies in the first step.",
)
BLIND = Code(
    "N203",
    "torch-sees-no-gpu",
    Severity.ERROR,
    "There are GPUs, and torch sees none of them, or not all.\n\n"
    "It was built without CUDA, or CUDA does not start. Training would run on the CPU.",
)
# CUDA major -> least driver (docs.nvidia.com/deploy/cuda-compatibility, minor versions)
LEAST = {11: 450, 12: 525, 13: 580}


def lines(facts: Facts, need: Need) -> Lines:
    """Yield what is to say of driver, torch and capability."""
    if facts.node.gpus:
        yield _driver(facts)
        yield _sight(facts, need)
    used = facts.node.gpus[: need.processes]
    if used and need.recipe and not need.on_cpu:
        yield _capability(used[0], need)


def major(text: str) -> int:
    """Return the first number of a version; 0 where there is none."""
    first = text.partition(".")[0]
    return int(first) if first.isdecimal() else 0


def install(driver: str) -> str:
    """Return how torch is installed anew for a driver."""
    backend = "cu130" if major(driver) >= LEAST[13] else "cu126"
    torch = f"uv pip install --torch-backend {backend} torch=={upstream.TORCH}"
    return f"rm .venv/.installed; make setup TORCH_BACKEND={backend}\nelsewhere: {torch}"


def _driver(facts: Facts) -> Line:
    driver, torch = facts.node.driver, _torch(facts)
    if not major(driver):
        return unchecked("driver", "its version is not known")
    if torch is None or not torch.cuda:
        return ok("driver", f"{driver}; for CUDA up to {facts.node.cuda or 'what it says itself'}")
    least = LEAST.get(major(torch.cuda), max(LEAST.values()))
    words = f"{driver}; torch {torch.version} is built for CUDA {torch.cuda}, which needs {least}"
    if major(driver) >= least:
        return ok("driver", words)
    if major(driver) < LEAST[12]:
        return bad("driver", TOO_OLD, words, f"take a machine with driver {LEAST[12]} or newer")
    return bad("driver", TOO_OLD, words, install(driver))


def _torch(facts: Facts) -> Torch | None:
    return facts.stack.torch if facts.stack else None


def _sight(facts: Facts, need: Need) -> Line:
    torch, here = _torch(facts), len(facts.node.gpus)
    if torch is None or (not torch.version and not torch.trouble):
        why = facts.stack.why if facts.stack and facts.stack.why else "torch was not tried"
        return unchecked("torch and GPU", why)
    if torch.version and not torch.cuda:
        words = f"torch {torch.version} is built without CUDA"
        return bad("torch and GPU", BLIND, words, install(facts.node.driver))
    if torch.trouble:
        return bad("torch and GPU", BLIND, torch.trouble, install(facts.node.driver))
    if torch.gpus < min(here, need.processes):
        words = f"torch sees {torch.gpus} of {plural(here, 'GPU')}"
        hint = "compare: echo $CUDA_VISIBLE_DEVICES; python -c 'import torch; torch.cuda.init()'"
        return bad("torch and GPU", BLIND, words, hint)
    return ok("torch and GPU", f"torch {torch.version} sees {plural(torch.gpus, 'GPU')}")


def _capability(gpu: Gpu, need: Need) -> Line:
    kind = hardware.of_device(gpu.name)
    found = gpu.capability or (kind.capability if kind else None)
    if found is None:
        return unchecked("capability", f"the driver does not say that of {gpu.name or 'the GPU'}")
    for key, least, what, remedy in _asked(need):
        fits = found >= least if what != "flash_attention_3" else found[0] == least[0]
        if not fits:
            words = f"{what} needs capability {least[0]}.{least[1]}, a {gpu.name} has"
            words += f" {found[0]}.{found[1]}"
            return bad("capability", LACKING, words, remedy, need.span(key))
    used = ", ".join(what for _, _, what, _ in _asked(need))
    return ok("capability", f"{found[0]}.{found[1]}{f': enough for {used}' if used else ''}")


def _asked(need: Need) -> list[tuple[str, tuple[int, int], str, str]]:
    """Return the features that a recipe uses: key, least capability, name, remedy. fp8 is what
    axolotl lets pass (cli/config.py, compute_supports_fp8).
    """
    settings, found = need.settings, []
    if is_on(settings.get("bf16")) or settings.get("bf16") == "full":
        found.append(("bf16", (8, 0), "bf16", "bf16: false\nfp16: true"))
    if need.attention == "flash_attention_2":
        key = "attn_implementation" if settings.get("attn_implementation") else "flash_attention"
        found.append((key, (8, 0), need.attention, "attn_implementation: sdpa"))
    if need.attention in ("flash_attention_3", "flash_attention_4"):
        remedy = "attn_implementation: flash_attention_2"
        found.append(("attn_implementation", (9, 0), need.attention, remedy))
    if is_on(settings.get("fp8")):
        found.append(("fp8", (9, 0), "fp8", "fp8: false\nbf16: true"))
    return found
