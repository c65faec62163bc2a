"""What axolotl's validators refuse, as conditions on a recipe, from their source.

A validator is run with symbols for values: what leads to a ``raise`` is its condition. Loops, what
is caught, and functions that are not read are unknown, and a condition that cannot hold without
them is left out.
"""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from launcher.facts import logic
from launcher.facts.derive.source import package
from launcher.facts.derive.terms import NOTHING, TRUE, UNKNOWN, Term, Translator, constant
from launcher.schema.generate import integration_models

JSON = dict[str, Any]
_CHANGING = ("add", "append", "extend", "insert", "pop", "remove", "setdefault", "update")
_MODES = {"before": "raw", "after": "self"}


@dataclass
class _Class:
    """A model's class: its validators and helpers, and the place of its data in a recipe."""

    model: Any
    module: str
    functions: dict[str, ast.FunctionDef]
    under: str = ""  # the top-level key that holds the model, "" for the recipe itself

    def data(self, view: str) -> Term:
        return ["item", [view], self.under, NOTHING] if self.under else [view]


@dataclass
class _Run:
    """One pass through a function: the raises met and the values returned, each with its guards."""

    raised: list[tuple[list[Term], Term]] = field(default_factory=list)
    returned: list[tuple[list[Term], Term]] = field(default_factory=list)


def refusals(keys: frozenset[str]) -> list[JSON]:
    """Return what axolotl refuses: the ``check`` that does, the condition ``when`` it does, its
    ``words``, and the ``integration`` whose plugin must be listed for it ("" for axolotl itself).

    ``keys`` are those of a recipe; what else a validator looks at (the GPU) is unknown.
    """
    found = [
        {"check": check, "when": when, "words": words, "integration": integration}
        for integration, owner in _classes()
        for check, when, words in _of(owner, keys)
    ]
    found = list({json.dumps(one, sort_keys=True): one for one in found}.values())
    return sorted(found, key=lambda one: (one["integration"], one["check"], str(one["when"])))


def _classes() -> Iterator[tuple[str, _Class]]:
    from axolotl.utils.schemas.config import AxolotlConfigWCapabilities

    for name, model in [("", AxolotlConfigWCapabilities), *integration_models()]:
        for owner in _owners(model):
            yield name, owner
    for key, info in AxolotlConfigWCapabilities.model_fields.items():
        for part in getattr(info.annotation, "__args__", (info.annotation,)):
            if hasattr(part, "model_fields"):
                for owner in _owners(part, key):
                    yield "", owner


def _owners(model: Any, under: str = "") -> Iterator[_Class]:
    for base in model.__mro__:
        if base.__module__.startswith("axolotl."):
            tree = package("axolotl").modules[base.__module__].tree
            bodies = [
                node.body
                for node in ast.walk(tree)
                if isinstance(node, ast.ClassDef) and node.name == base.__name__
            ]
            functions = {
                node.name: node
                for body in bodies
                for node in body
                if isinstance(node, ast.FunctionDef)
            }
            yield _Class(model, base.__module__, functions, under)


def _of(owner: _Class, keys: frozenset[str]) -> Iterator[tuple[str, Term, Term]]:
    """Yield (check, condition, words) of every raise that a recipe alone can lead to."""
    for function in owner.functions.values():
        for view, fields in _validates(function):
            for key in fields or [""]:
                run, guards = _Run(), []
                walker = _Walker(owner, view, run)
                data = owner.data(view)
                if key:
                    guards = [["has", data, ["const", key]]]
                    data = ["item", data, key, NOTHING]
                walker.names[function.args.args[-1].arg] = data
                walker.walk(function.body, guards)
                for conditions, words in run.raised:
                    when = _of_recipe(["and", *conditions], keys)
                    if _can_hold(when) and any(logic.paths(when)):
                        yield function.name, when, words


def _validates(function: ast.FunctionDef) -> Iterator[tuple[str, list[str]]]:
    """Yield the view on the recipe that a validator gets, and the keys it is for (none: all)."""
    for decorator in function.decorator_list:
        if not isinstance(decorator, ast.Call):
            continue
        name = ast.unparse(decorator.func)
        modes = [ast.literal_eval(k.value) for k in decorator.keywords if k.arg == "mode"]
        view = _MODES.get(modes[0] if modes else "after")
        if view and name in ("model_validator", "field_validator"):
            yield view, [str(ast.literal_eval(argument)) for argument in decorator.args]


