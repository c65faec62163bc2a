"""What is a secret, and how it is hidden in everything that is shown or kept.

Two ways to know one: by its shape (a Hub token) and by the name it goes under (``comet_api_key``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

HIDDEN = "***"

# Hugging Face user and organisation tokens, W&B v1 keys, OpenAI-style keys, GitHub tokens, AWS
# access keys.
# And what stands before the host of an address: https://user:password@host, https://token@host.
_SHAPES = re.compile(
    r"(?<=://)[^\s/:@]+:[^\s/@]+(?=@)|(?<=https://)[^\s/:@]{8,}(?=@)|(?<=http://)[^\s/:@]{8,}(?=@)|"
    r"\b(hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|wandb_v1_[A-Za-z0-9_]{20,}|sk-[A-Za-z0-9_-]{20,}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16})(?![A-Za-z0-9])"
)
# `hub_token`, `comet_api_key`; but not `eos_token`, `special_tokens` or `hf_use_auth_token`.
_KEYS = re.compile(
    r"^token$|(^|[_-])(hub|hf|api|access|bearer|refresh)[_-]?token$"
    r"|(^|[_-])(secret|password|passwd|credentials?|(api|access|secret|private)[_-]?key)$"
)
# Environment variables are not shared with a tokenizer: every *_TOKEN is a secret.
_VARIABLES = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|API_?KEY|(ACCESS|SECRET|PRIVATE)_KEY)$"
)
_NAME = re.compile(r"""(?<![\w.-])([\w.-]+)["']?\s*[:=]\s*""")
_VALUE = re.compile(r""""(?:\\.|[^"\\])*"|'(?:''|[^'])*'|[^\s,}]+""")
_OPEN = {"true", "false", "null", "~"}  # values that are no secret under any name


def is_secret_name(name: str) -> bool:
    """Return whether a key or a variable of this name holds a secret."""
    last = name.rsplit(".", 1)[-1]
    return bool(_VARIABLES.search(last) if last.isupper() else _KEYS.search(last.lower()))


def is_secret_value(value: object) -> bool:
    """Return whether a value has the shape of a known kind of token."""
    return isinstance(value, str) and bool(_SHAPES.search(value))


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Hide in ``text`` the given values, all that has a token's shape, and what is assigned to a
    secret's name.
    """
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _hide_assigned(_SHAPES.sub(HIDDEN, text))


def redact_env(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with every secret's value hidden, its name kept."""
    return {
        name: HIDDEN if is_secret_name(name) or is_secret_value(value) else value
        for name, value in env.items()
    }


def secret_values(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values to hide in a log, longest first; a short one would hide ordinary text."""
    found = {value for name, value in env.items() if len(value) >= 8 and is_secret_name(name)}
    return tuple(sorted(found, key=len, reverse=True))


def _hide_assigned(text: str) -> str:
    """Hide what is assigned to a secret's name, at any depth: ``env: {HF_TOKEN: abc}``."""
    parts, end = [], 0
    for name in _NAME.finditer(text):
        if name.start() < end or not is_secret_name(name[1]):
            continue
        value = _VALUE.match(text, name.end())
        if value and value[0].lower() not in _OPEN:
            parts += [text[end : name.end()], HIDDEN]
            end = value.end()
    return "".join([*parts, text[end:]])
