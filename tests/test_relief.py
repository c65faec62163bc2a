"""A GPU that ran out of memory: what is read off torch's words, and what is proposed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_cli import Stack

from launcher import hardware, models, resume
from launcher import recipe as recipes
from launcher.cli import memory_panel
from launcher.hardware import GIB
from launcher.plan.fit import Saving
from launcher.plan.forecast import Forecast, Hardware, forecast
from launcher.plan.memory import MARGIN
from launcher.plan.relief import Shortage, evaluating, relief, shortage

MIB = 2**20
# As torch worded it in public reports: 2.x (axolotl#1717, a rank of four), 2.1 (axolotl#998, its
# numbers wrapped around) and before (pytorch#16417).
NOW = (
    "[rank1]: torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 112.00 MiB. GPU  "
    "has a total capacity of 23.68 GiB of which 60.31 MiB is free. Including non-PyTorch memory, "
    "this process has 23.61 GiB memory in use. Of the allocated memory 23.15 GiB is allocated by "
    "PyTorch, and 64.54 MiB is reserved by PyTorch but unallocated. If reserved but unallocated "
    "memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
)
WRAPPED = (
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a "
    "total capacty of 24.00 GiB of which 0 bytes is free. Including non-PyTorch memory, this "
    "process has 17179869184.00 GiB memory in use. Of the allocated memory 23.01 GiB is allocated "
    "by PyTorch, and 121.23 MiB is reserved by PyTorch but unallocated."
)
BEFORE = (
    "RuntimeError: CUDA out of memory. Tried to allocate 512.00 MiB (GPU 0; 10.91 GiB total "
    "capacity; 9.28 GiB already allocated; 44.75 MiB free; 9.35 GiB reserved in total by PyTorch)"
)
EVALUATION = [
    "Traceback (most recent call last):",
    '  File "/x/transformers/trainer.py", line 2751, in evaluation_loop',
    "    losses, logits, labels = self.prediction_step(model, inputs, prediction_loss_only)",
]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (NOW, Shortage(112 * MIB, 23.68 * GIB, 60.31 * MIB, 23.15 * GIB, 64.54 * MIB)),
        (WRAPPED, Shortage(20 * MIB, 24 * GIB, 0, 23.01 * GIB, 121.23 * MIB)),
        (BEFORE, Shortage(512 * MIB, 10.91 * GIB, 44.75 * MIB, 9.28 * GIB)),
    ],
)
def test_what_torch_says_in_numbers(line: str, found: Shortage) -> None:
    assert shortage(["Traceback", line, "next"]) == found
    assert shortage([*EVALUATION, line]) == replace(found, evaluating=True)
    assert shortage([line, "resumed", NOW]) == shortage([NOW])


def test_words_without_numbers_are_no_shortage() -> None:
    words = ["RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED", "CUDA out of memory.", ""]
    assert shortage(words) is None
    assert shortage(["CUDA out of memory. Tried to allocate 9.9.9 PiB. GPU"]) is None
    assert shortage([NOW.replace("23.68 GiB", "1.2.3 GiB")]) is None
    assert shortage(["CUDA out of memory. Tried to allocate 1.00 GiB and no more words"]) is None
    assert evaluating(EVALUATION)
    assert not evaluating(["in training_step"])


def planned(name: str) -> Forecast:
    recipe = recipes.load(recipes.find(name))
    needs = recipe.block["needs"]
    facts = models.find(str(recipe.value["base_model"]), {})
    return forecast(recipe, facts, Hardware(hardware.find(needs["gpu"]), needs["gpus"]), None)


ON_GPUS = [
    path.stem for path in recipes.shipped() if recipes.load(path).block["needs"]["gpu"] != "none"
]


def full(found: Forecast, more: float) -> Shortage:
    """Return a card that was full, where so much more stood in it than the formula says."""
    tried, card = 1.0 * GIB, found.hardware.gpu.memory_bytes
    usable = min(card - found.memory.context, more * found.memory.allocated - tried / 2)
    return Shortage(tried, card, 0.5 * GIB, usable - 0.5 * GIB)


@pytest.mark.parametrize("name", ON_GPUS)
@pytest.mark.parametrize("more", [0.8, 1.0, 1.3])
def test_what_is_proposed_is_enough_where_the_plan_was_not(name: str, more: float) -> None:
    found = planned(name)
    short = full(found, more)
    help_ = relief(found, None, short)
    peak = found.memory.peak.terms
    assert peak[help_.term] == max(peak.values()) == help_.bytes
    real = max(1.0, (short.allocated + short.tried) / found.memory.allocated)
    for saving in help_.savings:
        assert saving.after.memory.allocated * real * MARGIN <= short.usable + 1
        assert saving.bytes * real >= MARGIN * short.missing
    if help_.gpu:
        assert help_.savings == ()
        assert help_.gpu.memory_bytes > found.hardware.gpu.memory_bytes


def test_a_card_with_hardly_any_room_needs_a_larger_one() -> None:
    found = planned("gpt2-sft-alpaca")
    taken = Shortage(1.0 * GIB, 22 * GIB, 0.0, 1.0 * GIB)  # another process holds the rest
    help_ = relief(found, None, taken)
    assert help_.savings == ()
    assert help_.gpu is not None
    assert help_.gpu.memory > found.hardware.gpu.memory


def test_another_model_is_proposed_last() -> None:
    def quantizes(one: Saving) -> bool:
        return "load_in_4bit" in one.settings

    found = relief(planned("llama31-dpo-lora"), None, None).savings
    assert sorted(found, key=quantizes) == list(found)
    assert not quantizes(found[0])


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def gpu_run(stack: Stack, *lines: str, override: str = "") -> str:
    """Return what `axr train` says of a training on one A100 that prints these lines and fails."""
    stack.gpus(1)
    (stack.folder / "said").write_text("\n".join(lines) + "\n")
    stack.trainer(f"cat {stack.folder / 'said'}; exit 1")
    words = [override] if override else []
    code, _, said = stack.run("train", "llama31-dpo-lora", *words, "--skip-doctor")
    assert code == 1
    return said


FULL_A100 = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 3.91 GiB. GPU 0 has a total "
    "capacity of 79.15 GiB of which 2.10 GiB is free. Including non-PyTorch memory, this process "
    "has 77.04 GiB memory in use. Of the allocated memory 75.80 GiB is allocated by PyTorch, and "
    "301.22 MiB is reserved by PyTorch but unallocated."
)


def test_a_run_out_of_memory_is_told_what_would_fit(stack: Stack) -> None:
    said = gpu_run(stack, "Traceback (most recent call last):", FULL_A100)
    assert "cause    a GPU ran out of memory: torch.OutOfMemoryError" in said
    assert "memory   the plan's largest term is activations, 26.6 of 50.2 GiB" in said
    assert "torch had 75.8 allocated and wanted 3.9 more, 78.2 could be had" in said
    (run,) = stack.runs.iterdir()
    assert f"next: axr train {run} micro_batch_size=1" in said


def test_in_an_evaluation_its_batch_is_named(stack: Stack) -> None:
    said = gpu_run(stack, *EVALUATION, FULL_A100, override="eval_batch_size=4")
    assert "help     it ran out while evaluating, 4 rows at a time" in said
    (run,) = stack.runs.iterdir()
    assert f"next: axr train {run} eval_batch_size=1" in said


def test_of_what_is_enough_that_comes_first_with_which_the_run_goes_on() -> None:
    found = planned("llama31-dpo-lora")
    savings = relief(found, None, None).savings
    other = [one for one in savings if not all(map(resume.may_change, one.settings))]
    mixed = [*other, *(one for one in savings if one not in other)]
    assert 0 < len(other) < len(mixed)
    best, goes_on = memory_panel._chosen(found.recipe, mixed, True)
    assert (best, goes_on) == (mixed[len(other)], True)
    assert memory_panel._chosen(found.recipe, mixed, False) == (mixed[0], False)


def test_the_accumulation_that_a_global_batch_derives_is_not_typed() -> None:
    found = planned("llama31-dpo-lora").recipe
    settings = {"micro_batch_size": 1, "gradient_accumulation_steps": 16, "deepspeed": None}
    assert found.block["global_batch_size"]
    assert memory_panel._settings(found, settings) == {"micro_batch_size": 1}


def test_what_a_run_may_go_on_with() -> None:
    assert resume.may_change("micro_batch_size")
    assert resume.may_change("eval_batch_size")
    assert not resume.may_change("optimizer")


def test_checkpoints_that_were_left_out_are_told_at_the_end(stack: Stack) -> None:
    stack.gpus(1)
    why = '{"count": 3, "step": 40, "why": "it takes 1.20 GiB, 0.40 GiB are free"}'
    stack.trainer(f"echo '{why}' > \"$AXR_RUN_DIR/left-out.json\"")
    code, _, said = stack.run("train", "llama31-dpo-lora", "--skip-doctor")
    assert code == 0
    assert "3 checkpoints were left out for lack of space, the last at step 40: it takes" in said
