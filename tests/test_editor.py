"""The recipes in an editor: the YAML language server, which VS Code and Neovim run, is spoken to as
they speak to it. What it offers, shows and underlines comes from the schema and the first line.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Axr

from launcher.recipe import pack_folder, shipped
from launcher.schema.validator import schema

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / ".venv/editor/node_modules/yaml-language-server/bin/yaml-language-server"
NODE = shutil.which("node")
SCHEMA = pack_folder("schemas").resolve() / "recipe.schema.json"
MODELINE = f"# yaml-language-server: $schema={SCHEMA}\n"
START = f"{MODELINE}base_model: org/model\nlearning_rate: 1.0e-5\n"
MISSPELT = "lora_rr"

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


class Editor:
    """One editor: the server as a process, JSON-RPC over its standard input and output."""

    def __init__(self, **settings: Any) -> None:
        assert PROGRAM.exists(), "the language server is not installed: make test does it"
        self.settings = {"validate": True, "hover": True, "completion": True, **settings}
        self.number = 0
        self.problems: dict[str, list[dict[str, Any]]] = {}
        self.process = subprocess.Popen(
            [str(NODE), str(PROGRAM), "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        shown = {"completionItem": {"snippetSupport": True, "documentationFormat": ["markdown"]}}
        capabilities = {
            "workspace": {"configuration": True},
            "textDocument": {"completion": shown, "hover": {"contentFormat": ["markdown"]}},
        }
        self.ask("initialize", processId=None, rootUri=None, capabilities=capabilities)
        self.send(method="initialized", params={})

    def send(self, **message: Any) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Return the next message; the server's own questions are answered."""
        out, length = self.process.stdout, 0
        assert out is not None
        while line := out.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        assert length, "the language server has ended"
        message: dict[str, Any] = json.loads(out.read(length))
        if "id" in message and "method" in message:
            items = message["params"].get("items", [])
            wanted = [self.settings if i["section"] == "yaml" else None for i in items]
            self.send(id=message["id"], result=wanted or None)
        elif message.get("method") == "textDocument/publishDiagnostics":
            self.problems[message["params"]["uri"]] = message["params"]["diagnostics"]
        return message

    def ask(self, method: str, **params: Any) -> Any:
        self.number += 1
        self.send(id=self.number, method=method, params=params)
        while (message := self.receive()).get("id") != self.number or "method" in message:
            pass
        assert "error" not in message, message
        return message["result"]

    def open(self, file: Path, text: str = "") -> list[tuple[int, str]]:
        """Show a file; return its problems, each with its line, from 1."""
        uri = file.as_uri()
        assert uri not in self.problems, "open it once: the server keeps its schema"
        item = {"uri": uri, "languageId": "yaml", "version": 1, "text": text or file.read_text()}
        self.send(method="textDocument/didOpen", params={"textDocument": item})
        while uri not in self.problems:
            self.receive()
        return [(p["range"]["start"]["line"] + 1, p["message"]) for p in self.problems[uri]]

    def at_end(self, method: str, file: Path, text: str) -> Any:
        """Show a text in which ``|`` is the cursor, and ask the server about it."""
        before, _, after = text.partition("|")
        self.open(file, before + after)
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        where = {"position": {"line": line, "character": column}}
        return self.ask(f"textDocument/{method}", textDocument={"uri": file.as_uri()}, **where)

    def offered(self, file: Path, text: str) -> dict[str, str]:
        """Return what is offered at the cursor, with its documentation."""
        found = self.at_end("completion", file, text)["items"]
        return {item["label"]: item.get("documentation") or "" for item in found}

    def close(self) -> None:
        self.ask("shutdown")
        self.send(method="exit")
        self.process.communicate(timeout=20)


@pytest.fixture(scope="module")
def editor() -> Iterator[Editor]:
    one = Editor(schemaStore={"enable": False})
    yield one
    one.close()


