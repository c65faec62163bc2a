"""Which key axolotl's own validation turns into which other: ``dpo_beta`` fills ``rl_beta``.

A function of the schemas that mentions one key and assigns another is taken for such a transfer,
whatever it really does: a key is called unread only where no transfer can carry it on.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from launcher.facts.derive.conditions import Methods
from launcher.facts.derive.readers import is_schema
from launcher.facts.derive.source import package

ANYTHING = "*"  # assigns something that is no key, or a key that cannot be told


def transfers(keys: frozenset[str]) -> dict[str, frozenset[str]]:
    """Return key -> the keys that a validator may fill from it, with ``ANYTHING`` for the rest."""
    found: dict[str, frozenset[str]] = {}
    for function in schema_functions():
        written = frozenset(name if name in keys else ANYTHING for name in _written(function))
        for key in _mentioned(function) & keys if written else ():
            found[key] = found.get(key, frozenset()) | written - {key}
    return found


def carried(
    direct: Mapping[str, Methods], edges: Mapping[str, frozenset[str]], every: Methods
) -> dict[str, Methods]:
    """Return the methods that read a key, itself or through what it is turned into."""
    found = {**direct, ANYTHING: every}
    changed = True
    while changed:
        changed = False
        for key, targets in edges.items():
            new = found[key].union(*(found[target] for target in targets))
            if new != found[key]:
                found[key], changed = new, True
    found.pop(ANYTHING)
    return found


def computed() -> frozenset[str]:
    """Return the names that axolotl's config computes from keys (``@computed_field``) and its code
    reads like keys.
    """
    return frozenset(
        function.name
        for function in schema_functions()
        if any("computed_field" in ast.unparse(decorator) for decorator in function.decorator_list)
    )


def schema_functions() -> Iterator[ast.FunctionDef]:
    """Yield every function of the modules that declare and validate keys."""
    for name, module in package("axolotl").modules.items():
        if is_schema(name):
            for node in ast.walk(module.tree):
                if isinstance(node, ast.FunctionDef):
                    yield node


def _mentioned(function: ast.FunctionDef) -> frozenset[str]:
    nodes = [child for statement in function.body for child in ast.walk(statement)]
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return frozenset(names | {text for text in texts if isinstance(text, str)})


def _written(function: ast.FunctionDef) -> Iterator[str]:
    if any("computed_field" in ast.unparse(decorator) for decorator in function.decorator_list):
        yield function.name
    for node in ast.walk(function):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from _assigned(targets)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            filled = node.args[:1] if node.func.attr in ("setdefault", "update") else []
            yield from _named(filled)


def _assigned(targets: Iterable[ast.expr]) -> Iterator[str]:
    for target in targets:
        if isinstance(target, ast.Attribute):
            yield target.attr
            continue
        while isinstance(target, ast.Subscript):  # data["key"]["part"] = ... changes data["key"]
            owner = target.value
            if not isinstance(owner, ast.Subscript):
                yield from _named([target.slice])
            target = owner


def _named(nodes: Iterable[ast.expr]) -> Iterator[str]:
    for node in nodes:
        known = isinstance(node, ast.Constant) and isinstance(node.value, str)
        yield str(node.value) if isinstance(node, ast.Constant) and known else ANYTHING