class _Walker:
    """Walks the statements of a function, with the conditions under which each is reached."""

    def __init__(self, owner: _Class, view: str, run: _Run, depth: int = 0) -> None:
        self.names: dict[str, Term] = {}
        self._owner, self._view, self._run, self._depth = owner, view, run, depth
        self._written: set[str] = set()
        known = vars(importlib.import_module(owner.module))
        self._translator = Translator(self.names, known, self._attribute, self._inline)

    def walk(self, body: list[ast.stmt], guards: list[Term]) -> Term:
        """Go through a block; return when its end is reached."""
        falls: Term = TRUE
        for statement in body:
            through = self._one(statement, [*guards, falls] if falls != TRUE else guards)
            falls = _both(falls, through)
            if through == ["const", False]:
                break
        return falls

    def _one(self, statement: ast.stmt, guards: list[Term]) -> Term:
        match statement:
            case ast.If():
                return self._branch(statement, guards)
            case ast.Raise(exc=ast.Call(args=[words, *_])):
                self._run.raised.append((guards, self._translator.text(words)))
                return ["const", False]
            case ast.Return():
                value = statement.value and self._translator.term(statement.value)
                self._run.returned.append((guards, value or NOTHING))
                return ["const", False]
            case ast.Raise():
                return ["const", False]
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)]):
                self.names[f"self.{name}"] = self._unwritten(self._translator.term(statement.value))
                return TRUE
            case ast.Assign(targets=[ast.Name(id=name)]):
                self.names[name] = self._unwritten(self._translator.term(statement.value))
                return TRUE
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as given):
                self.names[name] = self._unwritten(self._translator.term(given))
                return TRUE
        return self._opaque(statement)

    def _branch(self, statement: ast.If, guards: list[Term]) -> Term:
        test = self._unwritten(self._translator.term(statement.test))
        before = dict(self.names)
        yes = self.walk(statement.body, [*guards, test])
        after = dict(self.names)
        self._reset(before)
        no = self.walk(statement.orelse, [*guards, ["not", test]])
        if no == ["const", False]:
            self._reset(after)
        elif yes != ["const", False]:
            joined = {
                name: one if one == other else ["if", test, one, other]
                for name in {**after, **self.names}
                for one, other in [(self._bound(after, name), self._bound(self.names, name))]
            }
            self._reset(joined)
        if yes == no == TRUE:
            return TRUE
        return ["or", _both(test, yes), _both(["not", test], no)]

    def _bound(self, names: dict[str, Term], name: str) -> Term:
        """Return what a name is in a branch; what no branch wrote is as the recipe has it."""
        if name in names:
            return names[name]
        return self._field(name.removeprefix("self.")) if name.startswith("self.") else UNKNOWN

    def _reset(self, names: dict[str, Term]) -> None:
        self.names.clear()
        self.names.update(names)

    def _opaque(self, statement: ast.stmt) -> Term:
        """Take in what a statement may change that is not followed: a loop, a try, an update."""
        leaves = False
        for node in ast.walk(statement):
            leaves |= isinstance(node, (ast.Return, ast.Raise))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.names[node.id] = UNKNOWN
            elif isinstance(node, ast.Attribute) and node.attr in _CHANGING:
                self.names[ast.unparse(node.value)] = UNKNOWN  # a list that a loop fills
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                self._written.add(node.attr)
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
                self._written.add(str(getattr(node.slice, "value", "")))
        return UNKNOWN if leaves else TRUE

    def _unwritten(self, term: Term) -> Term:
        """Return a term, or unknown where it looks at what the function has changed itself."""
        changed = any(self._written.intersection(path) for path in logic.paths(term))
        return UNKNOWN if changed else term

    def _attribute(self, name: str) -> Term:
        return self.names.get(f"self.{name}") or self._field(name)

    def _field(self, name: str) -> Term:
        if name in self._owner.functions:
            return self._inline(name, [])
        info = self._owner.model.model_fields.get(name)
        if info is None:
            for owner in _owners(self._owner.model, self._owner.under):
                if name in owner.functions:
                    return _Walker(owner, self._view, _Run(), self._depth)._inline(name, [])
            return UNKNOWN
        default = info.get_default(call_default_factory=True)
        return ["item", self._owner.data(self._view), info.alias or name, constant(default)]

    def _inline(self, name: str, arguments: list[Term]) -> Term:
        """Return what a helper of the same class returns."""
        function = self._owner.functions.get(name)
        if function is None or self._depth > 2:
            return UNKNOWN
        run = _Run()
        walker = _Walker(self._owner, self._view, run, self._depth + 1)
        taken = [one.arg for one in function.args.args if one.arg not in ("self", "cls")]
        walker.names.update(zip(taken, arguments, strict=False))
        walker.walk(function.body, [])
        result = UNKNOWN
        for guards, value in reversed(run.returned):
            result = ["if", ["and", *guards, TRUE], value, result]
        return result


def _of_recipe(term: Any, keys: frozenset[str]) -> Any:
    """Return a term with what is no key of a recipe unknown."""
    if not isinstance(term, list) or not term or term[0] == "const":
        return term
    if term[0] == "item" and term[1] in (["raw"], ["self"]) and term[2] not in keys:
        return UNKNOWN
    return [_of_recipe(part, keys) for part in term]


def _both(one: Term, other: Term) -> Term:
    if one == TRUE or other == ["const", False]:
        return other
    return one if other == TRUE else ["and", one, other]


def _can_hold(term: Any, *, wanted: bool = True) -> bool:
    """Whether a condition can hold, or fail if that is wanted, without what is unknown."""
    if not isinstance(term, list) or not term:
        return True
    match term[0]:
        case "unknown":
            return False
        case "not":
            return _can_hold(term[1], wanted=not wanted)
        case "and" | "or":
            parts = [_can_hold(part, wanted=wanted) for part in term[1:]]
            return all(parts) if (term[0] == "and") is wanted else any(parts)
        case "if":
            branches = [_can_hold(part, wanted=wanted) for part in term[2:]]
            return _can_hold(term[1]) and any(branches)
        case "item":
            return _can_hold(term[1])
        case "const":
            return True
    return all(map(_can_hold, term))
