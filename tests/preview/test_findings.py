"""Every failure of rows, tokenizers and templates is found in rows that have it, and in no others.

Rows go through the real axolotl and TRL, in one child for all cases. The models are folders with a
tokenizer of the family's own special tokens and template; of their vocabulary only the size is
another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.dataset.sample import Sample
from launcher.preview.ask import Renderer, Source
from launcher.preview.rendering import Rendering
from launcher.preview.view import judge
from launcher.recipe import Recipe, from_document
from launcher.source import parse

pytest.importorskip("axolotl")

QWEN, LLAMA = "Qwen/Qwen2.5-3B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"
GEMMA, BASE, GPT2 = "google/gemma-2-2b-it", "Qwen/Qwen2.5-3B", "openai-community/gpt2"
WORDS = ["The quick brown fox jumps over the lazy dog, and the keeper wrote one line a day."]
LONG = "a good answer leaves out what the reader knows " * 20

Row = dict[str, Any]


class Models:
    """Folders of models that have no weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str, embeddings: int = 200_000) -> str:
        """Return the folder that stands for a model."""
        from launcher.standin import tokenizer

        folder = self.folder / f"{name.replace('/', '--')}-{embeddings}"
        if not folder.exists():
            folder.mkdir()
            known = from_document(parse(f"base_model: {name}\n", "a.yaml"))
            tokenizer.write(folder, known, WORDS)
            shape = {"model_type": "llama", "vocab_size": embeddings, "hidden_size": 64}
            (folder / "config.json").write_text(json.dumps(shape))
        return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer(os.environ, Source(online=False)) as child:
        yield child


def recipe(base: str, settings: Row) -> Recipe:
    value = {
        "base_model": base,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "num_epochs": 1,
        "learning_rate": 5.0e-6,
        "sequence_len": 256,
        **settings,
    }
    return from_document(parse(yaml.safe_dump(value), "my.yaml"))


def rendered(
    renderer: Renderer, base: str, settings: Row, rows: list[Row], draw: int = 0
) -> Rendering:
    sample = Sample("datasets", 0, tuple(rows), "a.jsonl", "file", total=len(rows))
    return renderer.ask(recipe(base, settings), [sample], draw=draw)


def dpo(kind: Any = "chat_template.default", **settings: Any) -> Row:
    entry = {"path": "a.jsonl"} | ({"type": kind} if kind else {})
    return {"rl": "dpo", "datasets": [entry], **settings}


def sft(kind: Any = "chat_template", own: Row | None = None, **settings: Any) -> Row:
    return {"datasets": [{"path": "a.jsonl", "type": kind, **(own or {})}], **settings}


def says(role: str, text: str) -> Row:
    return {"role": role, "content": text}


def pair(chosen: str, rejected: str = "It rained all day.", role: str = "user") -> Row:
    return {
        "messages": [says(role, "How was the weather?")],
        "chosen": says("assistant", chosen),
        "rejected": says("assistant", rejected),
    }


def chat(*texts: str, roles: tuple[str, str] = ("user", "assistant")) -> Row:
    return {"messages": [says(roles[n % 2], text) for n, text in enumerate(texts)]}


def alpaca(**columns: str) -> Row:
    return {"instruction": "Name a metal.", "input": "", "output": "Iron.", **columns}


TEMPLATE = {"chat_template": "tokenizer_default"}
FINE = [pair("Fine, and warm."), pair("Dry and sunny."), pair("There was some wind.")]
TALK = [chat("Name a metal.", "Iron."), chat("Name a sea.", "The Baltic.", "And a lake.", "Como.")]
WRITTEN = {"prompt": "Name a metal.", "chosen": "Iron.", "rejected": "Wood."}


@dataclass(frozen=True)
class Case:
    """Rows with a failure and rows without, or settings with it and settings without."""

    code: str
    bad: list[Row]
    good: list[Row]
    settings: Row
    model: str = QWEN
    mended: Row = field(default_factory=dict)  # settings of the good one
    healthy: str = ""  # its model
    embeddings: tuple[int, int] = (200_000, 200_000)
    words: str = ""  # in the message


