"""No secret is shown: neither what looks like one, nor what stands under a secret's name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.diagnostics import FORMATS, Diagnostic, Related, Severity, Span
from launcher.redact import (
    HIDDEN,
    is_secret_name,
    is_secret_value,
    redact,
    redact_env,
    secret_values,
)

TOKENS = st.one_of(
    st.from_regex(r"hf_[A-Za-z0-9]{34}", fullmatch=True),
    st.from_regex(r"api_org_[A-Za-z0-9]{34}", fullmatch=True),
    st.from_regex(r"wandb_v1_[A-Za-z0-9_]{30,40}[A-Za-z0-9]", fullmatch=True),
    st.from_regex(r"sk-[A-Za-z0-9_-]{40}[A-Za-z0-9]", fullmatch=True),
    st.from_regex(r"gh[pousr]_[A-Za-z0-9]{36}", fullmatch=True),
    st.from_regex(r"AKIA[A-Z0-9]{16}", fullmatch=True),
)
# What may stand beside a token: anything but more of a word.
BESIDE = st.text(
    st.characters(codec="utf-8", exclude_categories=["L", "N", "M"], exclude_characters="_"),
    max_size=8,
)
NAMES = """
token hub_token hf_token api_token access-token bearer_token api_key comet_api_key wandb_api_key
swanlab_api_key swanlab_lark_secret secret_key private_key password db_passwd credentials x.api_key
HF_TOKEN WANDB_API_KEY AWS_SECRET_ACCESS_KEY MY_APIKEY HUGGING_FACE_HUB_TOKEN
""".split()  # noqa: SIM905
ORDINARY = """
eos_token pad_token special_tokens tokens hf_use_auth_token tokenizer_type max_new_tokens key keys
num_key_value_heads template_thinking_key secrets comet_experiment_key sequence_len
TOKENIZERS_PARALLELISM MAX_TOKENS PATH
""".split()  # noqa: SIM905
FORMS = [
    "url: https://x/?{}={}",
    "INFO: env={{a: {{{}: {}}}}}",
    "{}: {}",
    "{}: '{}'",
    '{}: "{}"',
    "- {}: {}",
    "{{{}: {}}}",
    "'{}': {}",
    "{}={}",
]


def shown(problem: Diagnostic, text: str) -> str:
    return "\n".join(render(problem, {"f.yaml": text}) for render in FORMATS.values())


@given(TOKENS, BESIDE, BESIDE)
def test_no_form_shows_a_token(token: str, before: str, after: str) -> None:
    text = f"{before}{token}{after}"
    lines = [i + 1 for i, line in enumerate(text.split("\n")) if token in line]
    place = Span("f.yaml", lines[0], 1, 30)
    problem = Diagnostic("S1", "n", Severity.ERROR, text, place, text, (Related(text, place),))
    assert token not in shown(problem, text)
    assert is_secret_value(text)


@given(
    st.sampled_from(NAMES),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=30),
    st.sampled_from(FORMS),
)
def test_no_excerpt_shows_what_has_a_secret_name(name: str, value: str, form: str) -> None:
    value = f"S3cret{value}S3cret"
    line = form.format(name, value)
    for start in (1, line.index(value) + 1):
        problem = Diagnostic("S1", "n", Severity.ERROR, "m", Span("f.yaml", 1, start, len(line)))
        assert "S3cret" not in shown(problem, line)
        assert "~" not in shown(problem, line)  # nor how long it is


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("hub_token: hf_secret", "hub_token: ***"),
        ("HF_TOKEN=abc python x.py", "HF_TOKEN=*** python x.py"),
        ('{"api_key": "a b", "seed": 1}', '{"api_key": ***, "seed": 1}'),
        (r'password: "a\"b" # c', "password: *** # c"),
        ("password: 'it''s' # c", "password: *** # c"),
        ("password: a#b", "password: ***"),
        ("hf_use_auth_token: true", "hf_use_auth_token: true"),
        ("hub_token: null", "hub_token: null"),
        ("eos_token: </s>", "eos_token: </s>"),
        ("token: true", "token: true"),
        ("INFO: HF_TOKEN=abc, seed: 1", "INFO: HF_TOKEN=***, seed: 1"),
        ("env: {HF_TOKEN: abc, seed: 1}", "env: {HF_TOKEN: ***, seed: 1}"),
        ("token: token=abc", "token: ***"),
        ("at https://x/?token=abc&y", "at https://x/?token=***"),
        ("http://token1234@host/x", "http://***@host/x"),
        ("git+ssh://git@github.com/x", "git+ssh://git@github.com/x"),
        ("hf_abcdefghijklmnop_old", "***_old"),
        ("org/hf_model", "org/hf_model"),
        ("learning_rate: 2e-5", "learning_rate: 2e-5"),
    ],
)
def test_redact(text: str, safe: str) -> None:
    assert redact(text) == safe
    assert redact(safe) == safe


@given(st.text())
def test_given_secrets_are_hidden_wherever_they_stand(text: str) -> None:
    assert "hunter22" not in redact(f"{text}hunter22{text}", ["hunter22"])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", ["a", "a ", "token", "a.", "x=", 'x="', "sk-", "hf_", "=' ", "\n"])
def test_long_lines_end(text: str) -> None:
    redact(text * (1_000_000 // len(text)))
    redact("token: " + text * (1_000_000 // len(text)))


@pytest.mark.parametrize("name", NAMES)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)
    assert is_secret_name(f"datasets.0.{name}")


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize("value", ["hf_model", "sk-learn", "</s>", "", None, 5, ["hf_x"], "AKIA"])
def test_ordinary_values(value: object) -> None:
    assert not is_secret_value(value)


def test_environment() -> None:
    env = {"HF_TOKEN": "x", "PATH": "/bin", "NOTE": "hf_abcdefghijklmnopqrst", "MAX_TOKENS": "5"}
    hidden = {"HF_TOKEN": HIDDEN, "PATH": "/bin", "NOTE": HIDDEN, "MAX_TOKENS": "5"}
    assert redact_env(env) == hidden
    assert env["HF_TOKEN"] == "x"


def test_secret_values_of_an_environment() -> None:
    env = {"A_TOKEN": "12345678", "B_SECRET": "123456789", "C_PASSWORD": "short", "D": "/usr/bin"}
    assert secret_values(env) == ("123456789", "12345678")
