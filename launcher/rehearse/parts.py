"""What a rehearsal does beside training: the stand-in before it, merging and loading after it.

Runs in forks of `launcher.rehearse.child`, where torch and axolotl are imported already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher import recipe as recipes
from launcher.rehearse import events
from launcher.rehearse.deepspeed import complaint
from launcher.rehearse.task import FIRST, Task
from launcher.standin import model as stand_in
from launcher.standin import tokenizer as stand_in_tokenizer

SOURCE, SMALL, RESULT = "source", "small", "model"
MERGED = "merged"  # below the result: where axolotl writes it
QUESTION = "What is the capital of France?"
NEW_TOKENS = 8


def prepare(folder: Path, task: Task) -> None:
    """Make the small model, and a tokenizer where the model's own is not here. Raises `Broken`."""
    events.begin("prepare")
    if not task.own_tokenizer:
        found = recipes.load(Path(task.recipe), task.overrides)
        stand_in_tokenizer.write(folder / SOURCE, found, _texts(folder))
    try:
        count = stand_in.make(
            folder / SOURCE,
            folder / SMALL,
            stand_in_tokenizer=not task.own_tokenizer,
            all_layers=task.all_layers,
        )
    except stand_in.CannotShrink as problem:
        raise events.Broken(f"no small model of this architecture: {problem}") from None
    if task.deepspeed and (words := complaint(task.deepspeed)):
        events.tell(deepspeed=words)
    events.end("prepare", weights=count)


def _texts(folder: Path) -> Iterator[str]:
    for file in sorted((folder / "rows").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield from stand_in_tokenizer.texts(json.loads(line))


def finish(folder: Path, task: Task) -> None:
    """Merge the adapter, load the result as a user would, and let it say something."""
    result = folder / RESULT
    if task.adapter:
        events.begin("merge")
        _merge(folder)
        result = result / MERGED
        events.end("merge", rounded=_rounded(folder / SMALL, result, folder / RESULT))
    events.begin("reload")
    model = _loaded(result)
    tokenizer = _tokenizer(result, folder / RESULT)
    beside = {}
    if task.adapter and not task.quantized:
        beside = {"difference": _difference(folder, model, tokenizer)}
    events.end("reload", **beside)
    events.begin("generate")
    events.end("generate", tokens=_generated(model, tokenizer))


def _merge(folder: Path) -> None:
    import sys

    from axolotl.cli.merge_lora import do_cli

    sys.argv = ["axolotl.cli.merge_lora"]
    do_cli(config=str(folder / FIRST), lora_model_dir=str(folder / RESULT))


def _rounded(base: Path, merged: Path, adapter: Path) -> list[str]:
    """Return the weights that the merge changed, and that neither the adapter trains nor 4 bits
    hold: the embedding, the head.
    """
    before, after = _weights(base, "model"), _weights(merged, "model")
    named = " ".join(_weights(adapter, "adapter_model"))
    return [
        name
        for name in sorted(before.keys() & after.keys())
        if _is_full(name)
        and name.rpartition(".")[0] not in named
        and before[name].shape == after[name].shape
        and not before[name].equal(after[name].to(before[name].dtype))
    ]


def _is_full(name: str) -> bool:
    """Whether weights stay in full precision where the linear layers of the blocks take 4 bits."""
    return any(part in name for part in ("embed", "lm_head", "wte", "norm"))


def _weights(folder: Path, stem: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    files = folder.glob(f"{stem}*.safetensors")
    return {name: weight for file in files for name, weight in load_file(file).items()}


def _difference(folder: Path, merged: Any, tokenizer: Any) -> float:
    """Return how far the merged model's scores are from those with the adapter beside the base."""
    import torch
    from peft import PeftModel

    base = _loaded(folder / SMALL)
    if len(tokenizer) > base.get_input_embeddings().weight.shape[0]:
        base.resize_token_embeddings(merged.get_input_embeddings().weight.shape[0])
    apart = PeftModel.from_pretrained(base, str(folder / RESULT))
    ids = tokenizer(QUESTION, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        first, second = (one.eval()(input_ids=ids).logits for one in (apart, merged))
    return float((first - second).abs().max().item())


def _loaded(folder: Path) -> Any:
    """Load a model as its own config.json says. Raises `Broken` where weights are missing."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    kind = getattr(transformers, (config.architectures or [""])[0], None)
    model, info = (kind or transformers.AutoModelForCausalLM).from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if lost := sorted(map(str, info.get(what) or ())):
            raise events.Broken(f"{what.replace('_', ' ')} in {folder.name}: {', '.join(lost[:3])}")
    return model


def _tokenizer(*folders: Path) -> Any:
    from transformers import AutoTokenizer

    there = [folder for folder in folders if (folder / "tokenizer_config.json").is_file()]
    if not there:
        raise events.Broken("no tokenizer was saved beside the model")
    return AutoTokenizer.from_pretrained(there[0])


def _generated(model: Any, tokenizer: Any) -> int:
    """Return how many tokens the model says to a question, in the chat template if it has one."""
    import torch

    if tokenizer.chat_template:
        batch = tokenizer.apply_chat_template(
            [{"role": "user", "content": QUESTION}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
    else:
        batch = tokenizer(QUESTION, return_tensors="pt")
    with torch.inference_mode():
        said = model.eval().generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
        )
    return int(said.shape[1] - batch["input_ids"].shape[1])
