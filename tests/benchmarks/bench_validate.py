"""How long a mistake takes to show: `axr validate FILE` against axolotl's own validation of FILE.

Both in a fresh process, in turn, so that both meet the same load; the median of three. Run it with
the project's Python: python tests/benchmarks/bench_validate.py [FILE]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
AXOLOTL = """
import sys, yaml
from axolotl.utils.config import prepare_plugins, validate_config
from axolotl.utils.dict import DictDefault
config = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))
config.pop("x-recipe", None)
config = DictDefault(config)
prepare_plugins(config)
capabilities = {"bf16": True, "tf32": True, "fp8": False, "compute_capability": "sm_80"}
validate_config(config, {**capabilities, "n_gpu": 1, "n_node": 1}, {"torch_version": "2.13.0"})
"""
ROUNDS = 3


def seconds(*arguments: str) -> float:
    """The wall time of a fresh Python process that has to succeed."""
    environ = {**os.environ, "AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environ)
    taken = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return taken


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "recipes" / "llama31-dpo-lora.yaml")
    ours, theirs = [], []
    for number in range(1, ROUNDS + 1):
        ours.append(seconds("-m", "launcher", "validate", file))
        theirs.append(seconds("-c", AXOLOTL, file))
        print(f"{number}  axr {ours[-1]:6.2f} s   axolotl {theirs[-1]:6.2f} s")
    axr, axolotl = statistics.median(ours), statistics.median(theirs)
    ratio = f"axolotl takes {axolotl / axr:.0f} times as long"
    print(f"median  axr {axr:.2f} s   axolotl {axolotl:.2f} s   {ratio}")


if __name__ == "__main__":
    main()
