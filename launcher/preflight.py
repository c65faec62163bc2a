"""What stops a recipe on a machine: a secret that is not set, no GPU, a batch that does not divide.
Pure: the machine has been looked at before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from launcher import cpu
from launcher.diagnostics import Code, Diagnostic, Severity
from launcher.node import Machine, Node
from launcher.recipe import BLOCK, Recipe
from launcher.rules.batch import (
    accumulation,
    accumulation_steps,
    micro_batch,
    nearest_batches,
    overridden,
    replicas,
    whole,
)

SECRET_UNSET = Code(
    "L101",
    "secret-not-set",
    Severity.ERROR,
    "Downloads or trackers fail after the machine has been paid for.",
)
NO_GPU = Code(
    "L102",
    "no-gpu",
    Severity.ERROR,
    "On a CPU the run would take weeks, on a machine that is paid by the hour.",
)
INDIVISIBLE = Code(
    "L103",
    "batch-does-not-divide",
    Severity.ERROR,
    "Another batch is another training: the result would differ.",
)


def check(
    recipe: Recipe, machine: Machine, node: Node, environ: Mapping[str, str], *, cpu_allowed: bool
) -> list[Diagnostic]:
    """Return what stops this recipe on this machine."""
    return [
        *missing_secrets(recipe, environ),
        *(_cpu_problems(recipe, node, cpu_allowed) if machine.on_cpu else ()),
        *_indivisible_batch(recipe, machine.processes),
    ]


def missing_secrets(recipe: Recipe, environ: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Yield the secrets that the recipe says it needs and that are not set."""
    for index, name in enumerate(recipe.block.get("needs", {}).get("secrets", [])):
        logged_in = name == "HF_TOKEN" and environ.get("HF_TOKEN_PATH")
        if not environ.get(name) and not logged_in:
            hint = f"put {name}=... into .env (see .env.example), or export it"
            yield SECRET_UNSET.at(
                recipe.value_span(BLOCK, "needs", "secrets", str(index)), f"{name} is not set", hint
            )


def _cpu_problems(recipe: Recipe, node: Node, allowed: bool) -> Iterator[Diagnostic]:
    needed = recipe.block.get("needs", {}).get("gpu")
    if needed != "none" and not allowed:
        wanted = (
            f"the recipe needs {needed}"
            if needed
            else "the recipe does not say that it runs on a CPU"
        )
        fact = f"{wanted}, and this machine has no GPU" + (
            f" (NVML: {node.trouble})"
            if node.trouble
            else f" to use: CUDA_VISIBLE_DEVICES leaves out {node.hidden}"
            if node.hidden
            else ""
        )
        hint = (
            "see what would run on a rented one: add --dry-run\nrun it here all the same: add --cpu"
        )
        yield NO_GPU.at(recipe.value_span(BLOCK, "needs", "gpu"), fact, hint)
    yield from cpu.impossible(recipe)


def _indivisible_batch(recipe: Recipe, processes: int) -> Iterator[Diagnostic]:
    total, micro = whole(recipe.block.get("global_batch_size")), micro_batch(recipe)
    fixed = "gradient_accumulation_steps" in overridden(recipe)
    if total < 1 or fixed or accumulation_steps(recipe, processes):
        return
    if not micro:
        fact = f"global_batch_size {total} needs a micro_batch_size of 1 or more"
        yield INDIVISIBLE.at(recipe.value_span("micro_batch_size"), fact, "micro_batch_size=1")
        return
    ranks = replicas(recipe, processes)
    product = f"{micro} a GPU x {ranks} GPU{'s' * (ranks > 1)} = {micro * ranks}"
    fact = f"global_batch_size {total} does not divide by {product}"
    hint = f"nearest: {' or '.join(_nearest(recipe, processes))}"
    yield INDIVISIBLE.at(recipe.value_span(BLOCK, "global_batch_size"), fact, hint)


def _nearest(recipe: Recipe, processes: int) -> Iterator[str]:
    """Yield what to add to the command: first what keeps the batch, then what changes it."""
    total, micro = whole(recipe.block["global_batch_size"]), micro_batch(recipe)
    ranks = replicas(recipe, processes)
    smaller = (n for n in range(micro, 0, -1) if accumulation(total, n, ranks))
    group = processes // ranks  # so many GPUs see the same samples
    fewer = (n for n in range(processes, 0, -group) if accumulation_steps(recipe, n))
    yield from (f"micro_batch_size={n}" for n in islice(smaller, 1))
    yield from (f"--gpus {n}" for n in islice(fewer, 1))
    yield from (f"{BLOCK}.global_batch_size={n}" for n in nearest_batches(total, micro, ranks))
