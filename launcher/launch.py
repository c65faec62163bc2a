"""From a recipe and a machine to the exact command, environment and config of a run. Pure: nothing
is read or written.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import cpu, runs
from launcher.cpu import Change
from launcher.diagnostics import Code, Diagnostic, Severity
from launcher.node import Node
from launcher.recipe import BLOCK, Recipe, pack_folder
from launcher.rules.batch import accumulation, nearest_batches
from launcher.runs import RunFolder

PLUGIN = "launcher.plugin.RunPlugin"

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


@dataclass(frozen=True)
class Launch:
    """What will be started. ``env`` holds only what the launcher sets beside the user's own
    environment.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    resolved: Mapping[str, Any]
    changes: tuple[Change, ...]
    world_size: int
    folder: RunFolder


@dataclass(frozen=True)
class Machine:
    """What a run may use: so many processes, on GPUs or on the CPU, and the volume."""

    processes: int
    on_cpu: bool
    threads: int = 1
    volume: Path | None = None


def check(
    recipe: Recipe, machine: Machine, node: Node, environ: Mapping[str, str], *, cpu_allowed: bool
) -> list[Diagnostic]:
    """Return what stops this recipe on this machine."""
    return [
        *_missing_secrets(recipe, environ),
        *(_cpu_problems(recipe, node, cpu_allowed) if machine.on_cpu else ()),
        *_indivisible_batch(recipe, machine.processes),
    ]


def build(
    recipe: Recipe,
    machine: Machine,
    folder: RunFolder,
    environ: Mapping[str, str],
    *,
    accelerate: str = "accelerate",
) -> Launch:
    """Return the launch of ``recipe`` on ``machine`` into ``folder``. ``accelerate`` is the
    program's path.

    ``environ`` is the user's environment, ``.env`` included: what it sets is not set again, so it
    wins.
    """
    settings = copy.deepcopy(recipe.settings)
    changes = [*_own_places(recipe, folder), *_batch(recipe, machine.processes)]
    changes += cpu.changes(settings) if machine.on_cpu else []
    for change in changes:
        settings.pop(change.key, None)
        if change.after is not None:
            settings[change.key] = change.after
    settings = _located(settings)
    settings["plugins"] = [*(settings.get("plugins") or []), PLUGIN]
    return Launch(
        name=recipe.name,
        argv=_argv(
            accelerate, machine, folder, half=settings.get("bf16") in (True, "auto", "full")
        ),
        env=_environment(machine, folder, environ),
        resolved=settings,
        changes=tuple(changes),
        world_size=machine.processes,
        folder=folder,
    )


