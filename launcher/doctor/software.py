"""The training stack: installed, and at work."""

from __future__ import annotations

from launcher import upstream
from launcher.diagnostics import Code, Severity
from launcher.doctor.driver import major
from launcher.doctor.line import Line, Lines, bad, ok, plural, unchecked
from launcher.doctor.need import Need
from launcher.node.stack import Package, Stack
from launcher.survey import Facts

ABSENT = Code(
    "N201",
    "package-missing",
    Severity.ERROR,
    "A package that the recipe needs is not installed for this Python.\n\n"
    "axolotl says so after the data is prepared or the model is loaded, sometimes in words that "
    "name something else.",
)
BROKEN = Code(
    "N202",
    "package-broken",
    Severity.ERROR,
    "A package that the recipe needs is installed and does not work.\n\n"
    "Mostly its binary was built for another torch or CUDA (undefined symbol). The run dies at its "
    "import, or at the first step that uses it.",
)
NO_COMPILER = Code(
    "N204",
    "cuda-compiler-missing",
    Severity.ERROR,
    "DeepSpeed will compile its CPU optimizer here, and cannot.\n\n"
    "It needs nvcc of the CUDA major that torch was built for, and a C++ compiler. A runtime image "
    "has none: take the devel one, or an optimizer on the GPU.",
)
OTHER_VERSION = Code(
    "N205",
    "another-axolotl",
    Severity.WARNING,
    "Another axolotl is installed than the one that the recipes and all checks are made for.\n\n"
    "Keys come and go between versions, and axolotl drops unknown ones without a word.",
)
OTHER_WORLD = Code(
    "N206",
    "checkpoint-of-other-gpus",
    Severity.ERROR,
    "The DeepSpeed checkpoint was written by another number of GPUs.\n\n"
    "Each rank keeps its own part of the optimizer: with another number of ranks it does not load.",
)
SUM_FAILS = Code(
    "N112",
    "all-reduce-fails",
    Severity.ERROR,
    "The GPUs could not add up numbers together.\n\n"
    "That is what every step of a run on several GPUs does: it would hang, or die, at the first.",
)
SETUP = "rm -f .venv/.installed; make setup"
_CCE = (
    "pip uninstall -y cut-cross-entropy && pip install 'cut-cross-entropy[transformers] @ "
    "git+https://github.com/axolotl-ai-cloud/ml-cross-entropy.git@4dfa522'"
)  # axolotl/integrations/cut_cross_entropy/__init__.py
_REMEDIES = {
    "flash_attn": "attn_implementation: sdpa\n"
    "or use the Hub's kernel instead: uv pip uninstall flash-attn",
    "cut_cross_entropy.transformers": _CCE,
    "deepspeed": "uv pip install 'deepspeed==0.18.9'",
    "bitsandbytes": "uv pip install --force-reinstall --no-deps bitsandbytes==0.50.2",
    "xformers": "attn_implementation: sdpa",
}
_KEYS = {
    "flash_attn": "attn_implementation",
    "cut_cross_entropy.transformers": "plugins",
    "liger_kernel.transformers": "plugins",
    "deepspeed": "deepspeed",
    "bitsandbytes": "optimizer",
}


def lines(facts: Facts, need: Need) -> Lines:
    """Yield what is to say of the stack."""
    stack = facts.stack
    if stack is None:
        yield unchecked("software", "not tried")
        return
    yield _axolotl(stack)
    yield _torch(stack)
    for package in stack.packages:
        if package.version or package.module not in ("flash_attn", "kernels"):
            yield _package(package, need)
    yield from _attention(stack, need)
    if need.compiles:
        yield _compiler(facts, need)
    if need.checkpoint_ranks is not None:
        yield _resumed(need, need.checkpoint_ranks)
    if stack.torch and stack.torch.version and not stack.torch.trouble:
        yield _sum(facts, need)


def _axolotl(stack: Stack) -> Line:
    if not stack.axolotl:
        return bad("axolotl", ABSENT, "axolotl is not installed for this Python", SETUP)
    if stack.axolotl != upstream.VERSION:
        words = f"axolotl {stack.axolotl}; the recipes are made for {upstream.VERSION}"
        return bad("axolotl", OTHER_VERSION, words, SETUP)
    return ok("axolotl", stack.axolotl)


