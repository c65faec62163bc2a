"""Random models of a few thousand weights, small data files, and real axolotl in a child process.

Nothing here touches a network. The models know nothing; they train, save and generate like large
ones, in seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

Family = Literal["llama", "qwen2", "gpt2", "phi3"]
Row = dict[str, Any]

VOCABULARY = 600
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# What the tokenizer is trained on: changing it changes every tiny model.
TEXT = """\
The lighthouse keeper wrote one line a day into the log: the weather, the ships that passed, and
whether the lamp had burned all night. In spring the lines were short. Wind from the west, four
ships, lamp good. In winter he wrote more, because there was nothing else to do, and because the
nights were long enough to think about what the short lines had left out. He had learned that a
good answer is a short answer which leaves out only what the reader already knows.

What is the capital of France? Paris. What is the capital of Italy? Rome. How many days are there
in a week? Seven. How many minutes are there in an hour? Sixty. Which planet is the largest?
Jupiter. Which metal is liquid at room temperature? Mercury. Who wrote the play about the prince
of Denmark? Shakespeare. What colour is the sky on a clear day? Blue. What do bees make? Honey.
What is the opposite of hot? Cold. Name three primary colours: red, yellow and blue.

A model is trained in steps. At every step it reads a batch, compares what it would have said with
what it should have said, and moves its weights a little. When the learning rate is too high the
loss jumps about; when it is too low nothing happens at all. The person who pays for the machine
by the hour would like to know which of the two it is before the money is spent, so the first ten
steps are worth watching. They tell more than the last thousand.

"It is late," said the keeper's daughter, "and the boat is not in." "It will come," he said. "It
always has." They looked at the water for a while and did not speak. Then a light appeared beyond
the rocks, small and yellow, and it moved.
"""


def make_model(folder: Path, family: Family = "llama", seed: int = 0) -> Path:
    """Save a random model of two layers and hidden size 64 with a ChatML tokenizer into ``folder``.

    The same family and seed give the same weights. Returns ``folder``, which any ``base_model:``
    can name.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    tokenizer = _tokenizer()
    ids = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(_config(family, len(tokenizer), ids))
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer  # its stub lacks annotations
    special = list(SPECIAL_TOKENS)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        [TEXT],
        trainer(
            vocab_size=VOCABULARY,
            special_tokens=special,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


def _config(family: Family, vocabulary: int, ids: Mapping[str, int | None]) -> Any:
    from transformers import GPT2Config, LlamaConfig, Phi3Config, Qwen2Config

    if family == "gpt2":
        # With tied embeddings, GPT-2's default, a random model says its last token for ever.
        return GPT2Config(
            vocab_size=vocabulary,
            n_positions=1024,
            n_embd=64,
            n_layer=2,
            n_head=4,
            tie_word_embeddings=False,
            **ids,
        )
    config = {"llama": LlamaConfig, "qwen2": Qwen2Config, "phi3": Phi3Config}[family]
    return config(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        **ids,
    )


_QUESTIONS = (
    (
        "What is the capital of France?",
        "Paris.",
        "It is a city that many people know, and it is Paris.",
    ),
    ("How many days are there in a week?", "Seven.", "Counted all one after another, seven days."),
    ("What do bees make?", "Honey.", "Bees make many things in a day, but mostly they make honey."),
    ("Which planet is the largest?", "Jupiter.", "Larger than all the others would be Jupiter."),
    ("What is the opposite of hot?", "Cold.", "Something that is not hot at all, which is cold."),
)


def make_dpo_rows(file: Path, count: int = 32) -> Path:
    """Write ``count`` pairs, short answer chosen over long, for ``type: chat_template.default``."""
    rows: list[Row] = []
    for number, (question, short, long) in _questions(count):
        rows.append(
            {
                "messages": [{"role": "user", "content": f"{number}. {question}"}],
                "chosen": {"role": "assistant", "content": short},
                "rejected": {"role": "assistant", "content": long},
            }
        )
    return write_rows(file, rows)


def make_sft_rows(file: Path, count: int = 32) -> Path:
    """Write ``count`` instructions with their outputs for ``type: alpaca``."""
    return write_rows(
        file,
        [
            {"instruction": question, "input": f"Question {number}.", "output": short}
            for number, (question, short, _) in _questions(count)
        ],
    )


def _questions(count: int) -> list[tuple[int, tuple[str, str, str]]]:
    return [(number, _QUESTIONS[number % len(_QUESTIONS)]) for number in range(count)]


def write_rows(file: Path, rows: Sequence[Row]) -> Path:
    """Write one JSON object a line and return ``file``."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def read_rows(file: Path) -> list[Row]:
    """Read one JSON object a line, refusing the NaN and Infinity that Python would let pass."""
    return [
        json.loads(line, parse_constant=_refuse)
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def dpo_config(model: Path, rows: Path, output: Path, **changes: Any) -> Row:
    """Return an axolotl config: four steps of LoRA DPO on the CPU, with ``changes`` to its keys."""
    config: Row = {
        "base_model": str(model),
        "adapter": "lora",
        "lora_r": 8,
        "lora_alpha": 16,
        "lora_target_linear": True,
        "rl": "dpo",
        "rl_beta": 0.1,
        "datasets": [
            {
                "path": str(rows),
                "ds_type": "json",
                "split": "train",
                "type": "chat_template.default",
                "field_messages": "messages",
                "field_chosen": "chosen",
                "field_rejected": "rejected",
            }
        ],
        "dataset_prepared_path": str(output.parent / "prepared"),
        "chat_template": "tokenizer_default",
        "sequence_len": 256,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "max_steps": 4,
        "learning_rate": 0.001,
        "lr_scheduler": "constant",
        "optimizer": "adamw_torch",
        "bf16": False,
        "fp16": False,
        "tf32": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": 42,
        "output_dir": str(output),
    }
    return config | changes


def child_environment(folder: Path, **extra: str) -> dict[str, str]:
    """Return an environment with no GPU, hub or telemetry, one thread, caches below ``folder``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ACCELERATE_", "AXR_"))
    }
    return kept | {
        "AXOLOTL_DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **extra,
    }


def run_axolotl(
    config: Mapping[str, Any], folder: Path, *, ranks: int = 1, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Train ``config`` with real axolotl in a child process; several ranks run under accelerate.

    The config is written to ``folder/config.yaml``; the child's two streams come back as
    ``stdout``. A child that takes over five minutes is killed and raises
    subprocess.TimeoutExpired.
    """
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    command = [sys.executable, "-m"]
    if ranks > 1:
        # "--cpu" would silently start one process; this form starts them all, over gloo.
        launch = f"accelerate.commands.launch --multi_gpu --num_processes {ranks} --num_machines 1"
        options = "--mixed_precision no --dynamo_backend no --main_process_port 0 -m"
        command += [*launch.split(), *options.split()]
        environment = {"ACCELERATE_USE_CPU": "1", **environment}
    return subprocess.run(
        [*command, "axolotl.cli.train", str(file)],
        cwd=folder,
        env=child_environment(folder, **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
