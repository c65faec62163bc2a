"""What stops a recipe on a machine, said before anything starts."""

from __future__ import annotations

import pytest

from launcher import recipe as recipes
from launcher import source
from launcher.diagnostics import Diagnostic
from launcher.node import Machine, Node
from launcher.preflight import check
from launcher.recipe import BLOCK, Recipe
from launcher.rules.batch import accumulation_steps, micro_batch

GPUS = Machine(8, on_cpu=False)
CPU = Machine(1, on_cpu=True)
SHIPPED = [path.stem for path in recipes.shipped()]


def shipped(name: str, *overrides: str) -> Recipe:
    return recipes.load(recipes.pack_folder("recipes") / f"{name}.yaml", overrides)


def written(text: str, *overrides: str) -> Recipe:
    return recipes.override(recipes.from_document(source.parse(text, "my.yaml")), overrides)


def batch(text: str, gpus: int, *overrides: str) -> list[Diagnostic]:
    recipe = written(f"base_model: a/b\n{text}", *overrides)
    return check(recipe, Machine(gpus, on_cpu=False), Node(), {}, cpu_allowed=False)


def only(problems: list[Diagnostic]) -> Diagnostic:
    (problem,) = problems
    return problem


@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_keeps_its_batch_on_any_machine_or_is_refused(name: str, gpus: int) -> None:
    recipe = shipped(name)
    total, steps = recipe.block["global_batch_size"], accumulation_steps(recipe, gpus)
    machine = Machine(gpus, on_cpu=False)
    refused = [p for p in check(recipe, machine, Node(), {}, cpu_allowed=False) if p.code == "L103"]
    assert bool(steps) != bool(refused)
    if steps:
        assert micro_batch(recipe) * steps * gpus == total
    else:
        assert total % (micro_batch(recipe) * gpus)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_starts_on_what_it_needs(name: str) -> None:
    recipe = shipped(name)
    needs = recipe.block["needs"]
    machine = Machine(max(1, needs["gpus"]), on_cpu=needs["gpu"] == "none")
    secrets = {name: "set" for name in needs.get("secrets", [])}
    assert check(recipe, machine, Node(), secrets, cpu_allowed=False) == []
    assert accumulation_steps(recipe, machine.processes) == recipe.settings.get(
        "gradient_accumulation_steps", 1
    )


BATCH = "x-recipe: {global_batch_size: 12}\nmicro_batch_size: 4\n"


@pytest.mark.parametrize(
    ("text", "gpus", "fact", "hint"),
    [
        (
            BATCH,
            2,
            "12 does not divide by 4 a GPU x 2 GPUs = 8",
            "micro_batch_size=3 or --gpus 1 or x-recipe.global_batch_size=8 or "
            "x-recipe.global_batch_size=16",
        ),
        (
            BATCH,
            8,
            "12 does not divide by 4 a GPU x 8 GPUs = 32",
            "--gpus 3 or x-recipe.global_batch_size=32",
        ),
        (
            "x-recipe: {global_batch_size: 3}\nmicro_batch_size: 2\n",
            1,
            "3 does not divide by 2 a GPU x 1 GPU = 2",
            "micro_batch_size=1 or x-recipe.global_batch_size=2 or x-recipe.global_batch_size=4",
        ),
        (  # two GPUs share each sample
            BATCH + "tensor_parallel_size: 2\n",
            8,
            "12 does not divide by 4 a GPU x 4 GPUs = 16",
            "micro_batch_size=3 or --gpus 6 or x-recipe.global_batch_size=16",
        ),
        (
            'x-recipe: {global_batch_size: "12"}\nmicro_batch_size: "5"\n',
            1,
            "12 does not divide by 5 a GPU x 1 GPU = 5",
            "micro_batch_size=4 or x-recipe.global_batch_size=10 or x-recipe.global_batch_size=15",
        ),
    ],
)
def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_that_do(
    text: str, gpus: int, fact: str, hint: str
) -> None:
    problem = only(batch(text, gpus))
    assert (problem.code, problem.span.line) == ("L103", 2)
    assert problem.message == f"global_batch_size {fact}"
    assert problem.hint == f"nearest: {hint}"


