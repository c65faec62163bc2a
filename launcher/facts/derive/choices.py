"""Values that axolotl takes as any text, while transformers, TRL, PEFT and wandb know few."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from launcher.facts.derive.source import package

# transformers' classes by the key of a recipe that names one, as far as their names tell them.
CLASSES = {
    "model_type": r"For(CausalLM|ConditionalGeneration|SequenceClassification|TokenClassification)"
    r"|LMHeadModel",
    "tokenizer_type": r"Tokenizer(Fast)?",
    "processor_type": r"Processor",
}


def choices() -> dict[str, list[str]]:
    """Return dotted key -> the values that what reads it knows.

    transformers' enumerations (``TrainingArguments`` makes one of the text); the losses that the
    trainers of TRL compare with; what PEFT's ``LoraConfig`` and wandb's ``Settings`` are typed as
    (a name that ends in [...] is a start).
    """
    import wandb
    from peft import LoraConfig
    from transformers.trainer_utils import HubStrategy, IntervalStrategy, SaveStrategy

    evaluation = sorted(one.value for one in IntervalStrategy)
    wandb_mode = wandb.Settings.model_fields["mode"].annotation
    return {
        "hub_strategy": sorted(one.value for one in HubStrategy),
        "save_strategy": sorted(one.value for one in SaveStrategy),
        "eval_strategy": evaluation,
        "evaluation_strategy": evaluation,
        "wandb_mode": sorted(_literals(wandb_mode)),
        "peft_init_lora_weights": sorted(_literals_of(LoraConfig, "init_lora_weights")),
        "dpo_loss_type": sorted(_compared("trl.trainer.dpo_trainer", "loss_type")),
        "trl.loss_type": sorted(_compared("trl.trainer.grpo_trainer", "loss_type")),
    }


def classes() -> dict[str, list[str]]:
    """Return key -> the classes of transformers that it can name, of those whose names tell, and
    the names for which axolotl's loaders have a branch of their own.
    """
    import transformers

    own = _compared("axolotl.loaders.model", "model_type")
    found = {
        key: {name for name in dir(transformers) if re.search(rf"({end})$", name)}
        for key, end in CLASSES.items()
    }
    found["model_type"] |= {name for name in own if name[:1].isupper()}
    return {key: sorted(names) for key, names in found.items()}


def split_pattern() -> str:
    """Return the pattern, a verbose one, of what ``split`` can say of one split (datasets)."""
    from datasets import arrow_reader

    return str(arrow_reader._SUB_SPEC_RE.pattern)


def _literals(annotation: Any) -> Iterator[str]:
    """Yield the texts of every ``Literal`` in an annotation."""
    for part in get_args(annotation):
        if isinstance(part, str):
            yield part
        elif get_origin(part):
            yield from _literals(part)


def _literals_of(owner: type, field: str) -> Iterator[str]:
    source = package("peft").modules[owner.__module__]
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.AnnAssign) or ast.unparse(node.target) != field:
            continue
        for child in ast.walk(node.annotation):
            if isinstance(child, ast.Constant) and isinstance(child.value, str):
                yield child.value


def _compared(module: str, name: str) -> set[str]:
    """Return the texts that a variable, or an attribute of that name, is compared with."""
    found: set[str] = set()
    for node in ast.walk(package(module.partition(".")[0]).modules[module].tree):
        if isinstance(node, ast.Compare) and ast.unparse(node.left).rpartition(".")[2] == name:
            for other in node.comparators:
                listed = (
                    other.elts if isinstance(other, (ast.List, ast.Tuple, ast.Set)) else [other]
                )
                found |= {
                    str(one.value)
                    for one in listed
                    if isinstance(one, ast.Constant) and isinstance(one.value, str)
                }
    return found
