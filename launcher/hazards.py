"""What makes a YAML text dangerous to build, or lets it mean something else than it says.

A recipe is untrusted text. It is measured as a tree of nodes, before a value is made of it: how
deep it is, what its aliases expand to, its tags, scalars that cannot be converted, and keys that
are given twice, which PyYAML lets pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from launcher.diagnostics import Code, Diagnostic, Related, Severity, Span, delete

MAX_DEPTH = 40
MAX_NODES = 20_000  # each alias counts as all that it stands for; public configs have hundreds
LETTERS = 100  # of a text count as one value

DUPLICATE = Code(
    "Y102",
    "duplicate-key",
    Severity.ERROR,
    "The later value wins and the earlier one is lost in silence.",
)
UNSAFE_TAG = Code(
    "Y103",
    "unsafe-tag",
    Severity.ERROR,
    "A tag that builds Python objects can run code; axolotl refuses it.",
)
EXPANSION = Code(
    "Y104",
    "expansion",
    Severity.ERROR,
    "Nested aliases or brackets can exhaust the memory of every reader.",
)
BAD_SCALAR = Code(
    "Y108",
    "bad-scalar",
    Severity.ERROR,
    "The value has the form of a date or number that does not exist.",
)

_PREFIX = "tag:yaml.org,2002:"
_MERGE, _VALUE = f"{_PREFIX}merge", f"{_PREFIX}value"
_COLLECTIONS = frozenset(f"{_PREFIX}{kind}" for kind in ("map", "seq", "omap", "pairs", "set"))
_SCALARS = frozenset(tag for tag in yaml.SafeLoader.yaml_constructors if tag) - _COLLECTIONS
_FORMS = {"int": "a number", "float": "a number", "timestamp": "a date", "bool": "a switch"}
_KINDS = {
    yaml.ScalarNode: "a plain value",
    yaml.SequenceNode: "a list",
    yaml.MappingNode: "a block of keys",
}
# What PyYAML's constructors raise for a scalar that they cannot convert, beside YAMLError.
_CONVERSION_ERRORS = (ValueError, KeyError, IndexError, AttributeError, OverflowError)


class Stop(Exception):
    """A danger found before anything was built."""

    def __init__(self, problem: Diagnostic) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Loader(yaml.SafeLoader):
    """The loader of ``yaml.safe_load``, which axolotl reads with; it stops at deep nesting.

    libyaml would be ten times as fast, but it reads another language: it takes a tab after a value,
    at which axolotl stops, and ``!`` as a text.
    """

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self.file = file
        self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """Build one node. Raises ``Stop`` below ``MAX_DEPTH`` levels."""
        self.depth += 1
        if self.depth > MAX_DEPTH + 1:
            event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
            raise Stop(_too_deep(event, self.file))
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def check_size(root: yaml.Node, file: str) -> None:
    """Raise ``Stop`` at recursion, and at more levels or values than a recipe can have once aliases
    are expanded.
    """
    sizes: dict[int, tuple[int, int]] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> tuple[int, int]:
        """Return the number of values and of levels."""
        key = id(node)
        if key in open_nodes:
            fact = "an alias stands for a structure that holds the alias itself"
            raise Stop(EXPANSION.at(node_span(node, file), fact))
        if key not in sizes:
            open_nodes.add(key)
            inner = [size(child) for child in _children(node)]
            open_nodes.discard(key)
            values = 1 + sum(count for count, _ in inner) + _length(node) // LETTERS
            levels = 1 + max((depth for _, depth in inner), default=0)
            if levels > MAX_DEPTH + 1:
                raise Stop(_too_deep(node, file))
            if values > MAX_NODES:
                fact = f"more than {MAX_NODES:,} values, each alias counted as all it stands for"
                hint = "a recipe holds settings; data goes into a file of its own"
                raise Stop(EXPANSION.at(node_span(node, file), fact, hint))
            sizes[key] = values, levels
        return sizes[key]

    size(root)


def unusable(loader: Loader, root: yaml.Node) -> Iterator[Diagnostic]:
    """Yield each node of which no plain value can be made."""
    for node in _nodes(root):
        span = node_span(node, loader.file)
        tag = node.tag.replace(_PREFIX, "!!", 1)
        if isinstance(node, yaml.ScalarNode) and node.tag in (_MERGE, _VALUE):
            fact = f'"{node.value}" stands for a YAML function, not for text'
            yield BAD_SCALAR.at(span, fact, f'quote it: "{node.value}"')
        elif node.tag not in _SCALARS | _COLLECTIONS:
            hint = "remove the tag: a recipe holds plain values only"
            yield UNSAFE_TAG.at(span, f'tag "{tag}" is not plain YAML', hint)
        elif isinstance(node, yaml.ScalarNode) == (node.tag in _COLLECTIONS):
            fact = f'tag "{tag}" stands at {_KINDS[type(node)]}'
            yield UNSAFE_TAG.at(span, fact, "remove the tag")
        elif isinstance(node, yaml.ScalarNode) and not _converts(loader, node):
            shown, kind = _cut(node.value), tag.removeprefix("!!")
            fact = f'"{shown}" has the form of {_FORMS.get(kind, kind)} but is none'
            yield BAD_SCALAR.at(span, fact, f'quote it if it is text: "{shown}"')


def duplicates(loader: Loader, root: yaml.Node) -> Iterator[Diagnostic]:
    """Yield each key that an earlier one of the same mapping equals; every node must be usable."""
    for mapping in _nodes(root):
        if not isinstance(mapping, yaml.MappingNode):
            continue
        first: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in mapping.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            earlier, given = first.setdefault(loader.construct_object(key), (key, value))
            if earlier is not key:
                span, before = (node_span(node, loader.file) for node in (key, earlier))
                equal = _equal(loader, value, given)
                fact = f'key "{_cut(key.value)}" is given twice'
                fact += ", with the same value" if equal else ""
                hint = "delete one of the two" if equal else _LAST_WINS
                fix = delete(span, safe=True) if equal else delete(before, safe=False)
                yield DUPLICATE.at(span, fact, hint, (Related("first given here", before),), fix)


_LAST_WINS = "keep one of the two; PyYAML takes the last"


def _equal(loader: Loader, one: yaml.Node, other: yaml.Node) -> bool:
    """Whether two plain values are the same, and of one kind (1 is not true)."""
    if not isinstance(one, yaml.ScalarNode) or not isinstance(other, yaml.ScalarNode):
        return False
    return one.tag == other.tag and bool(
        loader.construct_object(one) == loader.construct_object(other)
    )


def node_span(node: yaml.Node | yaml.Event, file: str) -> Span:
    """Return where a node stands; of one that spans lines only its first character."""
    start: Any = node.start_mark
    end: Any = node.end_mark
    same_line = end.line == start.line and end.column > start.column
    end_column = end.column if same_line else start.column + 1
    return Span(file, start.line + 1, start.column + 1, end_column + 1)


def _too_deep(node: yaml.Node | yaml.Event, file: str) -> Diagnostic:
    return EXPANSION.at(node_span(node, file), f"nested more than {MAX_DEPTH} levels deep")


def _length(node: yaml.Node) -> int:
    return len(node.value) if isinstance(node, yaml.ScalarNode) else 0


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Each node once, however often it is aliased; the key ``<<`` of a merge is left out."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                stack += [value] if key.tag == _MERGE else [key, value]
        else:
            stack.extend(_children(node))


def _converts(loader: Loader, node: yaml.ScalarNode) -> bool:
    try:
        value = loader.construct_object(node)
        if isinstance(value, int):
            str(value)  # Python writes no number of over 4300 digits; one in base 16 it reads
    except (yaml.YAMLError, *_CONVERSION_ERRORS):
        return False
    return True


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