def misspelt(text: str) -> tuple[str, int]:
    """Return a recipe with a misspelt key at its end, and the line of that."""
    return f"{text}{MISSPELT}: 16\n", text.count("\n") + 1


# --- what is underlined ---


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_a_shipped_recipe_has_no_squiggle(editor: Editor, path: Path) -> None:
    assert editor.open(path) == []


def test_a_misspelt_key_has_one_at_its_line(editor: Editor) -> None:
    text, line = misspelt(shipped()[0].read_text())
    assert editor.open(ROOT / "recipes" / "misspelt.yaml", text) == [
        (line, f"Property {MISSPELT} is not allowed.")
    ]


def test_wrong_values_and_missing_keys(editor: Editor, tmp_path: Path) -> None:
    text = f"{MODELINE}base_model: a\nrl: dpoo\nmicro_batch_size: two\ndpo_beta: 0.1\n"
    found = editor.open(tmp_path / "f.yaml", text)
    assert sorted(line for line, _ in found) == [2, 3, 4, 5]
    words = {line: message for line, message in found}
    assert "learning_rate" in words[2]
    assert '"dpo"' in words[3]
    assert "integer" in words[4]
    assert words[5] == "dpo_beta is deprecated, use rl_beta instead"


@pytest.mark.parametrize("folder", ["plain", "my recipes/über"])
def test_a_copy_keeps_its_schema(editor: Editor, axr: Axr, tmp_path: Path, folder: str) -> None:
    """Outside the checkout the first line has the absolute path of the schema."""
    copy = tmp_path / folder / "mine.yaml"
    assert axr("copy", "llama31-sft-lora", copy).returncode == 0
    text, line = misspelt(copy.read_text())
    assert text.startswith(MODELINE)
    assert editor.open(copy, text) == [(line, f"Property {MISSPELT} is not allowed.")]


def test_a_copy_of_an_axr_in_a_folder_with_blanks(editor: Editor, axr: Axr, tmp_path: Path) -> None:
    """As installed from a wheel: the schema is in the package. Below it the path is relative."""
    home = tmp_path / "my tools" / "launcher"
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "launcher", home, ignore=leave)
    for part in ("recipes", "schemas"):
        shutil.copytree(ROOT / part, home / "pack" / part)
    for copy in (tmp_path / "mine.yaml", home / "pack" / "here" / "mine.yaml"):
        own = {"PYTHONPATH": str(home.parent)}
        assert axr("copy", "qwen25-dpo", copy, cwd=home.parent, env=own).returncode == 0
        text, line = misspelt(copy.read_text())
        assert ("my%20tools" in text.partition("\n")[0]) == (copy.parent == tmp_path)
        assert editor.open(copy, text) == [(line, f"Property {MISSPELT} is not allowed.")]