def test_every_value_that_a_refusal_names_is_accepted() -> None:
    for gpus in (2, 5, 7, 8):
        for choice in only(batch(BATCH, gpus)).hint.removeprefix("nearest: ").split(" or "):
            fewer = int(choice.removeprefix("--gpus ")) if choice.startswith("--gpus") else gpus
            overrides = () if choice.startswith("--gpus") else (choice,)
            assert batch(BATCH, fewer, *overrides) == []


@pytest.mark.parametrize("micro", ["0", "-1", "null"])
def test_a_micro_batch_of_nothing_is_refused(micro: str) -> None:
    text = f"x-recipe: {{global_batch_size: 12}}\nmicro_batch_size: {micro}\n"
    assert (
        only(batch(text, 1)).message == "global_batch_size 12 needs a micro_batch_size of 1 or more"
    )


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("micro_batch_size: 4\n", ()),  # no batch is stated
        ("x-recipe: {title: a, method: sft}\nmicro_batch_size: null\n", ()),
        (BATCH, ("gradient_accumulation_steps=5",)),  # who says so, means it
        (BATCH, ("x-recipe.global_batch_size=64",)),
        (BATCH, ("micro_batch_size=1", "x-recipe.global_batch_size=8")),
    ],
)
def test_no_batch_is_refused_that_nobody_asked_for(text: str, overrides: tuple[str, ...]) -> None:
    assert batch(text, 8, *overrides) == []


NEEDS = f"base_model: a/b\n{BLOCK}:\n  needs:\n    secrets: [HF_TOKEN, WANDB_API_KEY]\n"


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({}, ["HF_TOKEN", "WANDB_API_KEY"]),
        ({"HF_TOKEN": "", "WANDB_API_KEY": "x"}, ["HF_TOKEN"]),
        ({"HF_TOKEN": "x", "WANDB_API_KEY": "x"}, []),
        ({"HF_TOKEN_PATH": "/root/token", "WANDB_API_KEY": "x"}, []),  # logged in
        ({"HF_TOKEN_PATH": "/root/token"}, ["WANDB_API_KEY"]),
    ],
)
def test_secrets_that_are_not_set_are_named(environ: dict[str, str], missing: list[str]) -> None:
    problems = check(written(NEEDS), GPUS, Node(), environ, cpu_allowed=False)
    assert [problem.message for problem in problems] == [f"{name} is not set" for name in missing]
    assert all(problem.code == "L101" and problem.span.line == 4 for problem in problems)
    assert all(problem.message.split()[0] in problem.hint for problem in problems)


def test_without_a_gpu_only_what_is_made_for_a_cpu_runs() -> None:
    node = Node(trouble="Driver/library version mismatch")
    recipe = shipped("qwen25-dpo")
    problem = only(check(recipe, CPU, node, {}, cpu_allowed=False))
    assert problem.code == "L102"
    assert "needs a100-80gb" in problem.message
    assert "(NVML: Driver/library version mismatch)" in problem.message
    assert "--dry-run" in problem.hint
    assert check(recipe, CPU, node, {}, cpu_allowed=True) == []
    assert check(shipped("smollm2-dpo"), CPU, node, {}, cpu_allowed=False) == []
    unknown = only(check(written("base_model: a/b\n"), CPU, Node(), {}, cpu_allowed=False))
    assert "does not say that it runs on a CPU" in unknown.message


@pytest.mark.parametrize(
    "text",
    [
        "fp8: true",
        "load_in_8bit: true",
        "plugins: [axolotl.integrations.liger.LigerPlugin]",
    ],
)
def test_what_no_change_makes_run_on_a_cpu_is_refused(text: str) -> None:
    recipe = written(f"base_model: a/b\n{text}\n")
    problem = only(check(recipe, CPU, Node(), {}, cpu_allowed=True))
    assert (problem.code, problem.span.line) == ("L104", 2)
    assert check(recipe, GPUS, Node(), {}, cpu_allowed=False) == []
