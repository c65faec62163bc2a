"""The stand-in for a tokenizer: what the real one would mark, without its vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.models.find import shipped
from launcher.recipe import from_document
from launcher.source import parse
from launcher.standin.tokenizer import family, texts, write

TURNS = [{"role": "user", "content": "How are you?"}, {"role": "assistant", "content": "Fine."}]


def tokenizer(folder: Path, model: str):  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer

    write(folder, from_document(parse(f"base_model: {model}", "my.yaml")), texts(TURNS))
    return AutoTokenizer.from_pretrained(folder)


def test_every_text_comes_back(tmp_path: Path) -> None:
    found = tokenizer(tmp_path, "Qwen/Qwen2.5-7B-Instruct")
    for text in ("How are you?", "Größe 東京 🙂\n\n\tend ", "a" * 300):
        assert found.decode(found(text).input_ids) == text


def test_turns_are_marked_by_single_tokens(tmp_path: Path) -> None:
    found = tokenizer(tmp_path, "Qwen/Qwen2.5-7B-Instruct")
    ids = found.apply_chat_template(TURNS, tokenize=True, return_dict=False)
    tokens = found.convert_ids_to_tokens(ids)
    assert tokens.count("<|im_start|>") == 3  # Qwen's template writes a system turn of its own
    assert found.eos_token == "<|im_end|>"
    assert len(found("<|eot_id|>").input_ids) > 1  # another family's


def test_a_llama_begins_with_its_token(tmp_path: Path) -> None:
    found = tokenizer(tmp_path, "meta-llama/Llama-3.1-8B")
    assert found("a").input_ids[0] == found.bos_token_id
    assert found.chat_template is None  # a base model has none


@pytest.mark.parametrize(
    ("name", "eos"),
    [
        ("Qwen/Qwen2.5-7B", "<|endoftext|>"),
        ("meta-llama/Llama-3.1-8B-Instruct", "<|eot_id|>"),
        ("mlabonne/TwinLlama-3.1-8B", "<|end_of_text|>"),
        ("microsoft/Phi-3-mini-4k-instruct", "<|endoftext|>"),
        ("openai-community/gpt2-medium", "<|endoftext|>"),
        ("someone/unknown", "</s>"),
        ("", "</s>"),
    ],
)
def test_the_family_of_a_name(name: str, eos: str) -> None:
    assert family(name)["eos"] == eos


@pytest.mark.parametrize("name", sorted(shipped()))
def test_the_special_tokens_of_a_family_are_its_tokens(name: str) -> None:
    known = family(name)
    named = {known[part] for part in ("bos", "eos", "pad", "unk")} - {None}
    assert named <= set(known["tokens"])
