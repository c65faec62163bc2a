"""What the Hub says of a token and of repositories: asked by a child, in a limited time, and never
changed. ``HF_ENDPOINT`` and the token come from the environment, as for huggingface_hub itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from launcher import network
from launcher.node.child import ask
from launcher.node.record import from_data

TIMEOUT = 5.0  # seconds of one step of a request

NOT_INSTALLED = "huggingface_hub is not installed for this Python: make setup"
VALID, NONE, REFUSED, EXPIRED, UNKNOWN = "valid", "none", "refused", "expired", "unknown"
OPEN, GATED, CLOSED, MISSING = "open", "gated", "closed to this token", "missing"


@dataclass(frozen=True)
class Repository:
    """A repository to ask for: ``kind`` is model or dataset."""

    kind: str
    name: str
    revision: str = "main"


@dataclass(frozen=True)
class Account:
    """Whose the token is. ``role``: write, read, fineGrained; ``orgs``: organisations where the
    user may write; ``writes``: what a fine-grained token may write, namespaces and repositories.
    """

    state: str = UNKNOWN
    name: str = ""
    role: str = ""
    orgs: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Access:
    """What the token may do with a repository. ``write`` is none where that was not asked;
    ``splits`` are those that a dataset's card names; ``bytes`` what the repository holds.
    """

    kind: str
    name: str
    state: str = UNKNOWN
    write: bool | None = None
    splits: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Endpoint:
    """The Hub's address, seconds to its first answer, by how many seconds its clock is ahead of
    ours, and bytes a second of one download.
    """

    url: str
    answered: bool = False
    seconds: float | None = None
    ahead: float | None = None
    speed: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Hub:
    """All that was asked."""

    endpoint: Endpoint
    account: Account
    access: tuple[Access, ...] = ()
    writing: tuple[Access, ...] = ()

    def of(self, kind: str, name: str) -> Access | None:
        """Return what is known of reading a repository."""
        return next((one for one in self.access if (one.kind, one.name) == (kind, name)), None)

    def of_writing(self, kind: str, name: str) -> Access | None:
        """Return what is known of writing a repository."""
        return next((one for one in self.writing if (one.kind, one.name) == (kind, name)), None)


def hub(
    reads: Iterable[Repository],
    writes: Iterable[Repository],
    environ: Mapping[str, str],
    seconds: float,
) -> Hub:
    """Ask the Hub for the right to read and to write these; what does not come in time is unknown.
    The speed is measured on the first that is a model.
    """
    url = network.hub(environ)
    if not find_spec("huggingface_hub"):
        return Hub(Endpoint(url, why=NOT_INSTALLED), Account())
    wanted = {
        "reads": [vars(one) for one in dict.fromkeys(reads)],
        "writes": [vars(one) for one in dict.fromkeys(writes)],
    }
    answer = ask("launcher.hub.asking", wanted, environ, seconds)
    silent = answer.trouble or "no answer"
    known = {line["about"]: line["facts"] for line in answer.lines if "about" in line}
    reading, writing = (
        tuple(
            from_data(
                Access,
                {
                    "kind": one["kind"],
                    "name": one["name"],
                    **(known.get(named(word, one)) or {"why": silent}),
                },
            )
            for one in wanted[word]
        )
        for word in ("reads", "writes")
    )
    return Hub(
        from_data(Endpoint, {"url": url, **(known.get("endpoint") or {"why": silent})}),
        from_data(Account, known.get("account") or {"why": silent}),
        reading,
        writing,
    )


def named(word: str, one: Mapping[str, str]) -> str:
    """Return the name of an answer: what was asked for, and of which repository."""
    return f"{word} {one['kind']} {one['name']}"