CASES = {
    "dpo-trim-llama": Case(
        "D110",
        [*FINE, pair("Fine, and warm. ")],
        FINE,
        dpo(**TEMPLATE),
        LLAMA,
        words='the chosen answer is lost in row 4 of 4: the model is trained on ">" instead',
    ),
    "dpo-trim-gemma": Case(
        "D110", [*FINE, pair("Dry.", "Wet. ")], FINE, dpo(**TEMPLATE), GEMMA, words="rejected"
    ),
    "dpo-short-answer": Case(
        "D111",
        [*FINE, pair("A"), pair("Warm.", "user")],
        FINE,
        dpo(**TEMPLATE),
        words="rejected answer is found in the template's own text in row 5 of 5",
    ),
    "dpo-empty": Case("D106", [*FINE, pair("")], FINE, dpo(**TEMPLATE)),
    "dpo-identical": Case("D107", [*FINE, pair("Wet.", "Wet.")], FINE, dpo(**TEMPLATE)),
    "dpo-tool-role": Case(
        "D104", [*FINE, pair("Warm.", role="critic")], FINE, dpo(**TEMPLATE), words='"critic"'
    ),
    "dpo-no-type": Case(
        "D108",
        [{"prompt": [says("user", "Hi.")], "chosen": [says("assistant", "Yes.")], "rejected": []}],
        [WRITTEN],
        dpo(None),
    ),
    "list-as-text": Case(
        "D103",
        [{**WRITTEN, "chosen": [says("assistant", "Iron.")]}],
        [WRITTEN],
        dpo("chatml.prompt_pairs"),
        words='column "chosen" holds lists (row 1 of 1)',
    ),
    "list-as-text-sft": Case(
        "D103",
        [alpaca(instruction=[says("user", "Hi.")])],  # type: ignore[arg-type]
        [alpaca()],
        sft("alpaca"),
    ),
    "long-rows-dropped": Case(
        "D113",
        [*TALK, chat("Go on.", LONG)],
        TALK,
        sft(**TEMPLATE),
        words="datasets[0]: row 3 of 3 is longer than sequence_len 256: 33% of the rows dropped",
    ),
    "long-rows-dropped-dpo": Case(
        "D113", [*FINE, pair(LONG)], FINE, dpo(sequence_len=128, **TEMPLATE)
    ),
    "long-rows-cut": Case(
        "D113",
        [*FINE, pair(LONG)],
        FINE,
        dpo(sequence_len=128, excess_length_strategy="truncate", **TEMPLATE),
        words="rows cut",
    ),
    "long-rows-stop": Case(
        "D114",
        [*TALK, chat("Go on.", LONG)],
        TALK,
        sft(excess_length_strategy="raise", **TEMPLATE),
    ),
    "long-rows-all": Case("D114", [pair(LONG)], FINE, dpo(sequence_len=128, **TEMPLATE)),
    "roles-mismatch": Case(
        "D105",
        [chat("Name a metal.", "Iron.", roles=("user", "bot"))],
        TALK,
        sft(**TEMPLATE),
        words='no row has a role that is trained on ("assistant"); there are "user", "bot"',
    ),
    "roles-mismatch-named": Case(
        "D105",
        TALK,
        TALK,
        sft(own={"roles_to_train": ["reader"]}, **TEMPLATE),
        mended=sft(own={"roles_to_train": ["assistant"]}, **TEMPLATE),
    ),
    "nothing-trained": Case("D112", [*TALK, chat("Name a metal.")], TALK, sft(**TEMPLATE)),
    "columns": Case(
        "D101",
        [alpaca(), {"input": "", "output": "Iron.", "instructions": "Name one."}],
        [alpaca(), alpaca()],
        sft("alpaca"),
        words='row 2 of 2 has no column "instruction"',
    ),
    "json-schema": Case(
        "D102",
        [*TALK, {"messages": "Name a metal."}],
        TALK,
        sft(**TEMPLATE),
        words='column "messages" is a list in row 1 and text in row 3',
    ),
    "row-fails": Case(
        "D115",
        [*TALK, {"messages": [says("user", "Hi."), says("assistant", "Yes.")], "tools": "{"}],
        TALK,
        sft(**TEMPLATE),
        words="axolotl fails at row 3 of 3: JSONDecodeError",
    ),
    "duplicates": Case("D109", [*TALK, TALK[0]], TALK, sft(**TEMPLATE), words="row 3 of 3 repeats"),
    "eval-pack-small": Case(
        "D116",
        TALK * 4,
        TALK * 4,
        sft(sample_packing=True, val_set_size=0.2, dataloader_drop_last=True, **TEMPLATE),
        mended=sft(sample_packing=True, val_set_size=0.2, **TEMPLATE),
    ),
    "eot-not-trained": Case(
        "D201",
        TALK,
        TALK,
        sft(chat_template="chatml"),
        BASE,
        mended=sft(chat_template="chatml", eot_tokens=["<|im_end|>"]),
        words="answers end with <|im_end|>, which is masked: the end that is trained is <|endoft",
    ),
    "template-family": Case(
        "D202",
        TALK,
        TALK,
        sft(chat_template="chatml"),
        LLAMA,
        mended=sft(**TEMPLATE),
        words="<|im_end|>, <|im_start|> are written around the rows",
    ),
    "template-family-undefined": Case(
        "D115", TALK, TALK, sft(chat_template="llama3"), mended=sft(**TEMPLATE), words="bos_token"
    ),
    "template-family-type": Case(
        "D202", [WRITTEN], [WRITTEN], dpo("llama3.prompt_pairs"), mended=dpo("chatml.prompt_pairs")
    ),
    "embeddings-grow": Case(
        "D203",
        TALK,
        TALK,
        sft(tokens=["<keeper>"], **TEMPLATE),
        embeddings=(280, 200_000),
        words="<keeper>",
    ),
    "lora-new-token": Case(
        "D204",
        TALK,
        TALK,
        sft(
            adapter="lora",
            lora_target_linear=True,
            special_tokens={"eos_token": "<|the end of it all|>"},
            **TEMPLATE,
        ),
        mended=sft(
            adapter="lora",
            lora_target_linear=True,
            special_tokens={"eos_token": "<|endoftext|>"},
            **TEMPLATE,
        ),
    ),
    "template-null": Case(
        "D205", TALK, TALK, sft(**TEMPLATE), GPT2, mended=sft(chat_template="chatml")
    ),
    "template-null-dpo": Case("D205", FINE, FINE, dpo(**TEMPLATE), GPT2, healthy=QWEN),
    "bos-twice": Case("D206", FINE, FINE, dpo(**TEMPLATE), LLAMA, healthy=QWEN),
}


