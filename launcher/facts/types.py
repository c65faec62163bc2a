"""Decide what axolotl's loaders make of a dataset's ``type``, without importing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What becomes of a dataset's ``type``: axolotl's own, a module of the user's, or an error."""

    BUILT_IN = "built in"
    CUSTOM = "custom"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Loaded:
    """The answer to a dataset's ``type``; ``module`` is what Python must be able to import for a
    custom one.
    """

    kind: Kind
    module: str = ""


@dataclass(frozen=True)
class SupervisedTypes:
    """The values of ``type`` without ``rl``: ``names``; ``bases`` of ``base:style`` with the styles
    they know (None: any); the heads of axolotl's own ``modules``; starts that it ``refuses``, with
    its words.
    """

    names: frozenset[str]
    bases: Mapping[str, frozenset[str] | None]
    modules: frozenset[str]
    refuses: Mapping[str, str]

    def load(self, name: str) -> Loaded:
        """Decide on a name as ``get_dataset_wrapper`` and ``load`` do, which take a dotted path for
        the user's module, but never for a function in it.
        """
        head, last = name.partition(".")[0], name.rpartition(".")[2]
        base, colon, style = name.partition(":")
        if base in self.bases:
            styles = self.bases[base]
            known = styles is None or not colon or style.split(":")[0] in styles
            return Loaded(Kind.BUILT_IN if known else Kind.UNKNOWN)
        if name in self.names or self._spelt_out(name) in self.names:
            return Loaded(Kind.BUILT_IN)
        path = "." in name and last != "load" and not last.startswith("load_")
        refused = any(name.startswith(start) for start in self.refuses)
        if path and not refused and head not in self.modules | {"axolotl"}:
            return Loaded(Kind.CUSTOM, name)
        return Loaded(Kind.UNKNOWN)

    def _spelt_out(self, name: str) -> str:
        """Return the name that ``name.load`` or ``axolotl.prompt_strategies.name`` stands for, ""
        where it is neither.
        """
        short, _, last = name.rpartition(".")
        if last == "load":
            alone = "load" not in short and not short.startswith(("axolotl.", "bradley_terry."))
            return short if alone else ""
        inside = name.removeprefix("axolotl.prompt_strategies.")
        return "" if inside.startswith("axolotl.") or last.startswith("load_") else inside


@dataclass(frozen=True)
class PreferenceTypes:
    """The values of ``type`` under one ``rl``: ``names``, axolotl's own ``modules``, and whether
    keys and values are taken (``mapping``).
    """

    names: frozenset[str]
    modules: frozenset[str]
    mapping: bool

    def load(self, name: str) -> Loaded:
        """Decide on a name as ``load`` of prompt_strategies/base.py does: ``module.function``, of
        whose path it imports the last part but one at the top level before it looks in axolotl.
        """
        module, _, _ = (name if "." in name else f"{name}.default").rpartition(".")
        if name in self.names:
            return Loaded(Kind.BUILT_IN)
        if module in self.modules:
            return Loaded(Kind.UNKNOWN)
        return Loaded(Kind.CUSTOM, module.rpartition(".")[2])
