"""What makes the schema a good one for an editor: a word on every key, values to choose from.

The YAML language server shows ``title`` and ``description`` on hover and offers keys, values and
defaults. As pydantic writes the schema it would offer ``null`` for most keys, show "Lora R", and
have nothing to say of a hundred of them. What the schema accepts stays the same here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

JSON = dict[str, Any]

# What axolotl's schema leaves open, and its code or the Trainer's does not. Without `no`: unquoted
# it is false.
VALUES = {
    "adapter": ("lora", "qlora"),
    "eval_strategy": ("epoch", "steps"),
    "save_strategy": ("best", "epoch", "steps"),
}
BLOCK = "XRecipe"  # written by hand


def descriptions(schemas: Path) -> dict[str, str]:
    """Read the hand-written words in the folder ``schemas``, for what axolotl does not describe: by
    ``key``, ``Definition.key``, or ``*.key`` in any definition.
    """
    loaded: dict[str, str] = json.loads((schemas / "descriptions.json").read_text(encoding="utf-8"))
    return loaded


def dress(schema: JSON, facts: Mapping[str, Any], words: Mapping[str, str]) -> JSON:
    """Return the schema as editors shall have it.

    ``facts`` are those of ``derive.generate``, ``words`` those of ``descriptions``. Raises
    ``ValueError`` for keys that nobody describes.
    """
    for name, key, node in _nodes(schema):
        node["description"] = _words(schema, name, key, words)
    _mark_old(schema["properties"], facts)
    if bare := [f"{name}.{key}" for name, key, node in _nodes(schema) if not node["description"]]:
        raise ValueError(f"describe in schemas/descriptions.json: {', '.join(bare)}")
    for name, shape in schema["$defs"].items():
        if name != BLOCK:  # on hover they would hide what is said of the key
            shape.pop("description", None)
            shape.pop("title", None)
    for _, key, node in _nodes(schema):
        _tidy(key, node)
    _offer(schema, facts)
    return schema


def _nodes(schema: JSON) -> Iterator[tuple[str, str, JSON]]:
    """Yield every key: the definition it belongs to (none at the top level), its name, its node."""
    shapes = {"": schema, **schema["$defs"]}
    for name, shape in shapes.items():
        if name != BLOCK:
            yield from ((name, key, node) for key, node in shape.get("properties", {}).items())


def _words(schema: JSON, name: str, key: str, words: Mapping[str, str]) -> str:
    """Return what is said of a key: by its node, by us, by a data set's node of the same name, or
    by the definition that its value has.
    """
    shape = schema["$defs"].get(name, schema)
    node, twin = shape["properties"][key], schema["$defs"]["SFTDataset"]["properties"].get(key, {})
    refs = [branch["$ref"] for branch in [node, *node.get("anyOf", [])] if "$ref" in branch]
    below = schema["$defs"][refs[0].rsplit("/", 1)[-1]] if refs else {}
    said = (
        node.get("description"),
        node.get("help"),
        words.get(f"{name}.{key}" if name else key),
        twin.get("description") if name.endswith("Dataset") else "",
        words.get(f"*.{key}") if name else "",
        below.get("description"),
    )
    return " ".join(next((text for text in said if text), "").split())


def _tidy(key: str, node: JSON) -> None:
    """Name a key as it is written, offer no ``null``, and fold plain unions into a list of types:
    of a union the editor shows every branch.
    """
    node["title"] = key
    if node.get("default", "") is None:
        del node["default"]
    branches = node.get("anyOf", [])
    *typed, last = branches or [{}]
    if last == {"type": "null"} and all(set(one) == {"type"} for one in typed):
        del node["anyOf"]
        node["type"] = [one["type"] for one in branches]
    if node.get("deprecated"):
        node["doNotSuggest"] = True


def _mark_old(properties: JSON, facts: Mapping[str, Any]) -> None:
    """Say of a key that axolotl has removed what axolotl says; offer none that it does not read."""
    for entry in facts["removed"]:
        if entry["in"] == "" and entry["value"] is None and entry["key"] in properties:
            node = properties[entry["key"]]
            node |= {"deprecated": True, "description": entry["words"], "doNotSuggest": True}
            if not entry["truthy"]:  # there it is the value that is refused, not the key
                node["deprecationMessage"] = entry["words"]
    for key in facts["never_read"]:
        node = properties[key]
        node["description"] = f"Nothing in axolotl reads it. {node['description']}".strip()
        node["doNotSuggest"] = True


def _offer(schema: JSON, facts: Mapping[str, Any]) -> None:
    """Offer the values that the pinned stack has for texts that its schema leaves open."""
    from axolotl.utils.schemas.enums import CANONICAL_ATTN_IMPLS

    installed = [name for name, entry in facts["optimizers"].items() if entry["installed"]]
    values = {
        "optimizer": installed,
        "lr_scheduler": facts["schedulers"],
        "attn_implementation": CANONICAL_ATTN_IMPLS,
        **VALUES,
    }
    for key, names in values.items():
        schema["properties"][key]["defaultSnippets"] = _snippets(names)
    supervised = {*facts["supervised_types"]["names"], *facts["supervised_types"]["bases"]}
    preference = {kind: entry["names"] for kind, entry in facts["preference_types"].items()}
    for name, types in (
        ("SFTDataset", supervised),
        ("DPODataset", preference["dpo"]),
        ("KTODataset", preference["kto"]),
    ):
        node = schema["$defs"][name]["properties"]["type"]
        node["defaultSnippets"] = _snippets(types)


def _snippets(names: Collection[str]) -> list[JSON]:
    return [{"label": name, "body": name} for name in sorted(names)]