@pytest.mark.parametrize("name", CASES)
def test_a_failure_is_found_where_it_is(renderer: Renderer, models: Models, name: str) -> None:
    case = CASES[name]
    bad = found(renderer, models.path(case.model, case.embeddings[0]), case.settings, case.bad)
    assert case.code in bad, bad
    assert case.words in bad[case.code]
    base = models.path(case.healthy or case.model, case.embeddings[1])
    assert case.code not in found(renderer, base, case.mended or case.settings, case.good)


def found(renderer: Renderer, base: str, settings: Row, rows: list[Row]) -> dict[str, str]:
    """Return the messages of what is wrong, by code; the last of each."""
    sample = Sample("datasets", 0, tuple(rows), "a.jsonl", "file", total=len(rows))
    mine = recipe(base, settings)
    answer = renderer.ask(mine, [sample], draw=1)
    return {one.code: one.message for one in judge(mine, [sample], answer)}


def test_healthy_rows_have_no_problem(renderer: Renderer, models: Models) -> None:
    for settings, rows in (
        (dpo(**TEMPLATE), FINE),
        (sft(**TEMPLATE), TALK),
        (sft("alpaca"), [alpaca(), alpaca(instruction="Name a sea.", output="The Baltic.")]),
        (dpo(None), [WRITTEN]),
    ):
        assert found(renderer, models.path(QWEN), settings, rows) == {}


def test_tokenizing_past_the_timeout(renderer: Renderer, models: Models) -> None:
    mine = recipe(models.path(QWEN), dpo(**TEMPLATE, **{"x-recipe": {"needs": {"gpus": 8}}}))
    codes = []
    for total in (len(FINE), 10**10):
        sample = Sample("datasets", 0, tuple(FINE), "Hub: a/b", "hub", total=total)
        answer = renderer.ask(mine, [sample], draw=0)
        codes.append([one.code for one in judge(mine, [sample], answer)])
    assert codes == [[], ["D117"]]


def text(found: Rendering, part: str = "text", *, trained: bool) -> str:
    """Return what of the first row is trained on, or is not."""
    row = found.entries[0].rows[0]
    assert not row.error, row.error
    assert row.parts is not None
    return "".join(token.text for token in row.parts[part] if token.trained is trained)


