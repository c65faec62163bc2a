"""The child that asks axolotl: ``python -m launcher.upstream.judge``.

It reads ``{"torch": "2.13.0", "questions": [{"config": {...}, "capabilities": {...}}]}`` and writes
a line for each: its number and, as JSON, the verdict. The imports take seconds, so several configs
go to one child. axolotl keeps the plugins of one config for the next, so those with other plugins
are judged in another fork.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

MAX_ERRORS = 8
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Config = dict[str, Any]
Asked = dict[str, Any]  # the capabilities of the GPU, and the version of torch
Complaint = tuple[tuple[str, ...], str]  # where, as far as axolotl says it, and its words


def judge(config: Config, asked: Asked) -> dict[str, Any]:
    """Return what axolotl says of a config: its ``errors`` (where and what), the ``warnings`` that
    it logs, and the keys that it ``dropped``, dotted.
    """
    log = _Warnings()
    logging.getLogger("axolotl").addHandler(log)
    found, kept = _attempt(config, asked)
    logging.getLogger("axolotl").removeHandler(log)
    return {
        "errors": list(_all_errors(config, asked, found)),
        "warnings": list(dict.fromkeys(log.lines)),
        "dropped": [] if found else list(dropped(_by_field_name(config), kept)),
    }


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


def _all_errors(config: Config, asked: Asked, found: list[Complaint]) -> Iterator[Complaint]:
    """Yield the errors found, and those behind them.

    axolotl stops at the first that a validator raises. So the key that it speaks of is taken out,
    and axolotl asked again; what then speaks of a key taken out may come of that, and is left out.
    """
    told: set[str] = set()
    out: set[str] = set()
    while found:
        for where, words in found:
            if words not in told and not out & {*where, *_NAME.findall(words)}:
                yield where, words
        told |= {words for _, words in found}
        for keys in _suspects(config, found) if len(told) < MAX_ERRORS else ():
            rest = {key: value for key, value in config.items() if key not in keys}
            after, _ = _attempt(rest, asked)
            if not told & {words for _, words in after}:
                config, found, out = rest, after, out | keys
                break
        else:
            return


def _suspects(config: Config, found: list[Complaint]) -> Iterator[set[str]]:
    """Yield the keys that may be to blame: all that axolotl points at, or one that it names."""
    pointed = {where[0] for where, _ in found if where} & config.keys()
    if pointed:
        yield pointed
    for _, words in found:
        yield from ({name} for name in _NAME.findall(words) if name in config)


def _attempt(config: Config, asked: Asked) -> tuple[list[Complaint], Any]:
    """Return the complaints of one validation, or none and the config as axolotl keeps it."""
    from axolotl.utils.config import prepare_plugins, validate_config
    from axolotl.utils.dict import DictDefault
    from pydantic import ValidationError

    raw = DictDefault(json.loads(json.dumps(config)))
    try:
        prepare_plugins(raw)
        kept = validate_config(raw, dict(asked["capabilities"]), {"torch_version": asked["torch"]})
    except ValidationError as problem:
        # The class of an entry tells the list that it stands in; its number is not told.
        prefix = ("datasets",) if problem.title.endswith("Dataset") else ()
        found = [
            ((*prefix, *map(str, error["loc"])), error["msg"].removeprefix("Value error, "))
            for error in problem.errors(include_url=False, include_context=False)
        ]
        return found, None
    except Exception as problem:  # whatever axolotl raises is its verdict
        return [((), f"{type(problem).__name__}: {problem}")], None
    return [], json.loads(json.dumps(kept.to_dict(), default=str))


def _by_field_name(config: Config) -> Config:
    """Rename what axolotl keeps under a name of its own (model_config is
    overrides_of_model_config).
    """
    from axolotl.utils.schemas.config import AxolotlInputConfig

    names = {info.alias: name for name, info in AxolotlInputConfig.model_fields.items()}
    return {names.get(key) or key: value for key, value in config.items()}


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _main() -> None:
    asked = json.load(sys.stdin)
    questions = asked["questions"]
    answer, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr  # axolotl prints
    os.dup2(2, 1)

    def machine_and_plugins(number: int) -> str:
        question = questions[number]
        return json.dumps([question["capabilities"], question["config"].get("plugins") or []])

    _attempt({}, {**asked, "capabilities": {}})  # imports what all forks share
    gc.freeze()
    turns = sorted(range(len(questions)), key=machine_and_plugins)
    for _, numbers in groupby(turns, machine_and_plugins):
        fork = os.fork()
        if not fork:
            for number in numbers:
                asked["capabilities"] = questions[number]["capabilities"]
                os.environ["WORLD_SIZE"] = str(asked["capabilities"]["n_gpu"])
                found = judge(questions[number]["config"], asked)
                answer.write(f"{number} {json.dumps(found)}\n")
            answer.flush()
            os._exit(0)
        if os.waitpid(fork, 0)[1]:
            sys.exit(1)


if __name__ == "__main__":
    _main()
