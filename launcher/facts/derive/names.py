"""The names that ``optimizer``, ``lr_scheduler`` and ``plugins`` can take in the pinned stack."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

from launcher.facts.derive.source import package, strings

JSON = dict[str, Any]


def optimizers() -> JSON:
    """Return name -> what it needs: ``package`` to import (None: torch alone), whether that is
    ``installed``, and the keys it ``wants``, without which axolotl fails when it builds it.

    transformers' ``OptimizerNames`` and the handlers of trainer_optimizer.py; axolotl's
    ``CustomSupportedOptimizers`` (utils/schemas/enums.py), which
    ``TrainerBuilderBase._configure_optimizer`` (core/builders/base.py) tests first. A custom name
    without a branch there is left out: it ends in "Unhandled optimizer".
    """
    from axolotl.utils.schemas.enums import CustomSupportedOptimizers
    from transformers import trainer_optimizer
    from transformers.training_args import OptimizerNames

    needed = {
        name.value: _imported(inspect.getsource(trainer_optimizer._OPTIMIZER_HANDLERS[name]))
        for name in OptimizerNames
    }
    custom = {name.value for name in CustomSupportedOptimizers}
    branches = {key: _imported(body) for key, body in _optimizer_branches()}
    needed = {name: found for name, found in needed.items() if name not in custom}
    needed |= {name: found for name, found in branches.items() if name in custom}
    wanted = {name: _wanted_keys(body) for name, body in _optimizer_branches()}
    return {
        name: {
            "package": found,
            "installed": found is None or _installed(found),
            "wants": wanted.get(name, []),
        }
        for name, found in needed.items()
    }


def optimizers_without_branch() -> list[str]:
    """Return the names that axolotl lists as its own and then refuses."""
    from axolotl.utils.schemas.enums import CustomSupportedOptimizers

    branches = {name for name, _ in _optimizer_branches()}
    return sorted({name.value for name in CustomSupportedOptimizers} - branches)


def schedulers() -> JSON:
    """Return name -> what it needs: the entries of ``lr_scheduler_kwargs`` of which ``one_of`` must
    be given, and whether it needs an ``evaluation`` schedule.

    transformers' ``SchedulerType`` with ``get_scheduler`` (optimization.py) and
    ``TrainingArguments._validate_args`` (training_args.py), called here; and the
    names that axolotl keeps for itself: ``TrainerBuilderBase._configure_scheduler``
    (core/builders/base.py).
    """
    from transformers.trainer_utils import SchedulerType

    module = package("axolotl").modules["axolotl.core.builders.base"]
    (function,) = module.definitions["TrainerBuilderBase._configure_scheduler"]
    tests = [node.test for node in ast.walk(function) if isinstance(node, ast.If)]
    own = [text for text in strings(tests[0]) if text != "lr_scheduler"]
    found = {
        name.value: {"one_of": _wanted(name), "evaluation": _wants_evaluation(name)}
        for name in SchedulerType
    }
    return found | {name: {"one_of": [], "evaluation": False} for name in own}


def adapters() -> JSON:
    """Return name -> the integration whose plugin brings the adapter, none for axolotl's own.

    ``load_adapter`` (loaders/adapter.py) compares with its own names, and asks the plugins for
    their ``AdapterCapabilities`` then.
    """
    source = package("axolotl")
    (function,) = source.modules["axolotl.loaders.adapter"].definitions["load_adapter"]
    tests = [node.test for node in ast.walk(function) if isinstance(node, ast.If)]
    own = {name for test in tests if "adapter" in ast.unparse(test) for name in strings(test)}
    brought = {
        name: module.split(".")[2]
        for module, found in source.modules.items()
        if module.startswith("axolotl.integrations.")
        for definitions in found.definitions.values()
        for definition in definitions
        for node in ast.walk(definition)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "AdapterCapabilities"
        for name in strings(node)
    }
    return {name: None for name in own} | brought


def packing_attention() -> list[str]:
    """Return the values of ``attn_implementation`` that keep packed samples apart: those with
    which axolotl does not warn (``check_sample_packing_without_attention``).
    """
    from axolotl.utils.schemas.config import AxolotlInputConfig
    from axolotl.utils.schemas.enums import ATTN_IMPLS_SUPPORTING_PACKING, CANONICAL_ATTN_IMPLS

    return sorted(
        name
        for name in CANONICAL_ATTN_IMPLS | ATTN_IMPLS_SUPPORTING_PACKING
        if AxolotlInputConfig.model_construct(attn_implementation=name).attn_decontaminates_packing
    )


def plugins() -> JSON:
    """Return integration -> its plugin: the ``names`` that load it, its ``keys``, whether it is
    ``importable``.

    ``load_plugin`` (integrations/base.py) takes ``module.Class``, and tries the module under
    ``axolotl.integrations`` where there is none of that name. The keys are the fields of the class
    that the plugin's ``get_input_args`` names. One whose own dependency is missing imports nothing:
    axolotl prints a traceback and trains without it.
    """
    import axolotl.integrations as integrations

    found = {}
    for module in pkgutil.iter_modules(integrations.__path__):
        classes = list(_plugin_classes(f"axolotl.integrations.{module.name}"))
        if classes:
            homes = sorted({home for home, _ in classes})
            found[module.name] = _plugin(homes, classes[0][1])
    return found


def _plugin(homes: list[str], name: str) -> JSON:
    from axolotl.integrations.base import load_plugin

    full = [f"{home}.{name}" for home in homes]
    short = [path.removeprefix("axolotl.integrations.") for path in full]
    try:
        plugin = load_plugin(full[0])
    except ModuleNotFoundError:
        return {"names": full + short, "keys": [], "importable": False}
    home, _, args = str(plugin.get_input_args()).rpartition(".")
    fields = getattr(importlib.import_module(home), args).model_fields
    usable = [path for path in full + short if _loads(path)]
    return {"names": sorted(usable), "keys": sorted(fields), "importable": True}


def _loads(path: str) -> bool:
    """Whether ``load_plugin`` finds the class: a short name may meet another package's module."""
    from axolotl.integrations.base import load_plugin

    try:
        load_plugin(path)
    except (AttributeError, ImportError):
        return False
    return True


