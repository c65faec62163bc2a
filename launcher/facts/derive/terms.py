"""Python expressions of axolotl's validators as terms of `launcher.facts.logic`."""

from __future__ import annotations

import ast
import enum
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Term = list[Any]

UNKNOWN: Term = ["unknown"]
TRUE: Term = ["const", True]
NOTHING: Term = ["const", None]
_COMPARED = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
}
_COUNTED = {ast.Mod: "%", ast.Mult: "*", ast.Add: "+", ast.Sub: "-", ast.Div: "/"}
_CALLED = {"str": "str", "int": "int", "len": "len", "bool": "bool", "attn_impl_base": "head"}
_ASKED = ("lower", "startswith")

Lookup = Callable[[str], Term]


class Translator:
    """Turns expressions into terms. ``names`` are the local variables, ``known`` the names of the
    module; ``attribute`` says what ``self.key`` is, ``inline`` what a call of a method returns.
    """

    def __init__(
        self,
        names: dict[str, Term],
        known: Mapping[str, Any],
        attribute: Lookup,
        inline: Callable[[str, list[Term]], Term],
    ) -> None:
        self.names = names
        self.known = known
        self.attribute = attribute
        self.inline = inline

    def term(self, node: ast.expr) -> Term:
        """Return the term of an expression; ``UNKNOWN`` of one that is not understood."""
        make: Callable[[Any], Term] | None = getattr(self, f"_{type(node).__name__}", None)
        return make(node) if make else UNKNOWN

    def text(self, node: ast.expr) -> Term:
        """Return the term of a message: what is filled in and cannot be told is "..."."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return ["join", self.text(node.left), self.text(node.right)]
        if isinstance(node, ast.JoinedStr):
            return ["join", *(self._filled(part) for part in node.values)]
        found = self.term(node)
        return ["const", "..."] if UNKNOWN in _below(found) else found

    def _JoinedStr(self, node: ast.JoinedStr) -> Term:
        return self.text(node)

    def _filled(self, part: ast.expr) -> Term:
        return self.text(part.value if isinstance(part, ast.FormattedValue) else part)

    def _Constant(self, node: ast.Constant) -> Term:
        return ["const", node.value]

    def _Name(self, node: ast.Name) -> Term:
        if node.id in self.names:
            return self.names[node.id]
        return constant(self.known[node.id]) if node.id in self.known else UNKNOWN

    def _Attribute(self, node: ast.Attribute) -> Term:
        if isinstance(node.value, ast.Name):
            if node.value.id == "self":
                return self.attribute(node.attr)
            member = getattr(self.known.get(node.value.id), node.attr, None)
            if isinstance(member, enum.Enum):
                return constant(member)
        holder = self.term(node.value)
        return ["item", holder, node.attr, NOTHING] if holder[0] == "item" else UNKNOWN

    def _Subscript(self, node: ast.Subscript) -> Term:
        key = node.slice
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            return ["item", self.term(node.value), key.value, UNKNOWN]
        return ["at", self.term(node.value), self.term(key)]

    def _NamedExpr(self, node: ast.NamedExpr) -> Term:
        self.names[node.target.id] = self.term(node.value)
        return self.names[node.target.id]

    def _BoolOp(self, node: ast.BoolOp) -> Term:
        name = "and" if isinstance(node.op, ast.And) else "or"
        return [name, *(self.term(value) for value in node.values)]

    def _UnaryOp(self, node: ast.UnaryOp) -> Term:
        inner = self.term(node.operand)
        if isinstance(node.op, ast.USub) and inner[0] == "const":
            return ["const", -inner[1]]
        return ["not", inner] if isinstance(node.op, ast.Not) else UNKNOWN

    def _BinOp(self, node: ast.BinOp) -> Term:
        name = _COUNTED.get(type(node.op))
        return [name, self.term(node.left), self.term(node.right)] if name else UNKNOWN

    def _Compare(self, node: ast.Compare) -> Term:
        if len(node.ops) != 1:
            return UNKNOWN
        name = _COMPARED[type(node.ops[0])]
        one, other = self.term(node.left), self.term(node.comparators[0])
        if name in ("is", "is not") and other[0] == "const" and isinstance(other[1], str):
            name = "==" if name == "is" else "!="  # a member of an enumeration
        return [name, one, other]

    def _IfExp(self, node: ast.IfExp) -> Term:
        return ["if", self.term(node.test), self.term(node.body), self.term(node.orelse)]

    def _List(self, node: ast.List) -> Term:
        return ["list", *(self.term(value) for value in node.elts)]

    def _Dict(self, node: ast.Dict) -> Term:
        keys = [getattr(key, "value", None) for key in node.keys]
        if not node.keys:
            return ["const", {}]
        pairs = zip(keys, map(self.term, node.values), strict=True)
        return ["mapping", *([key, value] for key, value in pairs)]

    _Tuple = _Set = _List

    def _ListComp(self, node: ast.ListComp) -> Term:
        picked = list(self._each(node))
        return ["picked", *picked] if UNKNOWN not in picked else UNKNOWN

    _GeneratorExp = _ListComp

    def _Call(self, node: ast.Call) -> Term:
        arguments = [self.term(one) for one in node.args]
        if isinstance(node.func, ast.Name):
            return self._function(node.func.id, node, arguments)
        if not isinstance(node.func, ast.Attribute):
            return UNKNOWN
        owner, name = node.func.value, node.func.attr
        if isinstance(owner, ast.Name) and owner.id in ("cls", "self"):
            return self.inline(name, arguments)
        if name == "get" and arguments and arguments[0][0] == "const":
            default = arguments[1] if len(arguments) > 1 else NOTHING
            return ["item", self.term(owner), arguments[0][1], default]
        if name == "join" and len(arguments) == 1:
            return ["joined", self.term(owner), arguments[0]]
        return [name, self.term(owner), *arguments] if name in _ASKED else UNKNOWN

    def _function(self, name: str, node: ast.Call, arguments: list[Term]) -> Term:
        if name == "any" and len(arguments) == 1 and arguments[0][0] in ("list", "picked"):
            values = arguments[0][1:]
            whole = arguments[0][0] == "list"
            return ["or", *(v if whole else ["and", *v] for v in values), ["const", False]]
        if name == "isinstance" and isinstance(node.args[1], ast.Name):
            return ["isinstance", arguments[0], ["const", node.args[1].id]]
        if name == "getattr" and arguments[1][0] == "const" and ast.unparse(node.args[0]) == "self":
            name, default = str(arguments[1][1]), arguments[2] if len(arguments) > 2 else UNKNOWN
            found = self.attribute(name)
            return ["item", ["self"], name, default] if found == UNKNOWN else found
        if name == "hasattr":
            return TRUE
        if name == "dict" and len(arguments) == 1:
            return arguments[0]
        return [_CALLED[name], *arguments] if name in _CALLED else UNKNOWN

    def _each(self, node: ast.ListComp) -> Iterator[Any]:
        """Yield [test, value] of each entry of a comprehension over what is known."""
        loop = node.generators[0]
        outer = dict(self.names)
        for bound in self._entries(loop.iter) if len(node.generators) == 1 else [UNKNOWN]:
            targets = loop.target.elts if isinstance(loop.target, ast.Tuple) else [loop.target]
            if bound == UNKNOWN or len(targets) != len(bound):
                yield UNKNOWN
                continue
            self.names |= {ast.unparse(t): b for t, b in zip(targets, bound, strict=True)}
            tests = [self.term(test) for test in loop.ifs]
            yield [["and", *tests, TRUE], self.term(node.elt)]
        self.names.clear()
        self.names.update(outer)

    def _entries(self, node: ast.expr) -> list[Any]:
        """Return the entries that a loop takes in turn, each as the values that it binds."""
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".items"):
            assert isinstance(node.func, ast.Attribute)
            mapping = self.term(node.func.value)
            if mapping[0] == "mapping":
                return [[["const", key], value] for key, value in mapping[1:]]
            return [UNKNOWN]
        found = self.term(node)
        if found[0] == "list":
            return [[value] for value in found[1:]]
        if found[0] == "const" and isinstance(found[1], list):
            return [[["const", value]] for value in found[1]]
        return [UNKNOWN]


def constant(value: Any) -> Term:
    """Return the term of a value, if JSON can hold it."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, tuple):
        value = list(value)
    try:
        return ["const", json.loads(json.dumps(value))]
    except (TypeError, ValueError):
        return UNKNOWN


def _below(term: Any) -> Iterator[Any]:
    """Yield a term and all in it."""
    yield term
    for part in term if isinstance(term, list) else ():
        yield from _below(part)
