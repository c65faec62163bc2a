"""What pieces of axolotl's source are, by their looks; what a condition says of the method."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from launcher.facts.derive.source import dotted

SUPERVISED = "sft"  # no `rl`: reward models and pretraining too
Methods = frozenset[str]


def split(test: ast.expr, every: Methods) -> tuple[Methods, Methods]:
    """Return the methods under which a test can hold, and under which it can fail: both ``every``
    one where it says nothing of ``cfg.rl``.
    """
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yes, no = split(test.operand, every)
        return no, yes
    if isinstance(test, ast.BoolOp):
        parts = [split(value, every) for value in test.values]
        if isinstance(test.op, ast.And):
            return every.intersection(*(p[0] for p in parts)), _union(p[1] for p in parts)
        return _union(p[0] for p in parts), every.intersection(*(p[1] for p in parts))
    if _is_rl(test):
        return every - {SUPERVISED}, frozenset({SUPERVISED})
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and _is_rl(test.left):
        return _compare(test.ops[0], test.comparators[0], every)
    return every, every


def is_config(node: ast.expr) -> bool:
    """Whether an expression is, by its name, the config."""
    return dotted(node).split(".")[-1].endswith("cfg")


def is_arguments(node: ast.expr) -> bool:
    """Whether an expression holds trainer or keyword arguments, which the builders have filled, and
    not the config.
    """
    last = dotted(node).split(".")[-1]
    return last == "self" or last.endswith(("args", "kwargs", "arguments", "params"))


def loops_over_keys(node: ast.AST) -> bool:
    """Whether anything below takes all keys of the config."""
    return any(
        isinstance(child, ast.Attribute) and child.attr == "keys" and is_config(child.value)
        for child in ast.walk(node)
    )


def leaves(body: list[ast.stmt]) -> bool:
    """Whether what stands after a block is not reached through it."""
    return bool(body) and isinstance(body[-1], (ast.Return, ast.Raise, ast.Continue, ast.Break))


def _compare(operator: ast.cmpop, other: ast.expr, every: Methods) -> tuple[Methods, Methods]:
    listed = other.elts if isinstance(other, (ast.Set, ast.List, ast.Tuple)) else [other]
    named = [_method(element) for element in listed]
    found = frozenset(named) & every
    if len(found) != len(named):
        return every, every
    if isinstance(operator, (ast.Is, ast.Eq, ast.In)):
        return found, every - found
    return every - found, found


def _is_rl(node: ast.expr) -> bool:
    """Whether this is ``cfg.rl`` or ``cfg.get("rl")``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        asked = node.func.attr == "get" and is_config(node.func.value)
        return asked and any(isinstance(a, ast.Constant) and a.value == "rl" for a in node.args[:1])
    return isinstance(node, ast.Attribute) and node.attr == "rl" and is_config(node.value)


def _method(node: ast.expr) -> str:
    """Return the method that ``RLType.DPO``, "dpo" or None names; "" for anything else."""
    if isinstance(node, ast.Constant):
        return SUPERVISED if node.value is None else str(node.value)
    path = dotted(node)
    return path.split(".")[-1].lower() if ".RLType." in f".{path}" else ""


def _union(sets: Iterable[Methods]) -> Methods:
    return frozenset().union(*sets)
