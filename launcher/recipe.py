"""Find a recipe, apply ``key=value`` overrides; every value keeps its origin."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from launcher import source
from launcher.diagnostics import BREAK, Diagnostic, LauncherError, Span
from launcher.source import Document, Place

BLOCK = "x-recipe"
COMMAND_LINE = "command line"
SUFFIXES = (".yaml", ".yml")
_TOP_LEVEL_KEY = re.compile(r"""^(?:- )?["']?([A-Za-z_][\w-]*)["']?[ \t]*:(?=\s|$)""", re.MULTILINE)


@dataclass(frozen=True)
class Recipe:
    """A recipe as it will be used: the file's values with the overrides applied.

    ``value`` is empty where the file could not be read; ``problems`` then says why. ``places`` and
    ``texts`` tell where each value was written: in the file, or on the command line. ``malformed``
    are the top-level keys whose values are left out, being of a form that no rule expects.
    """

    name: str
    file: str
    value: Mapping[str, Any]
    places: Mapping[source.Path, Place]
    texts: Mapping[str, str]
    problems: tuple[Diagnostic, ...] = ()
    overrides: tuple[str, ...] = ()
    malformed: frozenset[str] = frozenset()

    @property
    def settings(self) -> dict[str, Any]:
        """What axolotl gets: everything but ``x-recipe``."""
        return {key: value for key, value in self.value.items() if key != BLOCK}

    @property
    def block(self) -> Mapping[str, Any]:
        """The ``x-recipe`` block; empty where there is none."""
        block = self.value.get(BLOCK)
        return block if isinstance(block, dict) else {}

    def key_span(self, *path: str) -> Span:
        """Return where the key at ``path`` stands, or the nearest place above it."""
        place = self._place(path)
        return place.key or place.value

    def value_span(self, *path: str) -> Span:
        """Return where the value at ``path`` stands, or the nearest place above it."""
        return self._place(path).value

    def written(self, span: Span) -> str:
        """Return the text at a place, as it was typed."""
        lines = _lines(self.texts.get(span.file, ""))
        line = lines[span.line - 1] if span.line <= len(lines) else ""
        return line[span.column - 1 : span.end_column - 1]

    def _place(self, path: Sequence[str]) -> Place:
        for length in range(len(path), -1, -1):
            place = self.places.get(tuple(path[:length]))
            if place is not None:
                return place
        return Place(None, Span(self.file))


def pack_folder(part: str) -> Path:
    """Return the shipped folder ``recipes`` or ``schemas``: inside the package in a wheel, beside
    it in a checkout.
    """
    package = Path(__file__).parent
    inside = package / "pack" / part
    return inside if inside.is_dir() else package.parent / part


def located(name: str) -> str:
    """Return the path of a file as axolotl will find it: what stands right here comes first, then
    a shipped one (``recipes/...``), made absolute.
    """
    if name.startswith("recipes/") and not os.path.exists(name):
        found = pack_folder("recipes").parent / name
        return str(found) if os.path.exists(found) else name
    return name


def shipped() -> list[Path]:
    """Return the files of the shipped recipes, by name."""
    return sorted(pack_folder("recipes").glob("*.yaml"))


def find(name: str) -> Path:
    """Return the file of a shipped recipe's name or of a path. Raises ``LauncherError`` with the
    nearest names.
    """
    if name.endswith(SUFFIXES) or "/" in name:
        if not os.path.exists(name):
            raise LauncherError(f'no file "{name}"', _nearest(name), exit_code=2)
        return Path(name)
    for candidate in (
        pack_folder("recipes") / f"{name}.yaml",
        *(Path(name + suffix) for suffix in SUFFIXES),
    ):
        if os.path.isfile(candidate):  # also where the name is too long for any file
            return _short(candidate)
    raise LauncherError(f'no recipe "{name}"', _nearest(name), exit_code=2)


def below(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Return the recipes below a folder, the YAML files that are something else, and the links that
    lead out of the folder, which are not followed: ``--fix`` would write there. Hidden folders are
    left out: environments and caches hold thousands.
    """
    found = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )
    home = folder.resolve()
    files = [file for file in found if file.resolve().is_relative_to(home)]
    chosen = [file for file in files if _looks_like_a_recipe(file)]
    others = [file for file in files if file not in set(chosen)]
    return chosen, others, [file for file in found if file not in set(files)]


def _looks_like_a_recipe(file: Path) -> bool:
    """Whether a file names a base model, or half of its keys are axolotl's. Broken YAML, or a file
    that cannot be read, is no proof that it is something else.
    """
    keys = set(_TOP_LEVEL_KEY.findall(source.read(file).text))
    return not keys or bool(keys & {"base_model", BLOCK}) or 2 * len(keys & _known()) >= len(keys)


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    text = (pack_folder("schemas") / "recipe.schema.json").read_text(encoding="utf-8")
    return frozenset(json.loads(text)["properties"])


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply ``key=value`` overrides, in order. Raises ``LauncherError`` for a
    malformed override.
    """
    return override(from_document(source.read(path)), overrides)


def from_document(document: Document) -> Recipe:
    """Return the recipe that a parsed file holds."""
    texts = {document.file: document.text}
    name = Path(document.file).stem
    return Recipe(
        name, document.file, document.value or {}, document.places, texts, document.problems
    )


def override(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return the recipe with ``key=value`` applied; a dot goes one level down:
    ``datasets.0.path=my.jsonl``.
    """
    if not overrides or not recipe.value:
        return recipe
    value, places = _unshared(recipe.value), dict(recipe.places)
    for number, text in enumerate(overrides, start=1):
        key, separator, given = text.partition("=")
        path = tuple(key.split("."))
        if not separator or not all(path):
            raise LauncherError(
                f'"{text}" is not key=value', "for instance learning_rate=1.0e-5", exit_code=2
            )
        _assign(value, path, source.parse_value(key, given), text)
        for old in [known for known in places if known[: len(path)] == path]:
            del places[old]
        places[path] = Place(
            Span(COMMAND_LINE, number, 1, len(key) + 1),
            Span(COMMAND_LINE, number, len(key) + 2, len(text) + 1),
        )
    texts = {**recipe.texts, COMMAND_LINE: "\n".join(" ".join(BREAK.split(o)) for o in overrides)}
    return Recipe(recipe.name, recipe.file, value, places, texts, recipe.problems, tuple(overrides))


def _unshared(value: Any) -> Any:
    """Copy a value so that what a YAML alias made one object becomes two: an override means one
    place.
    """
    if isinstance(value, Mapping):
        return {key: _unshared(child) for key, child in value.items()}
    return [_unshared(child) for child in value] if isinstance(value, list) else value


def _assign(value: dict[str, Any], path: source.Path, given: Any, text: str) -> None:
    node: Any = value
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(node, list):
            if not (part.isdecimal() and int(part) < len(node)):
                above = ".".join(path[:depth])
                raise LauncherError(
                    f'"{text}": {above} has no entry {part}',
                    f"it has {len(node)}, from 0",
                    exit_code=2,
                )
            key: Any = int(part)
        elif isinstance(node, dict):
            key = part
            if not last and node.get(part) is None:
                node[part] = {}
        else:
            above = ".".join(path[:depth])
            raise LauncherError(
                f'"{text}": {above} is a plain value, it has no "{part}"', exit_code=2
            )
        if last:
            node[key] = given
        else:
            node = node[key]


@lru_cache(maxsize=4)
def _lines(text: str) -> list[str]:
    return BREAK.split(text)


def _nearest(name: str) -> str:
    stems = [path.stem for path in shipped()]
    near = difflib.get_close_matches(Path(name).stem, stems, n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else "axr list shows all recipes"


def _short(path: Path) -> Path:
    """Return the path relative to the working directory where it lies below it: what a person would
    type.
    """
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path
