"""Which keys of a recipe a rehearsal sets, each with its reason. Pure.

Three kinds: what a CPU cannot do (`launcher.cpu` knows the most of it), what makes the run short,
and where things stand: the small model, the rows, a folder of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import cpu
from launcher.cpu import Change
from launcher.rehearse import entries
from launcher.rules.batch import whole
from launcher.schema.validator import is_on

STEPS = 3
EVERY = 2  # steps between evaluations, and between checkpoints
PLUGINS = ("launcher.plugin.RunPlugin", "launcher.rehearse.plugin.StagePlugin")
# Logits of one micro batch beyond this are cut: 1 GiB in float32, and three times that are held.
MOST_LOGITS = 2**28

_SHARDED = "one process a rank on a CPU shards nothing"
_ON_GPU = "needs a GPU"
_TRACKER = "nothing is reported from a rehearsal"
_ELSEWHERE = "everything is on this machine, and stays here"
_BRIEF = "a rehearsal is short"
_AFRESH = "a rehearsal starts from new weights"

_GONE = (
    *((key, "it needs a kernel of the GPU") for key in ("fp8", "xformers_attention", "qat")),
    *((key, _ON_GPU) for key in ("quantization", "quantize_moe_experts", "ple_cpu_offload")),
    *((key, _ON_GPU) for key in ("activation_offloading", "layer_offloading", "tiled_mlp")),
    *((key, _ON_GPU) for key in ("load_in_8bit", "gpu_memory_limit", "flash_optimum")),
    *((key, _ON_GPU) for key in ("use_kernels", "fused_attn_kernel", "deepcompile")),
    *((key, _SHARDED) for key in ("tensor_parallel_size", "context_parallel_size")),
    *((key, _SHARDED) for key in ("expert_parallel_size", "dp_shard_size", "dp_replicate_size")),
    *((key, _SHARDED) for key in ("fsdp_version", "use_ray")),
    *((key, _AFRESH) for key in ("resume_from_checkpoint", "auto_resume_from_checkpoints")),
    ("lora_model_dir", "that adapter has the size of the real model"),
    ("hub_model_id", _ELSEWHERE),
    ("push_dataset_to_hub", _ELSEWHERE),
    ("hf_use_auth_token", _ELSEWHERE),
    ("revision_of_model", "a folder has no revisions"),
    ("base_model_config", "the stand-in has its own"),
    ("do_bench_eval", "it downloads its questions"),
    ("lm_eval_post_train", "it downloads its questions"),
    ("eval_table_size", _TRACKER),
)
_TRACKERS = re.compile(
    r"(use_)?(wandb|comet|mlflow|trackio|swanlab|otel)(_.*)?|hf_mlflow_log_artifacts"
)
# keys that may name layers by number, which the stand-in then has to have
_BY_LAYER = (
    "unfrozen_parameters",
    "peft_layers_to_transform",
    "peft_layer_replication",
    "lora_target_modules",
    "lora_target_parameters",
    "lora_rank_pattern",
    "lora_alpha_pattern",
    "lisa_n_layers",
)


@dataclass(frozen=True)
class Length:
    """How long a rehearsal is, and on how many processes."""

    steps: int = STEPS
    ranks: int = 1


@dataclass(frozen=True)
class Standing:
    """Where the stand-ins are: the model's folder, the file of each entry's rows by
    ``(key, index)`` with their number, the folder to write into, tokens in the vocabulary.
    """

    model: Path
    rows: Mapping[tuple[str, int], tuple[Path, int]]
    folder: Path
    vocabulary: int


def tracks(key: str) -> bool:
    """Whether a key is one of a tracker: W&B, Comet, MLflow and the like."""
    return bool(_TRACKERS.fullmatch(key))


def names_layers(settings: Mapping[str, Any]) -> bool:
    """Whether a recipe names layers by number, so that all of them are needed."""
    return any(re.search(r"\d", str(settings.get(key) or "")) for key in _BY_LAYER)


def changes(settings: Mapping[str, Any], standing: Standing, length: Length) -> list[Change]:
    """Return what a rehearsal sets in ``settings``, in the order of being told."""
    wanted = [
        *cpu.changes(settings),
        *_without_gpu(settings),
        *_short(settings, length),
        *_narrow(settings, standing),
        *_places(settings, standing),
    ]
    last = {change.key: change for change in wanted}
    return [change for change in last.values() if change.before != change.after]


def applied(settings: Mapping[str, Any], made: list[Change]) -> dict[str, Any]:
    """Return the settings with changes applied; a dot in a key goes one level down."""
    new: dict[str, Any] = _copy(settings)
    for change in made:
        *above, last = change.key.split(".")
        node: Any = new
        for part in above:
            node = node[int(part)] if isinstance(node, list) else node[part]
        if change.after is None:
            node.pop(last, None)
        else:
            node[last] = change.after
    return new


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(child) for key, child in value.items()}
    return [_copy(child) for child in value] if isinstance(value, list) else value


def _without_gpu(settings: Mapping[str, Any]) -> Iterator[Change]:
    for key, reason in _GONE:
        if settings.get(key):
            yield Change(key, settings[key], None, reason)
    for key, value in settings.items():
        if tracks(key) and value:
            yield Change(key, value, None, _TRACKER)
    if settings.get("gradient_checkpointing") not in (None, True, False):
        before = settings["gradient_checkpointing"]
        yield Change("gradient_checkpointing", before, True, "off-loading needs a GPU")
    plugins = list(settings.get("plugins") or [])
    kept = [plugin for plugin in plugins if not cpu.needs_gpu(str(plugin))]
    reason = "the launcher's own watch the rehearsal"
    if len(kept) < len(plugins):
        reason = f"kernels of a GPU are left out; {reason}"
    yield Change("plugins", settings.get("plugins"), [*kept, *PLUGINS], reason)


def evaluates(settings: Mapping[str, Any]) -> bool:
    """Whether a recipe has rows to evaluate on, and a schedule for it."""
    rows = settings.get("val_set_size") or settings.get("test_datasets")
    keys = ("eval_steps", "evals_per_epoch", "eval_strategy")
    schedule = any(settings.get(key) not in (None, False, 0, "no") for key in keys)
    return bool(rows) and schedule


def saves(settings: Mapping[str, Any]) -> bool:
    """Whether a recipe saves checkpoints, which it does unless it says no."""
    return settings.get("save_strategy") not in ("no", False)


def _short(settings: Mapping[str, Any], length: Length) -> Iterator[Change]:
    yield Change("max_steps", settings.get("max_steps"), length.steps, _BRIEF)
    before = settings.get("gradient_accumulation_steps")
    batch, micro = whole(settings.get("batch_size")), whole(settings.get("micro_batch_size")) or 1
    steps = whole(before) or (batch // micro if batch else 1)
    yield Change("gradient_accumulation_steps", before, min(steps, 2), _BRIEF)
    yield Change("batch_size", settings.get("batch_size"), None, _BRIEF)
    yield Change("logging_steps", settings.get("logging_steps"), 1, "every step is judged")
    if evaluates(settings):
        yield from _schedule(settings, "eval", "so that it happens")
    if saves(settings):
        yield from _schedule(settings, "save", "so that there is something to go on from")
        if whole(settings.get("save_total_limit", 4)) < 2:
            reason = "the resumed run starts from the one before the last"
            yield Change("save_total_limit", settings.get("save_total_limit"), 2, reason)
    helpers = "a few rows need no helpers"
    yield Change("dataset_num_proc", settings.get("dataset_num_proc"), 1, helpers)
    if settings.get("dataloader_num_workers"):
        yield Change("dataloader_num_workers", settings["dataloader_num_workers"], 0, helpers)
    rows = settings.get("val_set_size")
    if isinstance(rows, int) and rows > 1:
        yield Change("val_set_size", rows, 0.1, "there are but a few rows here")


def _schedule(settings: Mapping[str, Any], what: str, reason: str) -> Iterator[Change]:
    yield Change(f"{what}_steps", settings.get(f"{what}_steps"), EVERY, reason)
    for key, after in ((f"{what}s_per_epoch", None), (f"{what}_strategy", "steps")):
        if settings.get(key) not in (None, after):
            yield Change(key, settings[key], after, reason)


def _narrow(settings: Mapping[str, Any], standing: Standing) -> Iterator[Change]:
    """Cut the micro batch, and then the length, where the logits would take too much memory."""
    micro = whole(settings.get("micro_batch_size")) or 1
    tokens = whole(settings.get("sequence_len")) or 512
    pairs = 2 if settings.get("rl") else 1
    fits = max(1, MOST_LOGITS // (tokens * pairs * standing.vocabulary))
    if fits < micro:
        size = micro * tokens * pairs * standing.vocabulary * 4 / 2**30
        reason = f"its logits would take {size:.1f} GiB here"
        yield Change("micro_batch_size", settings.get("micro_batch_size"), fits, reason)
    most = MOST_LOGITS // (pairs * standing.vocabulary)
    if most < tokens:
        size = tokens * pairs * standing.vocabulary * 4 / 2**30
        reason = f"the logits of one row would take {size:.1f} GiB here"
        yield Change("sequence_len", settings.get("sequence_len"), most // 64 * 64, reason)


def _places(settings: Mapping[str, Any], standing: Standing) -> Iterator[Change]:
    small = "random weights of the same architecture"
    yield Change("base_model", settings.get("base_model"), str(standing.model), small)
    if settings.get("tokenizer_config"):
        reason = "it stands beside the stand-in"
        yield Change("tokenizer_config", settings["tokenizer_config"], None, reason)
    if is_on(settings.get("trust_remote_code")):
        reason = "transformers has code of its own for this architecture"
        yield Change("trust_remote_code", True, False, reason)
    apart = "so that nothing else is written to"
    for key, name in (("output_dir", "model"), ("dataset_prepared_path", "prepared")):
        yield Change(key, settings.get(key), str(standing.folder / name), apart)
    for (key, index), (file, count) in standing.rows.items():
        yield from entries.rows(f"{key}.{index}", settings[key][index], file, count)
