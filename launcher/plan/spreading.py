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
from launcher.schema.validator import is_boolean, is_on
from launcher.source import MAX_BYTES

_STAGES = {0: Shard.NONE, 1: Shard.ZERO1, 2: Shard.ZERO2, 3: Shard.ZERO3}
# DeepSpeed's own defaults (deepspeed/runtime/zero/config.py), in elements.
_BUCKET = 500_000_000
_PREFETCH = 50_000_000
_LIVE = 1_000_000_000
_SUBGROUP = 1_000_000_000
_LARGEST = 2**63
_ZERO = "zero_optimization"


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
    zero = config.get(_ZERO, {})
    if not isinstance(zero, Mapping):
        raise _odd(_ZERO, zero, "a mapping")
    stage = zero.get("stage", 0)
    # DeepSpeed takes "3" for 3, accelerate and transformers do not.
    if isinstance(stage, bool) or not isinstance(stage, int | float) or stage not in _STAGES:
        raise _odd(f"{_ZERO}.stage", stage, "0, 1, 2 or 3")
    if stage == 0:
        return Sharding(world=gpus)
    square = facts.hidden**2  # what "auto" becomes (transformers/integrations/deepspeed.py)
    return Sharding(
        world=gpus,
        shard=_STAGES[int(stage)],
        reduce_bucket=_elements(zero, "reduce_bucket_size", _BUCKET, square),
        allgather_bucket=_elements(zero, "allgather_bucket_size", _BUCKET, square),
        overlap=_switch(f"{_ZERO}.overlap_comm", zero.get("overlap_comm"), stage == 3),
        live=_elements(zero, "stage3_max_live_parameters", _LIVE, _LIVE),
        prefetch=_elements(zero, "stage3_prefetch_bucket_size", _PREFETCH, square * 9 // 10),
        subgroup=_elements(zero, "sub_group_size", _SUBGROUP, _SUBGROUP),
        offload_optimizer=_offloaded(zero, "offload_optimizer", "cpu_offload"),
        offload_parameters=_offloaded(zero, "offload_param", "cpu_offload_param"),
    )


def _elements(zero: Mapping[str, Any], key: str, default: int, automatic: int) -> int:
    """Return a number of elements as pydantic reads it: 5e8 and "500000000", not "5e8"."""
    value = zero.get(key, default)
    if value == "auto":
        return automatic
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _odd(f"{_ZERO}.{key}", value, "a whole number")
    if not 0 <= value < _LARGEST or value != int(value):
        raise _odd(f"{_ZERO}.{key}", value, "a whole number")
    return int(value)


def _offloaded(zero: Mapping[str, Any], key: str, old: str) -> bool:
    """Whether states go to the host, or beyond; ``old`` is the key's deprecated switch."""
    value = zero.get(key)
    if value is None or value == "auto":
        return _switch(f"{_ZERO}.{old}", zero.get(old), False)
    if not isinstance(value, Mapping):
        raise _odd(f"{_ZERO}.{key}", value, "a mapping")
    device = value.get("device", "none")
    if device not in ("none", "auto", "cpu", "nvme"):
        raise _odd(f"{_ZERO}.{key}.device", device, "none, cpu or nvme")
    return device in ("cpu", "nvme")


def _switch(key: str, value: Any, default: bool) -> bool:
    if value is None or value == "auto":
        return default
    if not is_boolean(value):
        raise _odd(key, value, "true or false")
    return is_on(value)


def _odd(key: str, value: Any, wanted: str) -> LauncherError:
    where = f"deepspeed: {key}" if key.startswith(_ZERO) else key
    return LauncherError(f"{where} is {value!r:.60}, not {wanted}", exit_code=1)


def _fsdp(settings: Mapping[str, Any], gpus: int) -> Sharding:
    given = settings.get("fsdp_config")
    if given is not None and not isinstance(given, Mapping):
        raise _odd("fsdp_config", given, "a mapping")
    # axolotl takes the prefix off (utils/schemas/validation.py, check_fsdp_config_kwargs_prefix)
    config = {str(key).removeprefix("fsdp_"): value for key, value in (given or {}).items()}
    version = settings.get("fsdp_version") or config.get("version") or 1
    if str(version) not in ("1", "2"):
        raise _odd("fsdp_version", version, "1 or 2")
    if str(version) == "1":
        raise Unplanned("fsdp_config", "FSDP1 is not followed", "fsdp_version: 2")
    reshard = config.get("reshard_after_forward")
    if not _switch("fsdp_config.reshard_after_forward", reshard, True):
        raise Unplanned("fsdp_config.reshard_after_forward", "weights stay whole through the step")
    offloaded = _switch("fsdp_config.offload_params", config.get("offload_params"), False)
    return Sharding(
        world=gpus,
        shard=Shard.FSDP,
        offload_optimizer=offloaded,
        offload_parameters=offloaded,
    )