@pytest.mark.parametrize(
    ("settings", "row", "masked", "trained"),
    [
        (
            sft(**TEMPLATE),
            chat("Name a metal.", "Iron."),
            "user\nName a metal.<|im_end|>\n<|im_start|>assistant\n\n",
            "Iron.<|im_end|>",
        ),
        (
            sft("alpaca"),
            alpaca(),
            "### Instruction:\nName a metal.\n\n### Response:\n",
            "Iron.<|im_end|>",
        ),
        (
            sft({"format": "Q: {instruction}\nA: ", "no_input_format": "Q: {instruction}\nA: "}),
            alpaca(),
            "Q: Name a metal.\nA: ",
            "Iron.<|im_end|>",
        ),
        (sft("completion"), {"text": "The keeper wrote."}, "", "The keeper wrote.<|im_end|>"),
        (
            sft("input_output"),
            {"segments": [{"label": False, "text": "2+2="}, {"label": True, "text": "4"}]},
            "2+2=",
            "4",
        ),
        (
            sft(own={"field_messages": "talk", "message_property_mappings": {
                "role": "from", "content": "value"}}, **TEMPLATE),
            {"talk": [{"from": "human", "value": "Go."}, {"from": "gpt", "value": "Gone \u2603."}]},
            "user\nGo.<|im_end|>\n<|im_start|>assistant\n\n",
            "Gone \u2603.<|im_end|>",
        ),
    ],
    ids=["chat_template", "alpaca", "user-defined", "completion", "input_output", "mapped"],
)  # fmt: skip
def test_what_is_trained_on(
    renderer: Renderer, models: Models, settings: Row, row: Row, masked: str, trained: str
) -> None:
    answer = rendered(renderer, models.path(QWEN), settings, [row], draw=1)
    assert text(answer, trained=True) == trained
    assert text(answer, trained=False).endswith(masked)


@pytest.mark.parametrize(
    ("settings", "row", "prompt", "chosen"),
    [
        (dpo(**TEMPLATE), FINE[0], "assistant\n", "Fine, and warm.<|im_end|>"),
        (dpo(None), WRITTEN, "Name a metal.", "Iron.<|im_end|>"),
        (dpo(**TEMPLATE) | {"rl": "ipo"}, FINE[0], "assistant\n", "Fine, and warm.<|im_end|>"),
        (dpo(**TEMPLATE) | {"rl": "simpo"}, FINE[0], "assistant\n", "Fine, and warm.<|im_end|>"),
        (
            dpo("chat_template.argilla", **TEMPLATE) | {"rl": "orpo"},
            {one: [says("user", "Go."), says("assistant", one)] for one in ("chosen", "rejected")},
            "assistant\n",
            "chosen<|im_end|>\n<|im_end|>",
        ),
        (
            dpo({"prompt_format": "Q: {prompt}\nA: ", "chosen_format": "{chosen}"}),
            WRITTEN,
            "Q: Name a metal.\nA: ",
            "Iron.<|im_end|>",
        ),
    ],
    ids=["dpo", "ready", "ipo", "simpo", "orpo", "user-defined"],
)  # fmt: skip
def test_what_a_pair_becomes(
    renderer: Renderer, models: Models, settings: Row, row: Row, prompt: str, chosen: str
) -> None:
    answer = rendered(renderer, models.path(QWEN), settings, [row], draw=1)
    assert text(answer, "prompt", trained=False).endswith(prompt)
    assert text(answer, "chosen", trained=True) == chosen


def test_of_a_huge_row_the_ends_are_drawn(renderer: Renderer, models: Models) -> None:
    row = alpaca(output="so " * 20_000 + "it ends")
    answer = rendered(
        renderer, models.path(QWEN), sft("alpaca", sequence_len=100_000), [row], draw=1
    )
    drawn = answer.entries[0].rows[0].drawn(300)["text"]
    assert sum(run.tokens for run in drawn) == answer.entries[0].rows[0].longest > 6000
    assert [run.hidden for run in drawn].count(True) == 1
    assert "".join(run.text for run in drawn).endswith("it ends<|im_end|>")


def test_a_judged_answer(renderer: Renderer, models: Models) -> None:
    row = {"prompt": "Name a metal.", "completion": "Iron.", "label": True}
    settings = dpo(None) | {"rl": "kto", "remove_unused_columns": False}
    answer = rendered(renderer, models.path(QWEN), settings, [row], draw=1)
    assert text(answer, "completion", trained=True) == "Iron.<|im_end|>"


def test_a_recipe_that_axolotl_refuses(renderer: Renderer, models: Models) -> None:
    from launcher.diagnostics import LauncherError

    broken = sft(sample_packing=True, streaming=True, val_set_size=0.5, **TEMPLATE)
    with pytest.raises(LauncherError, match="axolotl refuses this recipe"):
        rendered(renderer, models.path(QWEN), broken | {"load_in_4bit": True}, TALK)
    assert text(rendered(renderer, models.path(QWEN), sft(**TEMPLATE), TALK, 1), trained=True)