def _plugin_classes(root: str) -> Iterator[tuple[str, str]]:
    """Yield (module, class) for every module below ``root`` whose namespace holds a plugin."""
    source = package("axolotl")
    for name, module in source.modules.items():
        if name != root and not name.startswith(f"{root}."):
            continue
        for bound in [*module.definitions, *module.aliases]:
            place = source.resolve(name, bound)
            if place and place[0].startswith(f"{root}.") | (place[0] == root):
                nodes = source.modules[place[0]].definitions[place[1]]
                if any("BasePlugin" in _bases(node) for node in nodes):
                    yield name, bound


def _bases(node: ast.AST) -> list[str]:
    return [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []


def _optimizer_branches() -> Iterator[tuple[str, str]]:
    """Yield (name, source of its branch) of ``self.cfg.optimizer == "name"``."""
    module = package("axolotl").modules["axolotl.core.builders.base"]
    (function,) = module.definitions["TrainerBuilderBase._configure_optimizer"]
    for node in ast.walk(function):
        if isinstance(node, ast.If) and ast.unparse(node.test).startswith("self.cfg.optimizer == "):
            for name in strings(node.test):
                yield name, "\n".join(ast.unparse(statement) for statement in node.body)


def _imported(code: str) -> str | None:
    """Return the package that a piece of code imports its optimizer from; None for torch, axolotl
    and transformers themselves.
    """
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            top = node.module.split(".")[0]
            if not node.level and top not in ("torch", "axolotl", "transformers"):
                return top
    return None


def _wanted_keys(code: str) -> list[str]:
    """Return the keys whose argument a piece of code takes for granted; ``arg_map`` of
    ``_set_base_training_args`` (core/builders/base.py) tells where an argument has another name.
    """
    module = package("axolotl").modules["axolotl.core.builders.base"]
    (function,) = module.definitions["TrainerBuilderBase._set_base_training_args"]
    (names,) = [
        ast.literal_eval(node.value)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "arg_map"
    ]
    taken = [
        node.slice.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Subscript)
        and ast.unparse(node.value) == "training_args_kwargs"
        and isinstance(node.slice, ast.Constant)
    ]
    return sorted(str(names.get(name, name)) for name in taken)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _wanted(name: Any) -> list[str]:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1.0)
    try:
        get_scheduler(name, optimizer, 1, 10, {})
    except ValueError as error:  # "One of min_lr or min_lr_rate should be set through ..."
        words = str(error).replace(",", " ").split()
        return [word for word in words if "_" in word and "`" not in word]
    except TypeError as error:  # "... missing 1 required positional argument: 'num_decay_steps'"
        return str(error).split("'")[1::2]
    return []


def _wants_evaluation(name: Any) -> bool:
    from transformers import TrainingArguments

    try:
        TrainingArguments("unused", lr_scheduler_type=name, use_cpu=True)
    except ValueError as error:
        return "requires an eval strategy" in str(error)
    return False
