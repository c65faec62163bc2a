"""YAML text to exactly what ``yaml.safe_load`` gives, with the place of every key and value.

A recipe is untrusted text. Only standard tags are constructed, nested or aliased structures are
measured before they are built, and a key that is given twice, which PyYAML lets pass, is a problem.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from launcher.diagnostics import Code, Diagnostic, LauncherError, Related, Severity, Span

try:
    from yaml import CSafeLoader as Loader  # libyaml: ten times as fast
except ImportError:
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

Path = tuple[str, ...]  # keys and list indices, as text: ("datasets", "0", "path")

MAX_BYTES = 1024 * 1024  # the largest of 252 public axolotl configs has 5 kB
MAX_DEPTH = 40
MAX_NODES = 100_000  # after expansion of aliases

SYNTAX = Code(
    "Y101", "syntax", Severity.ERROR, "The file is no YAML, so nothing of it can be read."
)
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
ENCODING = Code(
    "Y105", "encoding", Severity.ERROR, "axolotl reads recipes as UTF-8 and stops at anything else."
)
UNREADABLE = Code("Y106", "unreadable", Severity.ERROR, "The file cannot be opened.")
NOT_A_RECIPE = Code(
    "Y107", "not-a-mapping", Severity.ERROR, "A recipe is a mapping of keys to values."
)
BAD_SCALAR = Code(
    "Y108",
    "bad-scalar",
    Severity.ERROR,
    "The value has the form of a date or number that does not exist.",
)

# What PyYAML's constructors raise for a scalar that they cannot convert, beside YAMLError.
_CONVERSION_ERRORS = (ValueError, KeyError, IndexError, AttributeError, OverflowError)
_STANDARD_TAGS = frozenset(tag for tag in yaml.SafeLoader.yaml_constructors if tag)
_HINTS = {
    "cannot start any token": "indent with blanks, not tabs, and quote a value that starts with "
    "@, ` or %",
    "mapping values are not allowed": 'quote a value that holds ": ", or look for a missing line '
    "break or wrong indent",
    "could not find expected ':'": "a key needs a colon and a blank after it; a line may be "
    "indented by mistake",
    "did not find expected key": "the line is indented differently from its neighbours",
    "expected a single document": "remove the --- line: one file is one recipe",
    "undefined alias": "define the anchor (&name) before it is used (*name), or write the value "
    "out",
}


@dataclass(frozen=True)
class Place:
    """Where one entry stands: its key (none in a list) and its value."""

    key: Span | None
    value: Span


@dataclass(frozen=True)
class Document:
    """A read file: its text, its value (none if broken), the place of every path in it, and its
    problems.
    """

    file: str
    text: str
    value: dict[Any, Any] | None
    places: Mapping[Path, Place] = field(default_factory=dict)
    problems: tuple[Diagnostic, ...] = ()


def read(path: FilePath) -> Document:
    """Read and parse a file; one that cannot be read becomes a document with one problem."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as problem:
        fact = f'cannot read "{file}": {problem.strerror or problem}'
        hint = "name a .yaml file in it" if path.is_dir() else ""
        return _broken(file, "", UNREADABLE.at(Span(file), fact, hint))
    if len(data) > MAX_BYTES:
        fact = f"the file is larger than {MAX_BYTES // 1024} KiB"
        return _broken(file, "", NOT_A_RECIPE.at(Span(file), fact, "give the recipe, not the data"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        before = data[: problem.start].decode("utf-8", errors="replace")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        fact = f"byte 0x{data[problem.start]:02x} is not UTF-8"
        return _broken(
            file,
            "",
            ENCODING.at(Span(file, line, column, column + 1), fact, "save the file as UTF-8"),
        )
    return parse(text, file)


def parse(text: str, file: str) -> Document:
    """Parse a text. ``value`` is none where a syntax error or a danger stopped the reading."""
    try:
        _check_depth(text, file)
        loader = Loader(text)
        try:
            root = loader.get_single_node()
            return _document(text, file, loader, root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as problem:
        return _broken(file, text, _syntax(problem, file))
    except (yaml.reader.ReaderError, UnicodeEncodeError) as problem:
        return _broken(file, text, _bad_character(problem.reason, text, file))
    except _Stop as stop:
        return _broken(file, text, stop.problem)


def parse_value(text: str) -> Any:
    """Return the value of one ``key=VALUE`` as a recipe would give it. Raises ``LauncherError`` on
    bad YAML.
    """
    document = parse(f"value: {text}" if text.strip() else "value: ''", "override")
    if document.value is None or set(document.value) != {"value"}:
        raise LauncherError(
            f'cannot read the value "{text}" as YAML', "quote it: key='\"value\"'", exit_code=2
        )
    return document.value["value"]


class _Stop(Exception):
    """A danger found before anything was built."""

    def __init__(self, problem: Diagnostic) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _broken(file: str, text: str, problem: Diagnostic) -> Document:
    return Document(file, text, None, problems=(problem,))


def _check_depth(text: str, file: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                span = _span(event.start_mark, event.end_mark, file)
                raise _Stop(EXPANSION.at(span, f"nested more than {MAX_DEPTH} levels deep"))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _document(text: str, file: str, loader: Any, root: yaml.Node | None) -> Document:
    if not isinstance(root, yaml.MappingNode):
        what = "the file is empty" if root is None else "the file holds no keys and values"
        return _broken(
            file,
            text,
            NOT_A_RECIPE.at(Span(file), what, "start from a recipe: axr copy qwen25-dpo my.yaml"),
        )
    _check_size(root, file)
    problems = [*_bad_scalars(loader, root, file), *_duplicates(root, file)]
    if any(problem.code in (UNSAFE_TAG.code, BAD_SCALAR.code) for problem in problems):
        return Document(file, text, None, problems=tuple(problems))
    value = loader.construct_document(root)  # merges "<<" into the nodes, too
    places: dict[Path, Place] = {}
    _record(loader, root, (), file, places)
    return Document(file, text, value, places, tuple(problems))


def _check_size(root: yaml.Node, file: str) -> None:
    """Stop at recursion and at more than ``MAX_NODES`` values; each alias counts as all that it
    stands for.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        key = id(node)
        if key in open_nodes:
            raise _Stop(
                EXPANSION.at(
                    _node_span(node, file),
                    "an alias stands for a structure that holds the alias itself",
                )
            )
        if key not in sizes:
            open_nodes.add(key)
            sizes[key] = 1 + sum(size(child) for child in _children(node))
            open_nodes.discard(key)
            if sizes[key] > MAX_NODES:
                fact = f"aliases expand to more than {MAX_NODES:,} values"
                raise _Stop(EXPANSION.at(_node_span(node, file), fact, "write the values out"))
        return sizes[key]

    size(root)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Each node once, however often it is aliased."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            stack.extend(_children(node))


def _bad_scalars(loader: Any, root: yaml.Node, file: str) -> Iterator[Diagnostic]:
    for node in _nodes(root):
        if node.tag not in _STANDARD_TAGS and node.tag not in (
            "tag:yaml.org,2002:merge",
            "tag:yaml.org,2002:value",
        ):
            hint = "remove the tag: a recipe holds plain values only"
            yield UNSAFE_TAG.at(_node_span(node, file), f'tag "{node.tag}" is not plain YAML', hint)
        elif isinstance(node, yaml.ScalarNode) and node.tag in _STANDARD_TAGS:
            try:
                loader.construct_object(node)
            except (yaml.YAMLError, *_CONVERSION_ERRORS):
                kind = node.tag.rsplit(":", 1)[-1]
                fact = f'"{node.value[:80]}" has the form of a {kind} but is none'
                yield BAD_SCALAR.at(
                    _node_span(node, file), fact, f'quote it if it is text: "{node.value[:80]}"'
                )


def _duplicates(root: yaml.Node, file: str) -> Iterator[Diagnostic]:
    for mapping in _nodes(root):
        if not isinstance(mapping, yaml.MappingNode):
            continue
        first: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            earlier = first.setdefault((key.tag, key.value), key)
            if earlier is not key:
                related = (Related("first given here", _node_span(earlier, file)),)
                hint = "keep one of the two; PyYAML takes the last"
                yield DUPLICATE.at(
                    _node_span(key, file), f'key "{key.value}" is given twice', hint, related
                )


def _record(
    loader: Any,
    node: yaml.Node,
    path: Path,
    file: str,
    places: dict[Path, Place],
    key: Span | None = None,
) -> None:
    places[path] = Place(key, _node_span(node, file))
    if isinstance(node, yaml.MappingNode):
        for name, child in node.value:
            plain = str(loader.construct_object(name, deep=True))
            _record(loader, child, (*path, plain), file, places, _node_span(name, file))
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _record(loader, child, (*path, str(index)), file, places)


def _node_span(node: yaml.Node, file: str) -> Span:
    return _span(node.start_mark, node.end_mark, file)


def _span(start: Any, end: Any, file: str) -> Span:
    same_line = end.line == start.line and end.column > start.column
    end_column = end.column if same_line else start.column + 1
    return Span(file, start.line + 1, start.column + 1, end_column + 1)


def _syntax(problem: yaml.MarkedYAMLError, file: str) -> Diagnostic:
    mark = problem.problem_mark or problem.context_mark
    span = (
        Span(file) if mark is None else Span(file, mark.line + 1, mark.column + 1, mark.column + 2)
    )
    fact = problem.problem or problem.context or "not YAML"
    code = (
        UNSAFE_TAG
        if isinstance(problem, yaml.constructor.ConstructorError) and "tag" in fact
        else SYNTAX
    )
    hint = next(
        (
            hint
            for words, hint in _HINTS.items()
            if words in fact or words in (problem.context or "")
        ),
        "",
    )
    context = (
        f" ({problem.context}, line {problem.context_mark.line + 1})"
        if problem.context_mark
        else ""
    )
    return code.at(span, f"{fact}{context}", hint)


def _bad_character(reason: str, text: str, file: str) -> Diagnostic:
    position = next(
        (
            i
            for i, letter in enumerate(text)
            if not letter.isprintable() and letter not in "\t\n\r\x85"
        ),
        0,
    )
    line, column = (
        text.count("\n", 0, position) + 1,
        position - (text.rfind("\n", 0, position) + 1) + 1,
    )
    fact = f"character U+{ord(text[position]):04X} is not allowed in YAML ({reason})"
    return SYNTAX.at(Span(file, line, column, column + 1), fact, "delete it")
