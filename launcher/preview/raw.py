"""What the rows themselves say, before anything is made of them: it needs no axolotl.

Rows are untrusted. Each check yields at most one problem an entry, with the numbers of the rows.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from launcher.dataset.sample import Sample
from launcher.diagnostics import Code, Diagnostic
from launcher.preview.codes import (
    COLUMN_MISSING,
    DUPLICATE_ROWS,
    EMPTY_ANSWER,
    IDENTICAL_PAIR,
    LIST_AS_TEXT,
    MIXED_TYPES,
    READY_BUT_LISTS,
    ROLE_NEVER_TRAINED,
    ROLE_UNKNOWN,
)
from launcher.preview.columns import Columns, Row, answer, columns, messages
from launcher.recipe import Recipe
from launcher.schema.wording import cut

LISTED = 5  # row numbers in a message
DEEP = 6  # levels of a row that are looked into
SHOWN = 40  # letters of a name out of a row


@dataclass(frozen=True)
class Case:
    """The rows of one entry, with the recipe that names it."""

    recipe: Recipe
    sample: Sample

    @property
    def entry(self) -> Mapping[str, Any]:
        """The entry in the recipe."""
        found = self.recipe.value[self.sample.key][self.sample.index]
        return found if isinstance(found, Mapping) else {}

    @property
    def columns(self) -> Columns | None:
        """What its type reads."""
        return columns(self.recipe, self.entry)

    @property
    def name(self) -> str:
        """How a message calls it: datasets[0]."""
        return f"{self.sample.key}[{self.sample.index}]"

    def path(self, *key: str) -> tuple[str, ...]:
        """Return the path of one of its keys in the recipe."""
        return (self.sample.key, str(self.sample.index), *key)

    def at(self, code: Code, message: str, hint: str = "", key: str = "type") -> Diagnostic:
        """Return a problem at a key of the entry, or at the entry where it has no such key."""
        return code.at(self.recipe.value_span(*self.path(key)), message, hint)

    def numbered(self, numbers: Sequence[int]) -> str:
        """Return which rows: "rows 3, 7 and 12 of 200", "row 3 of 200", "all 200 rows"."""
        total = len(self.sample.rows)
        if len(numbers) == total > 1:
            return f"all {total:,} rows"
        shown = [f"{number:,}" for number in numbers[:LISTED]]
        rest = len(numbers) - len(shown)
        if rest:
            shown.append(f"{rest:,} more")
        text = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
        return f"row{'s' * (len(numbers) > 1)} {text} of {total:,}"


def check(case: Case) -> Iterator[Diagnostic]:
    """Yield what is wrong with the rows of an entry."""
    yield from _mixed(case)
    yield from _duplicates(case)
    read = case.columns
    if read is None:
        return
    yield from chain(
        _missing(case, read),
        _lists(case, read),
        _roles(case, read),
        _answers(case, read),
    )


def _missing(case: Case, read: Columns) -> Iterator[Diagnostic]:
    rows = case.sample.rows
    for names in read.needed:
        without = _numbers(rows, lambda row, names=names: all(row.get(n) is None for n in names))
        if not without:
            continue
        there = list(dict.fromkeys(str(name) for row in rows for name in row))
        wanted = " or ".join(f'"{name}"' for name in names)
        example = rows[without[0] - 1]
        known = any(name in example for name in names)
        some = "nothing in" if known else "no"
        fact = f"{case.name}: {case.numbered(without)} {_have(without)} {some} column {wanted}"
        listed = ", ".join(cut(name, SHOWN) for name in there[:12])
        fact += f"; there are {listed}" if there else "; they are empty"
        near = [] if known else difflib.get_close_matches(names[0], map(str, example), 1)
        hint = f'rename the column "{near[0]}" to "{names[0]}"' if near else ""
        yield case.at(COLUMN_MISSING, fact, hint or "use a type that reads these columns")


def _mixed(case: Case) -> Iterator[Diagnostic]:
    found: dict[str, dict[str, int]] = {}
    for number, row in enumerate(case.sample.rows, start=1):
        for path, kind in _kinds(row):
            found.setdefault(path, {}).setdefault(kind, number)
    for path, kinds in found.items():
        if len(kinds) > 1:
            parts = [f"{kind} in row {row:,}" for kind, row in kinds.items()]
            fact = f'{case.name}: column "{cut(path, SHOWN)}" is {" and ".join(parts)}'
            hint = "write the same kind of value in every row"
            yield case.at(MIXED_TYPES, fact, hint, "path")


def _kinds(value: Any, path: str = "", depth: int = DEEP) -> Iterator[tuple[str, str]]:
    """Yield the path and the kind of each value. Whole numbers and fractions are of one kind."""
    if isinstance(value, Mapping):
        if path:
            yield path, "a mapping"
        for key, child in value.items() if depth else ():
            yield from _kinds(child, f"{path}.{key}" if path else str(key), depth - 1)
    elif isinstance(value, list | tuple):
        yield path, "a list"
        for child in value if depth else ():
            yield from _kinds(child, f"{path}[]", depth - 1)
    elif value is not None:
        names = {bool: "true or false", int: "a number", float: "a number", str: "text"}
        yield path, names.get(type(value), type(value).__name__)


def _lists(case: Case, read: Columns) -> Iterator[Diagnostic]:
    for name in read.texts:
        wrong = _numbers(
            case.sample.rows, lambda row, name=name: isinstance(row.get(name), list | dict)
        )
        if not wrong:
            continue
        kind = "lists" if isinstance(case.sample.rows[wrong[0] - 1][name], list) else "mappings"
        method = case.recipe.value.get("rl")
        hint = f"type: {'chat_template.default' if method else 'chat_template'}"
        if read.ready:
            fact = f'{case.name} has no type, and column "{name}" holds {kind}: '
            yield case.at(READY_BUT_LISTS, fact + case.numbered(wrong), hint, "path")
        else:
            fact = f'{case.name}: column "{name}" holds {kind} ({case.numbered(wrong)})'
            yield case.at(LIST_AS_TEXT, f"{fact}, which this type writes as Python text", hint)


def _roles(case: Case, read: Columns) -> Iterator[Diagnostic]:
    if read.roles is None:
        return
    rows = case.sample.rows
    named = (one[read.role] for row in rows for one in messages(row, read) if read.role in one)
    found = list(dict.fromkeys(map(str, named)))
    unknown = [role for role in found if role not in read.roles]
    if read.strict and unknown:
        wrong = _numbers(
            rows, lambda row: any(str(m.get(read.role)) in unknown for m in messages(row, read))
        )
        fact = f"{case.name}: {case.numbered(wrong)} {_have(wrong)} the role {_quoted(unknown)}"
        hint = f"rename it in the rows: {', '.join(dict.fromkeys(read.roles.values()))} are known"
        yield case.at(ROLE_UNKNOWN, fact, hint)
    elif not case.recipe.value.get("rl") and found:
        yield from _trained_roles(case, read, found)


def _trained_roles(case: Case, read: Columns, found: Sequence[str]) -> Iterator[Diagnostic]:
    wanted = case.entry.get("roles_to_train", ["assistant"])
    own = ("message_field_training", "message_field_training_detail")
    ends = {case.entry.get("train_on_eos"), case.entry.get("train_on_eot")} & {"all", "last"}
    if case.recipe.value.get("train_on_inputs") or any(map(case.entry.get, own)) or ends:
        return
    roles = read.roles or {}
    trained = {roles.get(str(role), str(role)) for role in wanted or ()}
    if not trained & {roles.get(role, role) for role in found}:
        fact = f"{case.name}: no row has a role that is trained on ({_quoted(sorted(trained))}); "
        fact += f"there are {_quoted(found)}"
        speaks = [role for role in found if roles.get(role) not in ("user", "system", "tool")]
        hint = f"roles: {{assistant: [{cut((speaks or found)[-1], SHOWN)}]}}"
        key = "roles_to_train" if "roles_to_train" in case.entry else "type"
        yield case.at(ROLE_NEVER_TRAINED, fact, hint, key)


def _answers(case: Case, read: Columns) -> Iterator[Diagnostic]:
    if read.pair is None:
        return
    rows, hint = case.sample.rows, "delete these rows"
    for name in read.pair:
        empty = _numbers(rows, lambda row, name=name: answer(row.get(name), read.content) == "")
        if empty:
            fact = f'{case.name}: the answer "{name}" is empty in {case.numbered(empty)}'
            yield case.at(EMPTY_ANSWER, fact, hint, "path")
    first, second = read.pair
    same = _numbers(
        rows,
        lambda row: (
            isinstance(answer(row.get(first), read.content), str)
            and answer(row.get(first), read.content) == answer(row.get(second), read.content)
        ),
    )
    if same:
        fact = f'{case.name}: "{first}" and "{second}" are the same in {case.numbered(same)}'
        yield case.at(IDENTICAL_PAIR, fact, hint, "path")


def _duplicates(case: Case) -> Iterator[Diagnostic]:
    if case.recipe.value.get("dataset_exact_deduplication"):
        return
    seen: set[str] = set()
    again = []
    for number, row in enumerate(case.sample.rows, start=1):
        text = json.dumps(row, sort_keys=True, default=str)
        if text in seen:
            again.append(number)
        seen.add(text)
    if again:
        fact = f"{case.name}: {case.numbered(again)} {'repeat' if len(again) > 1 else 'repeats'}"
        hint = "dataset_exact_deduplication: true"
        yield case.at(DUPLICATE_ROWS, f"{fact} an earlier row", hint, "path")


def _numbers(rows: Sequence[Row], wrong: Any) -> list[int]:
    return [number for number, row in enumerate(rows, start=1) if wrong(row)]


def _have(numbers: Sequence[int]) -> str:
    return "have" if len(numbers) > 1 else "has"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{cut(str(name), SHOWN)}"' for name in names[:LISTED])
