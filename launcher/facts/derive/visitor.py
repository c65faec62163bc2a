"""Walk one definition of axolotl's source: what it refers to and reads, and for which methods."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from launcher.facts.derive.conditions import (
    Methods,
    is_arguments,
    is_config,
    leaves,
    loops_over_keys,
    split,
)
from launcher.facts.derive.source import Name, Package, dotted, strings

Place = tuple[Name, Methods]  # a definition, and the methods under which a spot in it runs


@dataclass(frozen=True)
class Subject:
    """What is looked for: ``keys`` of the config, all training methods, definitions by their bare
    name.
    """

    source: Package
    keys: frozenset[str]
    every: Methods
    by_name: Mapping[str, list[Name]]


@dataclass
class Findings:
    """Where each definition is referred to, and where each key is read."""

    references: dict[Name, set[Place]] = field(default_factory=lambda: defaultdict(set))
    reads: dict[str, set[Place]] = field(default_factory=lambda: defaultdict(set))


class Visitor(ast.NodeVisitor):
    """Notes references and reads, narrowing ``spot`` at every test of ``cfg.rl``."""

    def __init__(self, subject: Subject, findings: Findings, place: Name, quiet: bool) -> None:
        self.subject, self.findings, self.place, self.quiet = subject, findings, place, quiet
        self.spot = subject.every
        self.locals: dict[str, set[Name]] = defaultdict(set)
        self.assigned = ""  # cfg.key = cfg.key or default: no read of note
        self.loops_over_keys = False
        self.inside = False  # of a function

    def generic_visit(self, node: ast.AST) -> None:
        """Visit the children; statements as a block, whose early exits narrow what follows."""
        for value in (getattr(node, name, None) for name in node._fields):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self._block(value)
            elif isinstance(value, list):
                for child in value:
                    self._child(child)
            else:
                self._child(value)

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        """Narrow both branches by what the test says of ``rl``."""
        self.visit(node.test)
        branches = zip((node.body, node.orelse), split(node.test, self.subject.every), strict=True)
        for branch, spot in branches:
            with self._narrowed(spot):
                self._block(branch if isinstance(branch, list) else [branch])

    visit_IfExp = visit_If

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Narrow the later operands, which run only if the earlier ones let them."""
        with self._narrowed(self.subject.every):
            for value in node.values:
                self.visit(value)
                yes, no = split(value, self.subject.every)
                self.spot &= yes if isinstance(node.op, ast.And) else no

    def visit_Assign(self, node: ast.Assign) -> None:
        """Take a variable that holds a function for the function, where it is used."""
        target = node.targets[0]
        if self.inside and isinstance(target, ast.Name) and self._names(node.value):
            self.locals[target.id] |= self._held(node.value)
            return
        owner = target if isinstance(target, ast.Attribute) and is_config(target.value) else None
        self.assigned = owner.attr if owner else ""
        self.visit(node.value)
        self.assigned = ""
        for target in node.targets:
            self.visit(target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Leave the annotation out: it runs nothing."""
        if node.value is not None:
            self.visit_Assign(ast.Assign([node.target], node.value))

    def visit_arg(self, node: ast.arg) -> None:
        """Leave annotations of parameters out."""

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Leave the annotation of the result out."""
        self.loops_over_keys = loops_over_keys(node)
        for child in (*node.decorator_list, node.args):
            self.visit(child)
        self.inside = True
        with self._narrowed(self.subject.every):
            self._block(node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Name(self, node: ast.Name) -> None:
        """Note a reference; ``cls`` alone is the class, which can make an instance of itself."""
        for name in self._held(node):
            self._refer(name)
        if node.id == "cls":
            self._refer((self.place[0], self.place[1].partition(".")[0]))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Note a reference to ``module.name``, ``Class.method`` or ``self.method``, or a read of
        ``cfg.key``.
        """
        if isinstance(node.ctx, ast.Load) and not is_arguments(node.value):
            self._read(node.attr)
        held = self._held(node)
        for name in held:
            self._refer(name)
        if not held or not dotted(node):
            self.visit(node.value)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Leave out ``function is None`` and ``name == "function"``, which do not run it."""
        held = isinstance(node.left, ast.Name) and self._held(node.left)
        if held and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            return
        for part in (node.left, *node.comparators):
            if isinstance(part, ast.Constant):
                self._read(str(part.value))
            else:
                self.visit(part)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Take a key's name for a read of it, and a definition's name for a reference."""
        if isinstance(node.value, str):
            self._read(node.value)
            for name in self.subject.by_name.get(node.value, ()):
                self._refer(name)

    def visit_Dict(self, node: ast.Dict) -> None:
        """Leave out what only names the entries of a new dict."""
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None and not isinstance(key, ast.Constant):
                self.visit(key)
            self.visit(value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Leave out ``x["key"] = ...`` and the entries of keyword arguments."""
        self.visit(node.value)
        if isinstance(node.ctx, ast.Load) and not is_arguments(node.value):
            self.visit(node.slice)

    def visit_Call(self, node: ast.Call) -> None:
        """Leave out ``kwargs.get("key")`` and ``isinstance``, which runs nothing of the class; take
        a loop over all keys with a prefix for reads of them.
        """
        function = node.func
        if isinstance(function, ast.Name) and function.id in ("isinstance", "issubclass"):
            self.visit(node.args[0])
            return
        if isinstance(function, ast.Attribute):
            if function.attr in ("get", "pop", "setdefault") and is_arguments(function.value):
                return
            if function.attr == "startswith" and self.loops_over_keys:
                for prefix in (text for text in strings(node) if text.endswith("_")):
                    for key in self.subject.keys:
                        if key.startswith(prefix):
                            self._read(key)
        self.generic_visit(node)

    def _block(self, statements: Iterable[ast.stmt | ast.expr]) -> None:
        with self._narrowed(self.subject.every):
            for statement in statements:
                self.visit(statement)
                if isinstance(statement, ast.If):
                    yes, no = split(statement.test, self.subject.every)
                    if leaves(statement.body):
                        self.spot &= no
                    if leaves(statement.orelse):
                        self.spot &= yes

    def _child(self, node: object) -> None:
        if isinstance(node, ast.AST):
            self.visit(node)

    @contextmanager
    def _narrowed(self, to: Methods) -> Iterator[None]:
        before = self.spot
        self.spot &= to
        yield
        self.spot = before

    def _names(self, value: ast.expr) -> bool:
        """Whether an expression only hands functions on: a name, a choice, a look-up by string."""
        if isinstance(value, ast.BoolOp):
            return all(self._names(part) for part in value.values)
        if isinstance(value, ast.Call):
            given = [*value.args, *(keyword.value for keyword in value.keywords)]
            callee = dotted(value.func)
            return (
                bool(given)
                and all(isinstance(part, ast.Constant) for part in given)
                and not (callee and self.subject.source.resolve(self.place[0], callee))
                and bool(self._held(value))
            )
        return isinstance(value, (ast.Name, ast.Attribute)) and bool(self._held(value))

    def _held(self, node: ast.expr) -> set[Name]:
        """Return the definitions that an expression may stand for."""
        path = dotted(node)
        if path.startswith(("self.", "cls.")):
            path = self.place[1].partition(".")[0] + path[path.index(".") :]
            found = self.subject.source.resolve(self.place[0], path)
            return {found} if found and "." in found[1] else set()
        if path:
            found = self.subject.source.resolve(self.place[0], path)
            return self.locals.get(path, set()) | ({found} if found else set())
        parts = node.values if isinstance(node, ast.BoolOp) else []
        named = strings(node) if isinstance(node, ast.Call) else ()
        return set().union(
            *(self._held(part) for part in parts),
            *(self.subject.by_name.get(text, ()) for text in named),
        )

    def _refer(self, name: Name) -> None:
        self.findings.references[name].add((self.place, self.spot))
        module, (owner, _, method) = name[0], name[1].partition(".")
        bases = [getattr(node, "bases", []) for node in self._nodes(module, owner)]
        if method and any(bases):  # the method may go on to those of the class it is derived from
            self.findings.references[module, owner].add((self.place, self.spot))

    def _nodes(self, module: str, name: str) -> list[ast.AST]:
        return self.subject.source.modules[module].definitions.get(name, [])

    def _read(self, key: str) -> None:
        if key in self.subject.keys and key != self.assigned and not self.quiet:
            self.findings.reads[key].add((self.place, self.spot))
