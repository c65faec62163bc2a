"""Read a package's source without importing it: its definitions, and who refers to whom.

Names are resolved through imports and re-exports, so that ``load`` of one module is not taken for
``load`` of another. What cannot be resolved is left out; `facts_readers` says why that is safe.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

MODULE_LEVEL = "<module>"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Name = tuple[str, str]  # (dotted module, name at its top level)


@dataclass(frozen=True)
class Module:
    """One source file: ``definitions`` by name, and ``aliases``, what its imports bind to which
    dotted path. Statements that define nothing are under ``MODULE_LEVEL``.
    """

    name: str
    tree: ast.Module
    definitions: dict[str, list[ast.AST]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Package:
    """All modules of an installed package, by dotted name."""

    modules: dict[str, Module]

    @property
    def definitions(self) -> Iterator[tuple[Name, list[ast.AST]]]:
        """Yield every top-level definition with its nodes."""
        for module in self.modules.values():
            for name, nodes in module.definitions.items():
                yield (module.name, name), nodes

    def resolve(self, module: str, dotted: str) -> Name | None:
        """Return the definition that ``dotted`` means inside ``module``, or None for anything
        outside the package.
        """
        home, (head, _, _) = self.modules[module], dotted.partition(".")
        if head in home.definitions:
            return self._locate(f"{module}.{dotted}")
        if head in home.aliases:
            return self._locate(home.aliases[head] + dotted[len(head) :])
        return None

    def _locate(self, path: str, depth: int = 0) -> Name | None:
        module, name = path, ""
        while module not in self.modules:
            module, _, last = module.rpartition(".")
            name = f"{last}.{name}".rstrip(".")
            if not module:
                return None
        home, (head, _, member) = self.modules[module], name.partition(".")
        if name in home.definitions or head in home.definitions:
            return module, name if name in home.definitions else head
        if head in home.aliases and depth < 8:
            return self._locate(f"{home.aliases[head]}.{member}".rstrip("."), depth + 1)
        return None


@lru_cache(maxsize=4)
def package(name: str) -> Package:
    """Parse every file of an installed package. Raises ``ImportError`` where it is missing."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{name} is not installed")
    root = Path(spec.submodule_search_locations[0])
    modules = {}
    for file in sorted(root.rglob("*.py")):
        parts = [name, *file.relative_to(root).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        dotted = ".".join(parts[:-1] if is_package else parts)
        modules[dotted] = _module(dotted, ast.parse(file.read_text(encoding="utf-8")), is_package)
    return Package(modules)


def dotted(node: ast.AST) -> str:
    """Return ``a.b.c`` of an attribute chain or a name, "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def strings(node: ast.AST) -> Iterator[str]:
    """Yield every string literal below ``node``."""
    for child in ast.walk(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value


def _module(name: str, tree: ast.Module, is_package: bool) -> Module:
    module = Module(name, tree)
    for statement in tree.body:
        for defined, node in _defined(statement):
            module.definitions.setdefault(defined, []).append(node)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                head = alias.asname or alias.name.split(".")[0]
                module.aliases[head] = alias.name if alias.asname else head
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, name, is_package)
            for alias in node.names:
                module.aliases[alias.asname or alias.name] = f"{base}.{alias.name}"
    return module


def _defined(statement: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    """Yield the definitions that a statement makes, a class's methods apart: ``Class.method``."""
    if isinstance(statement, ast.ClassDef):
        methods = [node for node in statement.body if isinstance(node, FUNCTIONS)]
        rest = [node for node in statement.body if node not in methods]
        yield (
            statement.name,
            ast.ClassDef(
                statement.name, statement.bases, statement.keywords, rest, statement.decorator_list
            ),
        )
        for method in methods:
            yield f"{statement.name}.{method.name}", method
    elif isinstance(statement, FUNCTIONS):
        yield statement.name, statement
    elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from ((name, statement) for name in names or [MODULE_LEVEL])
    else:
        yield MODULE_LEVEL, statement


def _base(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    keep = len(parts) - node.level + (1 if is_package else 0)
    return ".".join([*parts[:keep], *([node.module] if node.module else [])])
