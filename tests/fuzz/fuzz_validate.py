"""Coverage-guided fuzzing of ``axr validate`` (``make fuzz``); the arguments are libFuzzer's.

Three of four inputs are changed as recipes, by ``mutate``; the others as bytes, by libFuzzer with
the keys of the schema as its dictionary.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["launcher", "yaml"]):
    from fuzz import mutate, target

    from launcher.schema.validator import schema


def custom(data: bytes, max_size: int, seed: int) -> bytes:
    """Return a mutation of an input, of at most ``max_size`` bytes."""
    chance = random.Random(seed)
    if chance.random() < 0.25:
        return bytes(atheris.Mutate(data, max_size))
    return mutate.mutate(data, chance)[:max_size]


def dictionary(folder: Path) -> Path:
    """Write the tokens that libFuzzer mixes into bytes: keys, and what YAML gives a meaning."""
    tokens = [
        *schema()["properties"],
        *"&a",
        "*a",
        "<<:",
        "!!set",
        "- ",
        "? ",
        "|",
        ">",
        "---",
        "[]",
        "{}",
    ]
    lines = [f'"{token}"' for token in tokens]
    (folder / "tokens.dict").write_text("\n".join(lines))
    return folder / "tokens.dict"


def main() -> None:
    """Fuzz until libFuzzer is told to stop."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "work").mkdir()
        target.furnish(folder / "work")
        target.warm_up()
        tokens = dictionary(folder)
        arguments = [sys.argv[0], f"-dict={tokens}", *map(_absolute, sys.argv[1:])]
        os.chdir(folder / "work")
        atheris.Setup(
            arguments, lambda data: target.examine(data, folder / "work"), custom_mutator=custom
        )
        atheris.Fuzz()


def _absolute(argument: str) -> str:
    return argument if argument.startswith("-") else str(Path(argument).resolve())


if __name__ == "__main__":
    main()
