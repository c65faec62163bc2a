"""Which training method reads which key: a reachability analysis of axolotl's source.

Every read of ``cfg.key`` is found where it stands. Then it is asked under which values of ``rl``
the enclosing function can run: from the ``if cfg.rl ...`` around the read, and around every place
that refers to the function, up to the entry points. The answer errs towards "is read": a function
that nobody is seen to refer to counts as run by all methods, and a key whose name appears as a
string counts as read there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launcher.facts.derive.conditions import SUPERVISED, Methods
from launcher.facts.derive.source import MODULE_LEVEL, Name, Package, package
from launcher.facts.derive.visitor import Findings, Subject, Visitor

# Their load() imports a sibling module by the name in a dataset's `type`, so no reference is to be
# seen: axolotl/prompt_strategies/__init__.py and base.py.
LOADERS = tuple(
    f"axolotl.prompt_strategies{part}"
    for part in ("", ".dpo", ".kto", ".orpo", ".ebft", ".bradley_terry", ".messages")
)

# They read a key and do nothing with it that training could notice: the name of the folder for
# prepared data, a report, a log.
WITHOUT_EFFECT = (
    ("axolotl.utils.data.shared", "generate_dataset_hash_from_config"),
    ("axolotl.utils.data.shared", "_base_dataset_hash_string"),
    ("axolotl.utils.data.shared", "DATASET_HASH_BASE_DATASET_FIELDS"),
    ("axolotl.utils.data.shared", "DATASET_HASH_CONFIG_EXTRA_FIELDS"),
    ("axolotl.utils.data.shared", "DATASET_HASH_DATASET_EXTRA_FIELDS"),
    ("axolotl.telemetry.manager", "FIELDS_TO_REDACT"),
    ("axolotl.telemetry.manager", "PATH_INDICATORS"),
    ("axolotl.cli.config", "API_KEY_FIELDS"),
)

INTEGRATIONS = "axolotl.integrations."


@dataclass(frozen=True)
class Analysis:
    """Where each key is read, and the methods that reach each definition without any plugin."""

    findings: Findings
    reach: Mapping[Name, Methods]

    def places(self, key: str) -> frozenset[Name]:
        """Return the definitions that read the key."""
        return frozenset(place for place, _ in self.findings.reads[key])

    def readers(self, key: str) -> Methods:
        """Return the methods under which axolotl reads the key, no plugin being listed."""
        reads = self.findings.reads[key]
        return frozenset().union(*(spot & self.reach[place] for place, spot in reads))

    def plugins(self, key: str) -> frozenset[str]:
        """Return the integrations whose own code reads the key."""
        return frozenset(filter(None, (integration(place[0]) for place in self.places(key))))

    def used_by(self, start: Name, within: tuple[str, ...]) -> frozenset[Name]:
        """Return what ``start`` refers to, and what that refers to, inside the modules that begin
        with one of ``within``.
        """
        uses = defaultdict(set)
        for name, places in self.findings.references.items():
            for user, _ in places:
                uses[user].add(name)
        found: set[Name] = set()
        waiting = [start]
        while waiting:
            place = waiting.pop()
            if place in found or not place[0].startswith(within):
                continue
            found.add(place)
            below = f"{place[0]}." if place[0] in LOADERS[1:] and place[1] == "load" else "-"
            waiting += uses[place]
            waiting += [
                name for name in self.reach if _class(name) == place or name[0].startswith(below)
            ]
        return frozenset(found)


def methods() -> Methods:
    """Return every training method: axolotl's ``RLType`` (utils/schemas/enums.py) and "sft"."""
    from axolotl.utils.schemas.enums import RLType

    return frozenset({SUPERVISED, *(member.value for member in RLType)})


def analyse(keys: frozenset[str], every: Methods) -> Analysis:
    """Read axolotl's whole source for ``keys``; some ten seconds."""
    source = package("axolotl")
    findings = _findings(Subject(source, keys, every, _by_name(source)))
    return Analysis(findings, _reach(source, findings, every))


def is_schema(module: str) -> bool:
    """Whether the module only declares and validates keys."""
    return module.startswith(("axolotl.utils.schemas.", "axolotl.cli.config_options")) or (
        module.startswith(INTEGRATIONS) and module.endswith(".args")
    )


def integration(module: str) -> str:
    """Return the integration that a module belongs to, "" for axolotl's core."""
    parts = module.removeprefix(INTEGRATIONS).split(".")
    belongs = module.startswith(INTEGRATIONS) and parts[0] not in ("base", "config")
    return parts[0] if belongs else ""


def _by_name(source: Package) -> Mapping[str, list[Name]]:
    """Return the definitions that a string may name: those whose name is no everyday word."""
    found = defaultdict(list)
    for place, _ in source.definitions:
        if len(place[1]) > 6 and place[1] != MODULE_LEVEL:
            found[place[1]].append(place)
    return found


def _findings(subject: Subject) -> Findings:
    findings = Findings()
    for place, nodes in subject.source.definitions:
        if is_schema(place[0]) or place[1] == "__all__":
            continue
        visitor = Visitor(subject, findings, place, quiet=place in WITHOUT_EFFECT)
        for node in nodes:
            visitor.visit(node)
    return findings


def _reach(source: Package, findings: Findings, every: Methods) -> dict[Name, Methods]:
    """Return the methods that can run each definition: the least fixed point from the roots.

    A plugin's code has no roots: it runs where its plugin is listed. What the core itself refers to
    in there is reached like anything else.
    """
    reach: dict[Name, Methods] = {}
    named = {_class(name) for name in findings.references}
    for place, _ in source.definitions:
        rooted = place[1] == MODULE_LEVEL or not ("." in place[1] or place in named)
        free = not integration(place[0]) and not any(_loaders(place))
        reach[place] = every if rooted and free else frozenset()
    changed = True
    while changed:
        changed = False
        for place in reach:
            new = _reached(place, reach, findings)
            if new != reach[place]:
                reach[place], changed = new, True
    # Reached by nothing that is seen: then by something that is not.
    return {
        place: found or (frozenset() if integration(place[0]) else every)
        for place, found in reach.items()
    }


def _reached(place: Name, reach: Mapping[Name, Methods], findings: Findings) -> Methods:
    found = reach[place]
    for user, spot in findings.references[place]:
        if user != place:
            found |= reach[user] & spot
    for other in (_class(place), *_loaders(place)):  # whoever has the class has its methods
        found |= reach[other]
    return found


def _class(place: Name) -> Name:
    return place[0], place[1].partition(".")[0]


def _loaders(place: Name) -> Iterator[Name]:
    """Yield what imports the module of a prompt strategy: the load() of each package above it."""
    if place[0] not in LOADERS and place[0] != f"{LOADERS[0]}.base":
        for loader in LOADERS:
            if place[0].startswith(f"{loader}."):
                yield loader, "load"