def _torch(stack: Stack) -> Line:
    torch = stack.torch
    if torch is None:
        return unchecked("torch", stack.why or "no answer")
    if torch.trouble and not torch.version:
        return bad("torch", BROKEN, f"torch does not import: {torch.trouble}", SETUP)
    if not torch.version:
        return bad("torch", ABSENT, "torch is not installed for this Python", SETUP)
    return ok("torch", f"{torch.version}, {f'CUDA {torch.cuda}' if torch.cuda else 'for a CPU'}")


def _package(package: Package, need: Need) -> Line:
    name = package.module.partition(".")[0]
    remedy = _REMEDIES.get(package.module, SETUP)
    span = need.span(_KEYS.get(package.module, "base_model"))
    if not package.version:
        return bad(name, ABSENT, f"{name} is not installed for this Python", remedy, span)
    if not package.checked:
        return unchecked(name, package.trouble or "torch is not installed")
    if package.trouble:
        words = f"{name} {package.version} does not work: {package.trouble}"
        return bad(name, BROKEN, words, remedy, span)
    return ok(name, f"{package.version} works")


def _attention(stack: Stack, need: Need) -> Lines:
    """Yield where FlashAttention 2 comes from where the package is not installed: transformers
    takes the Hub's kernel, by the package kernels.
    """
    if need.attention != "flash_attention_2":
        if need.attention.startswith("flash"):
            yield unchecked("flash attention", f"{need.attention} is not tried")
        return
    own, kernels = stack.package("flash_attn"), stack.package("kernels")
    if own and own.version:
        return
    span = need.span("attn_implementation")
    if kernels is None or not kernels.version:
        words = "neither flash-attn nor kernels is installed: there is no FlashAttention 2"
        yield bad("flash attention", ABSENT, words, "attn_implementation: sdpa", span)
    elif not kernels.trouble:
        words = "the Hub's kernel, downloaded at the start (kernels-community/flash-attn2)"
        yield ok("flash attention", words)


def _compiler(facts: Facts, need: Need) -> Line:
    found, span = facts.host, need.span("deepspeed")
    torch = facts.stack.torch if facts.stack else None
    hint = "take an image with the toolkit (devel), or deepspeed: recipes/deepspeed/zero2.json"
    if found.why:
        return unchecked("CUDA compiler", found.why)
    if not found.nvcc:
        words = "DeepSpeed compiles its CPU optimizer, and there is no nvcc"
        return bad("CUDA compiler", NO_COMPILER, words, hint, span)
    if not found.compiler:
        words = "DeepSpeed compiles its CPU optimizer, and there is no C++ compiler"
        return bad("CUDA compiler", NO_COMPILER, words, "apt-get install g++", span)
    if torch and torch.cuda and major(torch.cuda) != major(found.nvcc):
        words = f"nvcc {found.nvcc} cannot build for torch's CUDA {torch.cuda}"
        return bad("CUDA compiler", NO_COMPILER, words, hint, span)
    return ok("CUDA compiler", f"nvcc {found.nvcc}")


def _resumed(need: Need, ranks: int) -> Line:
    world = need.processes * need.nodes
    words = f"the checkpoint was written by {plural(ranks, 'GPU')}, the run has {world}"
    if ranks != world and need.deepspeed is not None:
        span = need.span("resume_from_checkpoint")
        return bad("checkpoint", OTHER_WORLD, words, f"--gpus {ranks}", span)
    return ok("checkpoint", words)


def _sum(facts: Facts, need: Need) -> Line:
    found = facts.stack.all_reduce if facts.stack else None
    if found is None:
        return unchecked("all-reduce", "not tried")
    what = f"{found.backend}, {plural(found.ranks, 'rank')}"
    late = found.trouble.startswith("no answer")
    if late and need.on_cpu:
        return unchecked("all-reduce", found.trouble)
    if found.trouble:
        hint = "see more: NCCL_DEBUG=INFO axr doctor\noften it helps: export NCCL_P2P_DISABLE=1"
        hint = "see more: TORCH_DISTRIBUTED_DEBUG=DETAIL axr doctor" if need.on_cpu else hint
        return bad("all-reduce", SUM_FAILS, f"{what}: {found.trouble}", hint)
    speed = f", {found.speed / 1e9:.1f} GB/s" if found.speed and not need.on_cpu else ""
    return ok("all-reduce", f"{what}: right{speed}")
