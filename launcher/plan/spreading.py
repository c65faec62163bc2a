"""How a recipe's run is spread over GPUs: its DeepSpeed file or its FSDP settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.diagnostics import LauncherError
from launcher.files import read_mapping
from launcher.models import ModelFacts
from launcher.plan.job import Shard, Sharding, Unplanned
from launcher.recipe import located
from launcher.schema.validator import is_on
from launcher.source import MAX_BYTES

_STAGES = {0: Shard.NONE, 1: Shard.ZERO1, 2: Shard.ZERO2, 3: Shard.ZERO3}
# DeepSpeed's own defaults (deepspeed/runtime/zero/config.py), in elements.
_BUCKET = 500_000_000
_PREFETCH = 50_000_000
_LIVE = 1_000_000_000
_SUBGROUP = 1_000_000_000


def sharding(settings: Mapping[str, Any], facts: ModelFacts, gpus: int) -> Sharding:
    """Return what is divided among ``gpus`` GPUs. Raises `Unplanned`, and ``LauncherError`` where
    the DeepSpeed file cannot be read.
    """
    if settings.get("deepspeed"):
        return _deepspeed(_config(settings["deepspeed"]), facts, gpus)
    if settings.get("fsdp") or settings.get("fsdp_config"):
        return _fsdp(settings, gpus)
    return Sharding(world=gpus)


def _config(given: Any) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    value = read_mapping(Path(located(str(given))), MAX_BYTES)
    if value is None:
        raise LauncherError(f"deepspeed: {given} cannot be read as JSON", exit_code=1)
    return value


def _deepspeed(config: Mapping[str, Any], facts: ModelFacts, gpus: int) -> Sharding:
    zero = config.get("zero_optimization") or {}
    stage = int(zero.get("stage", 0))
    if stage not in _STAGES:
        raise Unplanned("deepspeed", f"there is no ZeRO stage {stage}")
    if stage == 0:
        return Sharding(world=gpus)
    square = facts.hidden**2  # what "auto" becomes (transformers/integrations/deepspeed.py)
    return Sharding(
        world=gpus,
        shard=_STAGES[stage],
        reduce_bucket=_elements(zero.get("reduce_bucket_size", _BUCKET), square),
        allgather_bucket=_elements(zero.get("allgather_bucket_size", _BUCKET), square),
        overlap=bool(zero.get("overlap_comm", stage == 3)),
        live=_elements(zero.get("stage3_max_live_parameters", _LIVE), _LIVE),
        prefetch=_elements(zero.get("stage3_prefetch_bucket_size", _PREFETCH), square * 9 // 10),
        subgroup=_elements(zero.get("sub_group_size", _SUBGROUP), _SUBGROUP),
        offload_optimizer=_offloaded(zero.get("offload_optimizer")),
        offload_parameters=_offloaded(zero.get("offload_param")),
    )


def _elements(value: Any, automatic: int) -> int:
    return automatic if value == "auto" else int(value)


def _offloaded(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("device") in ("cpu", "nvme")


def _fsdp(settings: Mapping[str, Any], gpus: int) -> Sharding:
    config = settings.get("fsdp_config")
    config = config if isinstance(config, Mapping) else {}
    version = settings.get("fsdp_version") or config.get("fsdp_version") or config.get("version")
    if str(version or 1) != "2":
        raise Unplanned("fsdp_config", "FSDP1 is not followed", "fsdp_version: 2")
    if config.get("reshard_after_forward") is False:
        raise Unplanned("fsdp_config.reshard_after_forward", "weights stay whole through the step")
    offloaded = is_on(config.get("offload_params"))
    return Sharding(
        world=gpus,
        shard=Shard.FSDP,
        offload_optimizer=offloaded,
        offload_parameters=offloaded,
    )
