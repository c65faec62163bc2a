"""YAML text to exactly what ``yaml.safe_load`` gives, with the place of every key and value.

Only standard tags are constructed, and ``hazards`` measures the text before anything is built.
"""

from __future__ import annotations

import codecs
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from launcher.diagnostics import BREAK, Code, Diagnostic, LauncherError, Severity, Span
from launcher.hazards import Loader, Stop, check_size, duplicates, node_span, unusable

Path = tuple[str, ...]  # keys and list indices, as text: ("datasets", "0", "path")

MAX_BYTES = 128 * 1024  # the largest of 252 public axolotl configs has 5 kB

SYNTAX = Code(
    "Y101", "syntax", Severity.ERROR, "The file is no YAML, so nothing of it can be read."
)
ENCODING = Code(
    "Y105", "encoding", Severity.ERROR, "axolotl reads recipes as UTF-8 and stops at anything else."
)
UNREADABLE = Code("Y106", "unreadable", Severity.ERROR, "The file cannot be opened.")
NOT_A_RECIPE = Code(
    "Y107", "not-a-mapping", Severity.ERROR, "A recipe is a mapping of keys to values."
)

_HINTS = {
    "character '\\t' that cannot": "write blanks in place of the tab",
    "cannot start any token": "quote a value that starts with @, ` or %",
    "mapping values are not allowed": 'quote a value that holds ": ", or look for a missing line '
    "break or wrong indent",
    "could not find expected ':'": "a key needs a colon and a blank after it; a line may be "
    "indented by mistake",
    "expected <block end>": "the line is indented differently from its neighbours",
    "expected a single document": "remove the --- line: one file is one recipe",
    "undefined alias": "define the anchor (&name) before it is used (*name), or write the value "
    "out",
    "duplicate anchor": "give the second anchor another name",
    "found unexpected end of stream": "a quote or a bracket is not closed",
    "expected ',' or": "a bracket is not closed, or a comma is missing",
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
            data = stream.read(MAX_BYTES + 1).removeprefix(codecs.BOM_UTF8)
    except OSError as problem:
        fact = f'cannot read "{file}": {problem.strerror or problem}'
        hint = "name a .yaml file in it" if path.is_dir() else ""
        return _broken(file, "", UNREADABLE.at(Span(file), fact, hint))
    if len(data) > MAX_BYTES:
        fact = f"the file is larger than {MAX_BYTES // 1024} KiB"
        return _broken(file, "", NOT_A_RECIPE.at(Span(file), fact, "give the recipe, not the data"))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        before = BREAK.split(data[: problem.start].decode("utf-8"))
        span = Span(file, len(before), len(before[-1]) + 1, len(before[-1]) + 2)
        fact = f"byte 0x{data[problem.start]:02x} is not UTF-8"
        return _broken(file, "", ENCODING.at(span, fact, "save the file as UTF-8"))
    return parse(text, file)


def write(path: FilePath, text: str) -> None:
    """Write a recipe anew, whole or not at all, with its mode and its byte order mark. A link is
    followed. Raises ``LauncherError`` where that is not possible; the file is then as it was.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        mark = codecs.BOM_UTF8 if target.read_bytes().startswith(codecs.BOM_UTF8) else b""
        try:
            temporary.write_bytes(mark + text.encode("utf-8"))
            shutil.copymode(target, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as problem:
        raise LauncherError(f'cannot write "{path}": {problem.strerror or problem}') from None


def parse(text: str, file: str) -> Document:
    """Parse a text. ``value`` is none where a syntax error or a danger stopped the reading."""
    try:
        loader = Loader(text, file)
        try:
            return _document(text, loader)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as problem:
        return _broken(file, text, _syntax(problem, file))
    except yaml.reader.ReaderError:
        return _broken(file, text, _bad_character(text, file))
    except Stop as stop:
        return _broken(file, text, stop.problem)


def parse_value(key: str, text: str) -> Any:
    """Return the value of one ``key=VALUE`` as a recipe would give it. Raises ``LauncherError`` on
    bad YAML, which leaves the value out: it may be a secret.
    """
    document = parse(f"value: {text}" if text.strip() else "value: ''", "override")
    if document.problems or not document.value or set(document.value) != {"value"}:
        raise LauncherError(
            f"cannot read the value of {key} as YAML", f"quote it: {key}='\"value\"'", exit_code=2
        )
    return document.value["value"]


def _broken(file: str, text: str, problem: Diagnostic) -> Document:
    return Document(file, text, None, problems=(problem,))


def _document(text: str, loader: Loader) -> Document:
    root = loader.get_single_node()
    if not isinstance(root, yaml.MappingNode):
        return _no_recipe(text, loader.file)
    check_size(root, loader.file)
    if problems := tuple(unusable(loader, root)):
        return Document(loader.file, text, None, problems=problems)
    problems = tuple(duplicates(loader, root))
    value = loader.construct_document(root)  # merges "<<" into the nodes, too
    if not value or not isinstance(value, dict):
        return _no_recipe(text, loader.file)
    places: dict[Path, Place] = {}
    _record(loader, root, (), places)
    return Document(loader.file, text, value, places, problems)


def _no_recipe(text: str, file: str) -> Document:
    fact = "the file holds no keys and values" if text.strip() else "the file is empty"
    hint = "start from a recipe: axr copy qwen25-dpo my.yaml"
    return _broken(file, text, NOT_A_RECIPE.at(Span(file), fact, hint))


def _record(
    loader: Loader,
    node: yaml.Node,
    path: Path,
    places: dict[Path, Place],
    key: Span | None = None,
) -> None:
    places[path] = Place(key, node_span(node, loader.file))
    if isinstance(node, yaml.MappingNode):
        last = {loader.construct_object(name): (name, child) for name, child in node.value}
        for plain, (name, child) in last.items():
            _record(loader, child, (*path, str(plain)), places, node_span(name, loader.file))
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _record(loader, child, (*path, str(index)), places)


def _syntax(problem: yaml.MarkedYAMLError, file: str) -> Diagnostic:
    fact, context = problem.problem or "not YAML", problem.context or ""
    mark = problem.problem_mark or problem.context_mark
    span = Span(file, mark.line + 1, mark.column + 1, mark.column + 2) if mark else Span(file)
    hints = (hint for words, hint in _HINTS.items() if words in fact or words in context)
    where = f"line {problem.context_mark.line + 1}" if problem.context_mark else ""
    if context and isinstance(problem, yaml.composer.ComposerError):
        fact = f"{context} ({where}), {fact}"  # PyYAML starts the sentence in the context
    elif context and where:
        fact = f"{fact} ({context}, {where})"
    return SYNTAX.at(span, fact, next(hints, ""))


def _bad_character(text: str, file: str) -> Diagnostic:
    found = Loader.NON_PRINTABLE.search(text)
    assert found is not None
    before = BREAK.split(text[: found.start()])
    line, column = len(before), len(before[-1]) + 1
    fact = f"character U+{ord(found[0]):04X} is not allowed in YAML"
    return SYNTAX.at(Span(file, line, column, column + 1), fact, "delete it")
