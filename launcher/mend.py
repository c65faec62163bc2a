"""Fixes applied to the text of a recipe; what they do not name stays byte for byte as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import yaml

from launcher.diagnostics import BREAK, Diagnostic, Edit
from launcher.hazards import Loader
from launcher.recipe import from_document
from launcher.source import parse
from launcher.validate import validate

ROUNDS = 10  # a fix can show what an earlier mistake hid

Entry = tuple[yaml.MappingNode, int]
Change = tuple[int, int, str]  # start and end in the text, and what to write there


@dataclass(frozen=True)
class Mended:
    """A text with fixes applied, and the problems that they solved."""

    text: str
    fixed: tuple[Diagnostic, ...]


def mend(text: str, file: str, *, unsafe: bool = False) -> Mended:
    """Apply every safe fix to a recipe, and the unsafe ones if asked for, until none is left.

    A fix after which the text could not be read any more is left out.
    """
    fixed: list[Diagnostic] = []
    for _ in range(ROUNDS):
        found = validate(from_document(parse(text, file)))
        due = [problem for problem in found if is_due(problem, unsafe=unsafe)]
        after, solved = _one_round(text, file, due) if due else (text, [])
        if after == text:
            break
        text = after
        fixed += solved
    return Mended(text, tuple(fixed))


def is_due(problem: Diagnostic, *, unsafe: bool) -> bool:
    """Return whether a problem has a fix of the kind asked for."""
    return problem.fix is not None and (problem.fix.safe or unsafe)


def _one_round(text: str, file: str, due: list[Diagnostic]) -> tuple[str, list[Diagnostic]]:
    """Apply all that do not touch each other; where that breaks the text, the first that does
    not.
    """
    for batch in [due, *([problem] for problem in due)]:
        changes, solved = _changes(text, batch)
        after = _rewritten(text, changes)
        if solved and parse(after, file).value is not None:
            return after, solved
    return text, []


def _changes(text: str, problems: Iterable[Diagnostic]) -> tuple[list[Change], list[Diagnostic]]:
    """Return the changes to the text, none within another, and the problems that they solve."""
    starts = [0, *(found.end() for found in BREAK.finditer(text))]
    entries = dict(_entries(text))
    changes: list[Change] = []
    solved = []
    for problem in problems:
        assert problem.fix is not None
        wanted = [_change(text, starts, entries, edit) for edit in problem.fix.edits]
        free = [change for change in wanted if change and not _meets(change, changes)]
        if len(free) == len(wanted):
            changes += free
            solved.append(problem)
    return changes, solved


def _change(
    text: str, starts: list[int], entries: Mapping[tuple[int, int], Entry], edit: Edit
) -> Change | None:
    span = edit.span
    if edit.text is not None:
        line = starts[span.line - 1]
        return line + span.column - 1, line + span.end_column - 1, edit.text
    entry = entries.get((span.line, span.column))
    extent = _extent(text, starts, *entry) if entry else None
    return (*extent, "") if extent else None


def _meets(change: Change, others: Iterable[Change]) -> bool:
    return any(change[0] < end and start < change[1] for start, end, _ in others)


def _rewritten(text: str, changes: list[Change]) -> str:
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _entries(text: str) -> Iterator[tuple[tuple[int, int], Entry]]:
    """Yield the line and column, from 1, of every key, with its mapping and its number there."""
    loader = Loader(text, "")
    stack, seen = [loader.get_single_node()], set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            stack += node.value
        elif isinstance(node, yaml.MappingNode):
            for number, (key, value) in enumerate(node.value):
                yield (key.start_mark.line + 1, key.start_mark.column + 1), (node, number)
                stack.append(value)


def _extent(
    text: str, starts: list[int], mapping: yaml.MappingNode, number: int
) -> tuple[int, int] | None:
    """Return where an entry starts and ends in the text, with the line break or the comma that
    parts it from the next; none where it cannot be cut out.
    """
    pairs = mapping.value
    (key, value), last = pairs[number], number + 1 == len(pairs)
    start, end = key.start_mark.index, _end(text, value)
    if len(pairs) == 1 or end < start:  # nothing would be left; an alias ends where its anchor does
        return None
    following = None if last else pairs[number + 1][0].start_mark.index
    if mapping.flow_style:
        return (start, following) if following else (_end(text, pairs[number - 1][1]), end)
    line = starts[key.start_mark.line]
    if text[line:start].strip():  # the first entry after a dash
        alone = following is None or "#" in text[end:following]
        return None if alone else (start, following or end)
    return line, next((begin for begin in starts if begin >= end), len(text))


def _end(text: str, node: yaml.Node) -> int:
    """Return where the text of a node ends: PyYAML lets a block end where the next token starts."""
    if isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    return len(text[: node.end_mark.index].rstrip())
