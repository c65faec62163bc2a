"""What rules must know of the pinned stack: names, keys, templates, without importing any of it.

`launcher.facts.derive` derives all of it from the installed code and writes schemas/facts.json.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from launcher.facts.types import Loaded, PreferenceTypes, SupervisedTypes
from launcher.recipe import pack_folder

SUPERVISED = "sft"  # the method of a recipe without `rl`


@dataclass(frozen=True)
class Optimizer:
    """A value of ``optimizer``: the package it is imported from (None: torch alone), whether the
    pinned stack has that, and the keys without which it cannot be built.
    """

    package: str | None
    installed: bool
    wants: frozenset[str]


@dataclass(frozen=True)
class Scheduler:
    """A value of ``lr_scheduler``: the entries of ``lr_scheduler_kwargs`` of which one must be
    given, and whether it needs an evaluation schedule.
    """

    one_of: tuple[str, ...]
    evaluation: bool


@dataclass(frozen=True)
class Plugin:
    """An integration of axolotl: the names that load its plugin, the top-level keys that exist only
    with it, and whether the pinned stack can import it.
    """

    names: frozenset[str]
    keys: frozenset[str]
    importable: bool

    @property
    def full_name(self) -> str:
        """The shortest name that says whose plugin it is."""
        return min(self.names, key=lambda name: (not name.startswith("axolotl."), len(name), name))


@dataclass(frozen=True)
class Template:
    """What a chat template writes: all special tokens of an exchange, those after an answer in
    order ("bos" and "eos" are the tokenizer's own), and what it trims off an answer: "blank",
    "newline".
    """

    tokens: frozenset[str]
    turn_end: tuple[str, ...]
    trims: frozenset[str]


@dataclass(frozen=True)
class Templates:
    """The values of ``chat_template``. ``files`` has one more than the top-level key accepts."""

    names: frozenset[str]
    special: frozenset[str]
    fallback_prefix: str
    files: Mapping[str, Template]

    def accepts(self, name: str, *, entry: bool = False) -> bool:
        """Whether the top-level key, or that of a dataset entry, takes the name and finds it."""
        if name.startswith(self.fallback_prefix):
            return name.removeprefix(self.fallback_prefix) in self.files
        return name in self.names or (entry and name in self.files)


@dataclass(frozen=True)
class EntryKeys:
    """Which keys of a supervised dataset entry are read: to load it, by the collator of multimodal
    models (``processor_type``), and by each built-in type.
    """

    loading: frozenset[str]
    collator: frozenset[str]
    types: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Readers:
    """Who reads a key that not all read: the methods, and axolotl's integrations when listed."""

    methods: frozenset[str]
    integrations: frozenset[str]


@dataclass(frozen=True)
class Removed:
    """A key that axolotl calls deprecated or removed, in its own words. ``within`` is "datasets"
    for the key of an entry. ``replacement`` is the key to write instead, with its value (None: the
    same).
    """

    within: str
    key: str
    value: object
    truthy: bool
    outcome: str
    words: str
    replacement: tuple[str, object] | None

    def concerns(self, value: object) -> bool:
        """Whether axolotl minds this value of the key."""
        if self.value is not None:
            return value is self.value or (not isinstance(self.value, bool) and value == self.value)
        return bool(value) if self.truthy else value is not None


@dataclass(frozen=True)
class Refusal:
    """What one check of axolotl's refuses: ``when`` and in which ``words``, both terms of
    `launcher.facts.logic`; ``integration`` is the one whose plugin has to be listed for it.
    """

    check: str
    when: list[Any]
    words: list[Any]
    integration: str


@dataclass(frozen=True)
class Facts:
    """All facts; ``preference_types`` by method, ``plugins`` by integration, ``choices`` by the
    dotted key, ``classes`` (of transformers) by the key that names one.
    """

    versions: Mapping[str, str]
    methods: frozenset[str]
    optimizers: Mapping[str, Optimizer]
    optimizers_without_branch: frozenset[str]
    schedulers: Mapping[str, Scheduler]
    adapters: Mapping[str, str | None]  # the integration that brings it, none for axolotl's own
    plugins: Mapping[str, Plugin]
    choices: Mapping[str, tuple[str, ...]]
    classes: Mapping[str, frozenset[str]]
    split_pattern: str
    packing_attention: frozenset[str]
    templates: Templates
    supervised_types: SupervisedTypes
    preference_types: Mapping[str, PreferenceTypes]
    entry_keys: EntryKeys
    read_only_by: Mapping[str, Readers]
    never_read: frozenset[str]
    removed: tuple[Removed, ...]
    refusals: tuple[Refusal, ...]

    def ignores(self, method: str, key: str, integrations: Collection[str] = ()) -> bool:
        """Whether nothing reads the top-level key under the method, with these integrations of
        axolotl listed. A plugin of the user's own may read anything.
        """
        if key in self.never_read:
            return True
        readers = self.read_only_by.get(key)
        if readers is None:
            return False
        return method not in readers.methods and readers.integrations.isdisjoint(integrations)

    def load_type(self, method: str, name: str) -> Loaded:
        """Return what becomes of ``type: name`` under the method."""
        types = self.supervised_types if method == SUPERVISED else self.preference_types[method]
        return types.load(name)


@lru_cache(maxsize=1)
def load() -> Facts:
    """Return the committed facts."""
    text = (pack_folder("schemas") / "facts.json").read_text(encoding="utf-8")
    return _facts(json.loads(text))


def _facts(data: Mapping[str, Any]) -> Facts:
    entry = data["entry_keys"]
    return Facts(
        versions=data["versions"],
        methods=frozenset(data["methods"]),
        optimizers={name: _optimizer(value) for name, value in data["optimizers"].items()},
        optimizers_without_branch=frozenset(data["optimizers_without_branch"]),
        schedulers={name: _scheduler(value) for name, value in data["schedulers"].items()},
        adapters=data["adapters"],
        plugins={name: _plugin(value) for name, value in data["plugins"].items()},
        choices={key: tuple(names) for key, names in data["choices"].items()},
        classes=_sets(data["classes"]),
        split_pattern=data["split_pattern"],
        packing_attention=frozenset(data["packing_attention"]),
        templates=_templates(data["chat_templates"]),
        supervised_types=_supervised(data["supervised_types"]),
        preference_types=_preference(data["preference_types"]),
        entry_keys=EntryKeys(
            frozenset(entry["loading"]), frozenset(entry["collator"]), _sets(entry["types"])
        ),
        read_only_by={key: _readers(value) for key, value in data["read_only_by"].items()},
        never_read=frozenset(data["never_read"]),
        removed=tuple(_removed(value) for value in data["removed"]),
        refusals=tuple(Refusal(**value) for value in data["refusals"]),
    )


def _optimizer(data: Mapping[str, Any]) -> Optimizer:
    return Optimizer(data["package"], data["installed"], frozenset(data["wants"]))


def _scheduler(data: Mapping[str, Any]) -> Scheduler:
    return Scheduler(tuple(data["one_of"]), data["evaluation"])


def _plugin(data: Mapping[str, Any]) -> Plugin:
    return Plugin(frozenset(data["names"]), frozenset(data["keys"]), data["importable"])


def _templates(data: Mapping[str, Any]) -> Templates:
    files = {
        name: Template(
            frozenset(value["tokens"]), tuple(value["turn_end"]), frozenset(value["trims"])
        )
        for name, value in data["files"].items()
    }
    special = frozenset(data["special"])
    return Templates(frozenset(data["names"]), special, data["fallback_prefix"], files)


def _supervised(data: Mapping[str, Any]) -> SupervisedTypes:
    bases = {
        name: None if styles is None else frozenset(styles)
        for name, styles in data["bases"].items()
    }
    modules = frozenset(data["modules"])
    return SupervisedTypes(frozenset(data["names"]), bases, modules, data["prefixes"])


def _preference(data: Mapping[str, Any]) -> dict[str, PreferenceTypes]:
    return {
        method: PreferenceTypes(
            frozenset(value["names"]), frozenset(value["modules"]), value["mapping"]
        )
        for value in data.values()
        for method in value["methods"]
    }


def _readers(data: Mapping[str, Any]) -> Readers:
    return Readers(frozenset(data["methods"]), frozenset(data["integrations"]))


def _removed(data: Mapping[str, Any]) -> Removed:
    instead = data["replacement"]
    return Removed(
        within=data["in"],
        key=data["key"],
        value=data["value"],
        truthy=data["truthy"],
        outcome=data["outcome"],
        words=data["words"],
        replacement=(instead["key"], instead["value"]) if instead else None,
    )


def _sets(data: Mapping[str, list[str]]) -> dict[str, frozenset[str]]:
    return {name: frozenset(value) for name, value in data.items()}
