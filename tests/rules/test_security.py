"""Secrets in a recipe, and code that it brings along."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import recipe, source
from launcher.diagnostics import FORMATS, Diagnostic, Severity, render_text
from launcher.rules.security import remote_code, secret_in_recipe
from launcher.validate import validate

TOKEN = "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"


def secrets(text: str) -> list[Diagnostic]:
    return list(secret_in_recipe(recipe.from_document(source.parse(text, "f.yaml"))))


def code(text: str) -> list[Diagnostic]:
    return list(remote_code(recipe.from_document(source.parse(text, "f.yaml"))))


# --- secrets ---


@pytest.mark.parametrize(
    ("text", "key", "variable"),
    [
        (f"hub_token: {TOKEN}", "hub_token", "HF_TOKEN"),
        ("comet_api_key: abc", "comet_api_key", "COMET_API_KEY"),
        ("swanlab_lark_secret: abc", "swanlab_lark_secret", "SWANLAB_LARK_SECRET"),
        (f"base_model: {TOKEN}", "base_model", "HF_TOKEN"),
        (f"datasets: [{{path: 'https://u:{TOKEN}@x/y'}}]", "datasets[0].path", "a variable"),
        (f"tokens: [a, {TOKEN}]", "tokens[1]", "HF_TOKEN"),
        ("a: {b: {wandb_api_key: abc}}", "a.b.wandb_api_key", "WANDB_API_KEY"),
        ("a: wandb_v1_" + "a" * 30, "a", "WANDB_API_KEY"),
        ("a: ghp_" + "a" * 36, "a", "GITHUB_TOKEN"),
        (f"x-recipe: {{title: {TOKEN}}}", "x-recipe.title", "HF_TOKEN"),
    ],
)
def test_secret(text: str, key: str, variable: str) -> None:
    (problem,) = secrets(text)
    assert problem.code == "R101"
    assert problem.severity is Severity.ERROR
    assert problem.message == f"{key} holds a secret"
    assert f"as {variable} and" in problem.hint


@pytest.mark.parametrize(
    "text",
    [
        "hub_token:",
        "hub_token: ''",
        "hub_token: true",
        "hf_use_auth_token: true",
        "special_tokens: {eos_token: </s>}",
        "x-recipe: {needs: {secrets: [HF_TOKEN, WANDB_API_KEY]}}",
        "base_model: org/hf_model-7b",
        "tokens: [<|sk-1|>]",
    ],
)
def test_no_secret(text: str) -> None:
    assert secrets(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "comet_api_key: {}",
        "comet_api_key: '{}'",
        'comet_api_key: "{}"',
        "comet_api_key:\n  {}",
        "comet_api_key:\n  '{}\n  more'",
        "comet_api_key: |\n  {}",
        "{{comet_api_key: {}}}",
        "? comet_api_key\n: {}",
        "seed: one\ncomet_api_key: {}  # {}",
        "comet_api_key: a\ncomet_api_key: {}",
    ],
)
@pytest.mark.parametrize("secret", ["correct-horse", "correct horse", TOKEN])
def test_no_form_of_any_problem_shows_the_secret(text: str, secret: str) -> None:
    read = recipe.from_document(source.parse(text.replace("{}", secret).format(), "f.yaml"))
    problems = validate(read)
    assert "R101" in [problem.code for problem in problems]
    for problem in problems:
        for render in FORMATS.values():
            shown = render(problem, read.texts)
            assert secret not in shown
            assert "horse" not in shown


def test_secrets_are_told_even_if_the_rest_is_wrong() -> None:
    read = recipe.from_document(source.parse("seed: one\ncomet_api_key: abc", "f.yaml"))
    found = [problem.code for problem in validate(read)]
    assert found == ["R013", "S101", "S101", "S103", "R101"]  # R013: there is no data


# --- code ---


@pytest.mark.parametrize(
    "value", ["true", "yes", "on", "1", "1.0", "'true'", "'Yes'", "'t'", "'1'"]
)
def test_remote_code(value: str) -> None:
    text = f"trust_remote_code: {value}\ndatasets: [{{path: a, trust_remote_code: {value}}}]"
    model, dataset = code(text)
    assert (model.code, dataset.code) == ("R102", "R102")
    assert model.severity is Severity.WARNING
    assert model.message.startswith("trust_remote_code runs")
    assert "revision_of_model" in model.hint
    assert dataset.message.startswith("datasets[0].trust_remote_code runs")
    assert "revision_of_model" not in dataset.hint


@pytest.mark.parametrize("value", ["false", "no", "0", "'no'", "'false'", "", "~"])
def test_no_remote_code(value: str) -> None:
    assert code(f"trust_remote_code: {value}") == []


def test_pickles() -> None:
    (problem,) = code("datasets:\n- path: rows.pkl\n  ds_type: pandas\n")
    assert (problem.code, problem.span.line) == ("R102", 3)
    assert len(code("test_datasets: [{path: pandas, data_files: https://x/rows.pkl}]")) == 1
    assert code("datasets: [{path: my/pandas, ds_type: json, name: pandas}]") == []


def test_plugins() -> None:
    (problem,) = code("plugins:\n- axolotl.integrations.liger.LigerPlugin\n- axolotlx.Plugin\n")
    assert problem.span.line == 3
    assert '"axolotlx.Plugin"' in problem.message
    assert len(code("plugins: [my.A, your.B]")) == 2
    assert code("plugins:") == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("trainer_cls: mine.Trainer", "trainer_cls"),
        ("datasets: [{path: a, type: mine.types}]", "datasets[0].type"),
        ("rl: dpo\ndatasets: [{path: a, type: mine.load}]", "datasets[0].type"),
    ],
)
def test_modules_that_axolotl_loads_later(
    text: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "types.py").touch()
    (problem,) = code(text)
    assert problem.message.startswith(f'{key} "mine.')


@pytest.mark.parametrize(
    "text",
    [
        "trainer_cls: axolotl.core.trainers.base.AxolotlTrainer",
        "rl: nonsense\ndatasets: [{path: a, type: mine.load}]",
        "rl: dpo\ndatasets: [{path: a, type: chat_template.default}]",
    ],
)
def test_what_is_no_module_of_somebodys(text: str) -> None:
    assert code(text) == []


def test_terminal_codes_in_a_plugin_are_shown_not_obeyed(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text('plugins: ["\\e[2J"]')
    read = recipe.load(file)
    (problem,) = remote_code(read)
    assert "\x1b" not in render_text(problem, read.texts)
