"""Every shipped recipe: clean, in form, true to what it says, and accepted by axolotl with no key
dropped.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from launcher import recipe as recipes
from launcher import upstream
from launcher.recipe import BLOCK, Recipe
from launcher.validate import validate

FILES = recipes.shipped()
EXPECTED = {
    "gpt2-sft-alpaca",
    "llama31-dpo-lora",
    "llama31-dpo-qlora",
    "llama31-sft-lora",
    "llama31-sft-qlora",
    "phi3-sft-lora",
    "qwen25-dpo",
    "qwen25-sft",
    "smollm2-dpo",
}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return recipes.load(request.param)


def text_of(recipe: Recipe) -> str:
    return recipe.texts[recipe.file]


def test_none_is_missed(axr) -> None:
    listed = [
        json.loads(line)["name"] for line in axr("list", "--format", "json").stdout.splitlines()
    ]
    yaml_files = {path.stem for path in recipes.pack_folder("recipes").rglob("*.y*ml")}
    assert set(listed) == yaml_files == EXPECTED
    assert len(listed) == len(FILES)


def test_has_no_problem(recipe: Recipe) -> None:
    assert validate(recipe) == []


def test_is_what_pyyaml_reads(recipe: Recipe) -> None:
    assert recipe.value == yaml.safe_load(text_of(recipe))


def test_starts_with_modeline_and_prose(recipe: Recipe) -> None:
    first, *rest = text_of(recipe).splitlines()
    assert first == "# yaml-language-server: $schema=../schemas/recipe.schema.json"
    prose = rest[: rest.index("")]
    assert 2 <= len(prose) <= 5
    assert all(line.startswith("# ") for line in prose)


def test_has_no_empty_or_commented_out_key(recipe: Recipe) -> None:
    text = text_of(recipe)
    assert None not in recipe.value.values()
    assert not re.search(r"^\s*# ?[a-z_]+:( |$)(?!.* .* )", text, re.MULTILINE)
    assert not re.search(r"[&*][a-z]\w*\s*$", text, re.MULTILINE), "no anchors"


def test_every_block_has_a_comment_and_a_blank_line_before_it(recipe: Recipe) -> None:
    blocks = text_of(recipe).split("\n\n")[1:]
    assert blocks[0].startswith(f"{BLOCK}:")
    assert all(block.startswith("# ") for block in blocks[1:])


def test_the_blocks_come_in_the_common_order(recipe: Recipe) -> None:
    order = [
        "base_model",
        "datasets",
        "sequence_len",
        "micro_batch_size",
        "optimizer",
        "bf16",
        "output_dir",
    ]
    places = [recipe.key_span(key).line for key in order]
    assert all(before < after for before, after in pairwise(places))


def test_the_batch_in_the_comment_is_the_batch(recipe: Recipe) -> None:
    """The arithmetic that a person reads: 2 x 8 x 1 GPU = 16 pairs a step."""
    stated = re.search(r"(\d+) x (\d+) x (\d+)[^=\n]*= (\d+)", text_of(recipe))
    assert stated
    micro, steps, gpus, batch = map(int, stated.groups())
    assert (micro, steps) == (
        recipe.value["micro_batch_size"],
        recipe.value["gradient_accumulation_steps"],
    )
    assert gpus == recipe.block["needs"]["gpus"]
    assert micro * steps * gpus == batch == recipe.block["global_batch_size"]


def test_the_disk_sum_in_the_comment_is_right(recipe: Recipe) -> None:
    total = recipe.block["needs"]["disk"]
    reasons = re.search(r"# GiB: (.*)", text_of(recipe))
    assert reasons
    assert sum(int(part) for part in re.findall(r"(?:^|\+ )(\d+)", reasons[1])) == total


def test_method_is_what_the_settings_train(recipe: Recipe) -> None:
    assert recipe.block["method"] == recipe.value.get("rl", "sft")


def test_is_evaluated_if_rows_are_held_out(recipe: Recipe) -> None:
    """axolotl holds rows out and never evaluates them when no schedule is given."""
    held_out = recipe.value.get("val_set_size") or recipe.value.get("test_datasets")
    scheduled = any(
        recipe.value.get(key) for key in ("eval_steps", "evals_per_epoch", "eval_strategy")
    )
    assert bool(held_out) == scheduled


def test_shipped_files_exist(recipe: Recipe) -> None:
    named = re.findall(r"recipes/[\w./-]+", text_of(recipe))
    root = recipes.pack_folder("recipes").parent
    assert all((root / name).is_file() for name in named)


@pytest.mark.slow
def test_axolotl_accepts_all_on_the_gpus_that_they_name_and_drops_no_key() -> None:
    loaded = [recipes.load(path) for path in FILES]
    found = upstream.verdicts([upstream.question(recipe) for recipe in loaded])
    assert {r.name: (v.errors, v.dropped) for r, v in zip(loaded, found, strict=True)} == {
        r.name: ((), ()) for r in loaded
    }


@pytest.mark.parametrize(
    "path", sorted(recipes.pack_folder("recipes").glob("deepspeed/*.json")), ids=lambda p: p.stem
)
def test_deepspeed_config_is_parsed_by_deepspeed(path: Path) -> None:
    deepspeed = pytest.importorskip("deepspeed.runtime.config")
    config = json.loads(path.read_text(encoding="utf-8"))
    assert config["bf16"] == {"enabled": True} or config["bf16"]["enabled"] in ("auto", True)
    assert ("offload_optimizer" in config["zero_optimization"]) == path.stem.endswith("-offload")
    filled = json.loads(re.sub(r'"auto"', "1", json.dumps(config)))
    filled["bf16"] = {"enabled": True}
    filled |= {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1}
    filled.pop("train_batch_size", None)
    parsed = deepspeed.DeepSpeedConfig(filled)
    assert parsed.zero_optimization_stage == config["zero_optimization"]["stage"]