def test_the_setting_in_place_of_the_first_line(tmp_path: Path) -> None:
    """README: ``yaml.schemas`` and ``yaml.yamlVersion``."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.partition("```json\n")[2].partition("```")[0]
    settings = json.loads(block.replace("/path/to/recipe.schema.json", str(SCHEMA)))
    own = {key.removeprefix("yaml."): value for key, value in settings.items()}
    one, folder = Editor(schemaStore={"enable": False}, **own), tmp_path / "experiments"
    for path in shipped():
        _, _, text = path.read_text().partition("\n")
        assert one.open(folder / path.name, text) == []
    wrong, line = misspelt(text)
    assert one.open(folder / "a.yaml", wrong) == [(line, f"Property {MISSPELT} is not allowed.")]
    assert one.open(tmp_path / "elsewhere" / "a.yaml", wrong) == []
    as_switch = one.open(folder / "c.yaml", f"{text}hub_strategy: no\n")
    assert [line for line, _ in as_switch] == [text.count("\n") + 1]  # YAML 1.1 reads false
    one.close()


# --- what is offered ---


def test_every_key_is_offered_with_a_word_on_it(editor: Editor, tmp_path: Path) -> None:
    begin = time.monotonic()
    offered = editor.offered(tmp_path / "f.yaml", f"{START}|\n")
    assert time.monotonic() - begin < 5
    assert {"lora_r", "rl", "datasets", "optimizer", "x-recipe"} <= offered.keys()
    assert len(offered) > 400
    assert [key for key, words in offered.items() if not words] == []
    assert "dpo_beta" not in offered  # removed
    assert "bench_split" not in offered  # read by nothing


def test_none_is_not_offered_as_a_value(editor: Editor, tmp_path: Path) -> None:
    found = editor.at_end("completion", tmp_path / "f.yaml", f"{START}|\n")["items"]
    assert not [item for item in found if "null" in item["insertText"]]


@pytest.mark.parametrize(
    ("above", "keys", "others"),
    [
        ("", {"field_messages", "chat_template", "roles_to_train"}, {"field_chosen"}),
        ("rl: dpo\n", {"field_messages", "field_chosen", "split"}, {"roles_to_train"}),
    ],
)
@pytest.mark.parametrize("entry", ["  - |", "  - path: a\n    |", "  - path: a\n    fie|"])
def test_keys_of_a_data_set(
    editor: Editor, tmp_path: Path, above: str, keys: set[str], others: set[str], entry: str
) -> None:
    offered = editor.offered(tmp_path / "f.yaml", f"{START}{above}datasets:\n{entry}\n")
    assert keys <= offered.keys()
    assert not others & offered.keys()
    assert all(offered.values())


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("rl: |", {"dpo", "kto", "orpo", "grpo"}),
        ("chat_template: |", {"chatml", "llama3", "tokenizer_default"}),
        ("adapter: |", {"lora", "qlora"}),
        ("optimizer: |", {"adamw_torch_fused", "paged_adamw_8bit"}),
        ("lr_scheduler: |", {"cosine", "constant_with_warmup"}),
        ("attn_implementation: |", {"flash_attention_2", "sdpa"}),
        ("bf16: |", {"auto", "true", "false"}),
        ("datasets:\n  - path: a\n    type: |", {"alpaca", "chat_template", "completion"}),
        ("rl: dpo\ndatasets:\n  - path: a\n    type: |", {"chat_template.default", "chatml.intel"}),
        ("x-recipe:\n  method: |", {"dpo", "sft"}),
    ],
)
def test_values_are_offered(editor: Editor, tmp_path: Path, text: str, values: set[str]) -> None:
    assert values <= editor.offered(tmp_path / "f.yaml", f"{START}{text}\n").keys()


# --- what is shown ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rl|: dpo", "dpo"),
        ("lora_r|: 16", "rank"),
        ("seed|: 42", "reproducibility"),
        ("datasets|:\n  - path: a", "datasets to finetune"),
        ("datasets:\n  - path|: a\n    type: alpaca", "local file"),
        ("rl: dpo\ndatasets:\n  - field_chosen|: a", "chosen"),
        ("x-recipe:\n  method|: dpo", "What is trained"),
    ],
)
def test_a_key_is_explained(editor: Editor, tmp_path: Path, text: str, words: str) -> None:
    shown = editor.at_end("hover", tmp_path / "f.yaml", f"{START}{text}\n")["contents"]["value"]
    key = text.partition("|")[0].split()[-1]
    assert words in shown
    if "x-recipe" not in text:
        assert shown.startswith(f"#### {key}".replace("_", "\\_"))


def test_every_key_of_the_schema_is_described() -> None:
    shapes = {"": schema(), **schema()["$defs"]}
    bare = [
        f"{name}.{key}"
        for name, shape in shapes.items()
        for key, node in shape.get("properties", {}).items()
        if not node.get("description")
    ]
    assert [key for key in bare if not key.startswith("XRecipe.")] == []
