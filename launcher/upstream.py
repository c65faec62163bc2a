"""axolotl's own verdict on a recipe: its validation, run in a child process for a GPU that need not
be there.

The child (``python -m launcher.upstream``) reads a JSON list of configs and writes a JSON list of
verdicts; it imports axolotl, which takes seconds, so several recipes go in one call.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.diagnostics import LauncherError

VERSION = "0.19.0"
# What axolotl would find on an A100 (cli/config.py, gpu_capabilities); bf16 and tf32, no fp8.
A100 = {"bf16": True, "tf32": True, "fp8": False, "compute_capability": "sm_80"}
TORCH = "2.13.0"


@dataclass(frozen=True)
class Verdict:
    """What axolotl says of one config: its error (empty: it passes), and the keys that it dropped,
    dotted.
    """

    error: str
    dropped: tuple[str, ...]


def verdicts(configs: Sequence[Mapping[str, Any]], *, gpus: int = 1) -> list[Verdict]:
    """Return axolotl's verdict on each config. Raises ``LauncherError`` where the stack is missing
    or breaks.
    """
    environ = {
        **os.environ,
        "AXOLOTL_DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "WORLD_SIZE": str(gpus),
    }
    done = subprocess.run(
        [sys.executable, "-m", "launcher.upstream"],
        input=json.dumps({"gpus": gpus, "configs": list(configs)}),
        capture_output=True,
        text=True,
        env=environ,
    )
    if done.returncode:
        last = done.stderr.strip().split("\n")[-1]
        raise LauncherError(f"axolotl's own validation did not run: {last}", "make setup")
    return [Verdict(found["error"], tuple(found["dropped"])) for found in json.loads(done.stdout)]


def dropped(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted path of every key with a value that ``given`` has and ``kept`` has not."""
    if isinstance(given, Mapping):
        for key, value in given.items():
            here = f"{path}.{key}" if path else str(key)
            if value is None:
                continue
            if not isinstance(kept, Mapping) or key not in kept:
                yield here
            else:
                yield from dropped(value, kept[key], here)
    elif isinstance(given, list) and isinstance(kept, list):
        for index, (value, other) in enumerate(zip(given, kept, strict=False)):
            yield from dropped(value, other, f"{path}[{index}]")


def _judge(config: Mapping[str, Any], gpus: int) -> dict[str, Any]:
    from axolotl.utils.config import prepare_plugins, validate_config
    from axolotl.utils.dict import DictDefault

    given = json.loads(json.dumps(config))
    try:
        raw = DictDefault(given)
        prepare_plugins(raw)
        capabilities = {**A100, "n_gpu": gpus, "n_node": 1}
        kept = validate_config(raw, capabilities, {"torch_version": TORCH})
    except Exception as problem:  # whatever axolotl raises is its verdict
        return {"error": f"{type(problem).__name__}: {problem}", "dropped": []}
    plain = json.loads(json.dumps(kept.to_dict(), default=str))
    return {"error": "", "dropped": list(dropped(_by_field_name(config), plain))}


def _by_field_name(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rename what axolotl keeps under a name of its own (model_config is
    overrides_of_model_config).
    """
    from axolotl.utils.schemas.config import AxolotlInputConfig

    names = {info.alias: name for name, info in AxolotlInputConfig.model_fields.items()}
    return {names.get(key) or key: value for key, value in config.items()}


def _main() -> None:
    asked = json.load(sys.stdin)
    answer, sys.stdout = sys.stdout, sys.stderr  # axolotl prints; the answer stays clean
    found = [_judge(config, asked["gpus"]) for config in asked["configs"]]
    json.dump(found, answer)


if __name__ == "__main__":
    _main()
