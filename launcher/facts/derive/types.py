"""The values that a dataset's ``type`` can take, by the loader that reads it."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from launcher.facts.derive.conditions import SUPERVISED
from launcher.facts.derive.readers import INTEGRATIONS, LOADERS, Analysis
from launcher.facts.derive.source import Name, dotted, package

JSON = dict[str, Any]
STRATEGIES = LOADERS[0]

# A `type` of keys and values is read by this module; its bare name is refused.
MAPPING = "user_defined"


def supervised() -> JSON:
    """Return what ``get_dataset_wrapper`` (utils/data/wrappers.py) accepts without ``rl``.

    ``names``: strings for which ``load`` (prompt_strategies/__init__.py) finds a function of a
    tokenizer and a config; ``bases``: the heads of ``base:style``, ``DATASET_HANDLERS``, with the
    styles that their prompter can write (None: it does not look at the style); ``modules``: the
    first parts of all module paths, which no module of the user's can be meant by; ``prefixes``:
    starts that axolotl refuses by name, with its words.
    """
    return {
        "names": sorted(set(_supervised_names())),
        "bases": {name: _styles(name) for name in sorted(_handlers())},
        "modules": sorted(_heads()),
        "prefixes": _refused_prefixes(),
    }


def preference(analysis: Analysis) -> JSON:
    """Return package -> the ``methods`` whose data it loads, and what it accepts.

    ``_load_split`` (utils/data/rl.py) picks the package by ``rl``; its ``load``
    (prompt_strategies/base.py) takes ``module.function``, or ``module`` for ``module.default``, and
    calls it with the config: ``names``. ``mapping``: whether ``type`` may hold keys and values.
    """
    found = {}
    for loader in LOADERS[1:]:
        methods = analysis.reach[loader, "load"] - {SUPERVISED}
        if methods:
            found[loader.rpartition(".")[2]] = {
                "methods": sorted(methods),
                "names": sorted(_transforms(loader)),
                "modules": [name.removeprefix(f"{loader}.") for name in _modules(loader)],
                "mapping": f"{loader}.{MAPPING}" in _modules(loader),
            }
    return found


def entry_keys(
    fields: frozenset[str],
    analysis: Analysis,
    listed: JSON,
    edges: Mapping[str, frozenset[str]],
) -> JSON:
    """Return which keys of a supervised dataset entry are read: by ``loading`` it, whatever its
    type, by the ``collator`` of multimodal models, and by each of the ``types``.

    A type whose function does not take the entry (``ds_cfg``) reads none. ``analysis`` must have
    been made for ``fields`` too; ``edges`` are the keys that validators turn into others.
    """

    def read_in(found: Callable[[Name], bool]) -> list[str]:
        read = {key for key in fields if any(map(found, analysis.places(key)))}
        return sorted(read | {key for key in fields if edges.get(key, frozenset()) & read})

    def read_by(name: str) -> list[str]:
        places = _run_by(name, analysis)
        return read_in(lambda place: place in places)

    loading = ("axolotl.utils.data.shared", "axolotl.utils.data.sft")
    return {
        "loading": read_in(lambda place: place[0] in loading),
        "collator": read_in(lambda place: place[0] == "axolotl.core.builders.causal"),
        "types": {base: [] for base in listed["bases"]}
        | {name: read_by(name) for name in listed["names"]},
    }


def _run_by(name: str, analysis: Analysis) -> frozenset[Name]:
    """Return the definitions that a dataset type runs and gives its entry to."""
    module, function = _target(name)
    if not _takes_entry(getattr(importlib.import_module(module), function)):
        return frozenset()
    within = (
        STRATEGIES,
        "axolotl.prompt_tokenizers",
        "axolotl.prompters",
        "axolotl.core.",
        "axolotl.integrations.",
        "axolotl.utils.chat_templates",
    )
    return analysis.used_by((module, function), within)


def _target(name: str) -> tuple[str, str]:
    """Return the module and the function that ``load`` makes of a name that it accepts."""
    head, _, last = name.rpartition(".")
    function = last if last.startswith("load") else "load"
    path = head if last.startswith("load") else name
    return (path if path.startswith("axolotl.") else f"{STRATEGIES}.{path}"), function


def _takes_entry(function: Any) -> bool:
    return "ds_cfg" in inspect.signature(function).parameters


def _supervised_names() -> Iterator[str]:
    for module in _modules(STRATEGIES):
        path = module.removeprefix(f"{STRATEGIES}.")
        if path in (MAPPING, "base") or path.startswith(("bradley_terry", "stepwise_supervised.")):
            continue
        for name in _loads(module):
            yield path if name == "load" else f"{path}.{name}"
    yield "messages"  # a branch of its own in load()
    for module in _modules(f"{STRATEGIES}.bradley_terry"):
        if "load" in _loads(module):
            yield module.removeprefix(f"{STRATEGIES}.")
    for module, found in package("axolotl").modules.items():
        # A module elsewhere is named in full, and only its load() can be reached.
        if module.startswith(INTEGRATIONS) and "load" in found.definitions and _loads(module):
            yield module


def _loads(module: str) -> list[str]:
    """Return the functions of a module that take a tokenizer and a config, as ``load`` calls
    them.
    """
    loaded = vars(importlib.import_module(module))
    return [
        name
        for name, value in loaded.items()
        if (name == "load" or name.startswith("load_"))
        and list(inspect.signature(value).parameters)[:2] == ["tokenizer", "cfg"]
    ]


def _transforms(loader: str) -> Iterator[str]:
    """Yield the names that a package of preference transforms accepts."""
    for module in _modules(loader):
        path = module.removeprefix(f"{loader}.")
        if path == MAPPING:
            continue
        for name, value in vars(importlib.import_module(module)).items():
            own = inspect.isfunction(value) and value.__module__ == module
            if own and next(iter(inspect.signature(value).parameters), "") == "cfg":
                yield f"{path}.{name}"
                if name == "default":
                    yield path


def _modules(root: str) -> list[str]:
    """Return the importable modules below a package, itself left out."""
    found = []
    for module in pkgutil.walk_packages(
        importlib.import_module(root).__path__, f"{root}.", onerror=lambda _: None
    ):
        if not module.ispkg:
            found.append(module.name)
    return found


def _heads() -> set[str]:
    return {module.removeprefix(f"{STRATEGIES}.").split(".")[0] for module in _modules(STRATEGIES)}


def _handlers() -> JSON:
    from axolotl.utils.data import wrappers

    handlers: JSON = wrappers.DATASET_HANDLERS
    return handlers


def _styles(base: str) -> list[str] | None:
    """Return the styles that the prompter of a handler can write a prompt in."""
    from axolotl import prompters

    function = ast.parse(inspect.getsource(_handlers()[base]))
    (name,) = {
        dotted(node.func)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and "dataset_prompt_style" in map(dotted, node.args)
    }
    prompter = getattr(prompters, name)
    known = [style.value for style in prompters.PromptStyle]
    if _writes(prompter, "no such style"):
        return None
    return sorted(style for style in known if _writes(prompter, style))


def _writes(prompter: Any, style: str) -> bool:
    try:
        list(prompter(style).build_prompt("instruction", input="input", output="output"))
    except AttributeError:  # a style that it does not know sets no turn_format
        return False
    except TypeError:  # this prompter takes other parts than these
        return True
    return True


def _refused_prefixes() -> dict[str, str]:
    """Return start of a type -> axolotl's words, from ``deprecate_sharegpt_datasets``
    (utils/schemas/validation.py).
    """
    module = package("axolotl").modules["axolotl.utils.schemas.validation"]
    mixin = module.definitions["DatasetValidationMixin.deprecate_sharegpt_datasets"]
    found = {}
    for test in (node for node in ast.walk(mixin[0]) if isinstance(node, ast.If)):
        starts = [node for node in ast.walk(test.test) if isinstance(node, ast.Call)]
        for call in starts:
            if isinstance(call.func, ast.Attribute) and call.func.attr == "startswith":
                raised = next(node for node in test.body if isinstance(node, ast.Raise))
                found[ast.literal_eval(call.args[0])] = _words(raised)
    return found


def _words(raised: ast.Raise) -> str:
    return "".join(str(node.value) for node in ast.walk(raised) if isinstance(node, ast.Constant))