def command_lines(launch: Launch) -> str:
    """Return the environment and the command as lines for a shell."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in launch.env.items())
    program, subcommand, *rest = [shlex.quote(part) for part in launch.argv]
    words = [f"{program} {subcommand}"]
    for part in rest:  # one flag with its value a line
        if part.startswith("-") or words[-1].count(" ") > 1:
            words.append(part)
        else:
            words[-1] += f" {part}"
    return exports + " \\\n    ".join(words) + "\n"


def script(launch: Launch, *, dotenv: bool) -> str:
    """Return a shell script that does all that ``axr train`` would start, from nothing: the dry
    run.
    """
    folder = shlex.quote(str(launch.folder.root))
    lines = [f"mkdir -p {folder}", f"cat > {shlex.quote(str(launch.folder.resolved))} <<'RESOLVED'"]
    lines += [runs.dump(launch.resolved) + "RESOLVED"]
    if dotenv:
        lines.append("set -a; . ./.env; set +a")
    return "\n".join(lines) + "\n" + command_lines(launch)


def _missing_secrets(recipe: Recipe, environ: Mapping[str, str]) -> Iterator[Diagnostic]:
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
            f" (nvidia-smi: {node.trouble})" if node.trouble else ""
        )
        hint = (
            "see what would run on a rented one: add --dry-run\nrun it here all the same: add --cpu"
        )
        yield NO_GPU.at(recipe.value_span(BLOCK, "needs", "gpu"), fact, hint)
    yield from cpu.impossible(recipe)


def _indivisible_batch(recipe: Recipe, world_size: int) -> Iterator[Diagnostic]:
    stated, micro = (
        recipe.block.get("global_batch_size"),
        recipe.settings.get("micro_batch_size", 1),
    )
    ranks = _data_parallel(recipe, world_size)
    if (
        stated
        and not accumulation(stated, micro, ranks)
        and "gradient_accumulation_steps" not in _overridden(recipe)
    ):
        product = f"{micro} a GPU x {ranks} GPUs = {micro * ranks}"
        fact = f"global_batch_size {stated} does not divide by {product}"
        sizes = " or ".join(
            f"{BLOCK}.global_batch_size={n}" for n in nearest_batches(stated, micro, ranks)
        )
        fewer = [n for n in range(ranks, 0, -1) if accumulation(stated, micro, n)]
        hint = f"nearest: {sizes}" + (f"; or --gpus {fewer[0]}" if fewer else "")
        yield INDIVISIBLE.at(recipe.value_span(BLOCK, "global_batch_size"), fact, hint)


def _data_parallel(recipe: Recipe, world_size: int) -> int:
    split = (recipe.settings.get("tensor_parallel_size") or 1) * (
        recipe.settings.get("context_parallel_size") or 1
    )
    return max(1, world_size // int(split))


def _overridden(recipe: Recipe) -> set[str]:
    return {text.partition("=")[0] for text in recipe.overrides}


def _own_places(recipe: Recipe, folder: RunFolder) -> Iterator[Change]:
    """Each run gets its own result and its own prepared data, unless the command line names another
    place.
    """
    reasons = {
        "output_dir": (folder.model, "so that no run writes into another's result"),
        "dataset_prepared_path": (
            folder.prepared,
            "so that data prepared from other rows is never trained on",
        ),
    }
    for key, (path, reason) in reasons.items():
        if key not in _overridden(recipe):
            yield Change(key, recipe.settings.get(key), str(path), reason)


def _batch(recipe: Recipe, world_size: int) -> Iterator[Change]:
    stated, micro = (
        recipe.block.get("global_batch_size"),
        recipe.settings.get("micro_batch_size", 1),
    )
    ranks = _data_parallel(recipe, world_size)
    steps = accumulation(stated, micro, ranks) if stated else None
    before = recipe.settings.get("gradient_accumulation_steps")
    if steps and steps != before and "gradient_accumulation_steps" not in _overridden(recipe):
        reason = f"{stated} samples a step = {micro} a GPU x {steps} x {ranks}"
        yield Change("gradient_accumulation_steps", before, steps, reason)


def _located(value: Any) -> Any:
    """Return the settings with every path to a shipped file (``recipes/...``) made absolute, unless
    it exists right here.
    """
    if isinstance(value, dict):
        return {key: _located(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_located(child) for child in value]
    if isinstance(value, str) and value.startswith("recipes/") and not Path(value).exists():
        shipped = pack_folder("recipes").parent / value
        return str(shipped) if shipped.exists() else value
    return value


def _argv(accelerate: str, machine: Machine, folder: RunFolder, *, half: bool) -> tuple[str, ...]:
    flags = {
        "--config_file": str(Path(__file__).with_name("accelerate.yaml")),
        "--num_machines": "1",
        "--num_processes": str(machine.processes),
        "--mixed_precision": "bf16" if half else "no",
        "--dynamo_backend": "no",
        "--num_cpu_threads_per_process": str(machine.threads),
    }
    several = ("--multi_gpu",) if machine.processes > 1 else ()
    pairs = [word for pair in flags.items() for word in pair]
    return (accelerate, "launch", *several, *pairs, "-m", "axolotl.cli.train", str(folder.resolved))


def _environment(machine: Machine, folder: RunFolder, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what to set beside the user's own variables, which win."""
    home = environ.get("HF_HOME") or (
        str(machine.volume / "hf") if machine.volume else "~/.cache/huggingface"
    )
    home = str(Path(home).expanduser())
    cache = (
        machine.volume / "cache"
        if machine.volume
        else Path(environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    )
    defaults = {
        "HF_HOME": home,
        "HF_HUB_CACHE": f"{home}/hub",
        "HF_DATASETS_CACHE": f"{home}/datasets",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/torchinductor",
        "AXOLOTL_DO_NOT_TRACK": "1",  # axolotl reports to its makers unless told not to
        # less fragmentation with rows of many lengths
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "NCCL_DEBUG": "WARN",  # says why a collective failed
        # built for CUDA 13 only; nothing here uses them
        "TORCHAO_FORCE_SKIP_LOADING_SO_FILES": "1",
        "TOKENIZERS_PARALLELISM": "false",  # forks of the data loader warn or hang otherwise
        "PYTHONUNBUFFERED": "1",
    }
    if machine.on_cpu:
        defaults |= {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": str(machine.threads)}
    added = {name: value for name, value in defaults.items() if name not in environ}
    # These are the launcher's own, whatever the environment says.
    return {**added, "AXR_RUN_DIR": str(folder.root)} | (
        {"CUDA_VISIBLE_DEVICES": ""} if machine.on_cpu else {}
    )
