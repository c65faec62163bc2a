"""What the Hub says of a token and of repositories, over real HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from loopback_hub import Faults, Token
from loopback_hub import hub as served
from machine import codes, machine, written

from launcher import trackers
from launcher.doctor.hub import lines
from launcher.doctor.line import Line, Verdict
from launcher.doctor.need import Need
from launcher.hub import Hub, hub
from launcher.survey import Facts
from launcher.trackers import look

TOKEN = "hf_" + "Qq77" * 8
TEXT = """\
base_model: org/model
datasets: [{path: org/rows, type: alpaca, split: train}]
hub_model_id: me/new
"""
Ask = Callable[..., tuple[Hub, list[Line]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (
        ("models/org/model/config.json", "{}"),
        ("models/me/old/config.json", "{}"),
        ("models/org/theirs/config.json", "{}"),
        ("datasets/org/rows/README.md", "---\nconfigs:\n- data_files:\n  - split: train\n---\n"),
    ):
        file = tmp_path / "repositories" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return tmp_path / "repositories"


@pytest.fixture
def ask(folder: Path, tmp_path: Path) -> Ask:
    """Ask a Hub about a recipe, and judge the answers."""

    def run(
        token: Token | None = None, *overrides: str, given: str = TOKEN, **kind: Any
    ) -> tuple[Hub, list[Line]]:
        recipe = written(TEXT, *overrides)
        need = Need(recipe, recipe.settings)
        with served(folder, tokens={TOKEN: token} if token else {}, **kind) as url:
            environ = environment(tmp_path, HF_ENDPOINT=url, HF_TOKEN=given)
            seconds = kind.pop("seconds", 20.0)
            found = hub(need.reads, need.writes, environ, seconds)
        return found, list(lines(Facts(hub=found), need))

    return run


def environment(home: Path, **other: str) -> dict[str, str]:
    """Return an environment in which nobody is logged in."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {**clean, "HOME": str(home), "HF_HOME": str(home / "hf"), **other}


def said(found: list[Line], subject: str) -> list[tuple[Verdict, str]]:
    return [(line.verdict, line.words) for line in found if line.subject == subject]


def test_a_token_that_may_do_all(ask: Ask) -> None:
    seen: list[str] = []
    found, told = ask(Token("me"), seen=seen)
    assert codes(told) == set()
    assert said(told, "token") == [(Verdict.OK, "me's, it may write")]
    assert said(told, "model") == [(Verdict.OK, "org/model can be read")]
    assert said(told, "push") == [(Verdict.OK, "me/new will be made; the token may")]
    assert found.access[1].splits == ("train",)
    assert found.endpoint.ahead is not None
    assert abs(found.endpoint.ahead) < 5
    assert all(line.startswith(("GET ", "HEAD ")) for line in seen)  # nothing is changed there


def test_what_is_there_is_pushed_to_or_not(ask: Ask) -> None:
    assert "me/old is there" in said(ask(Token("me"), "hub_model_id=me/old")[1], "push")[0][1]
    _, told = ask(Token("me"), "hub_model_id=org/theirs")
    assert codes(told) == {"N406"}
    assert codes(ask(Token("me", orgs={"org": "read"}), "hub_model_id=org/theirs")[1]) == {"N406"}
    assert codes(ask(Token("me", orgs={"org": "write"}), "hub_model_id=org/theirs")[1]) == set()


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [
        (Token("me", expired=True), "N402", "the token is expired"),
        (None, "N402", "the token is not known to the Hub"),
        (Token("me", role="read"), "N406", "me/new: the token may only read"),
        (Token("you"), "N406", '"me" is neither you nor an organisation where it may write'),
        (
            Token("me", role="fineGrained", permissions={"me": ["repo.content.read"]}),
            "N406",
            "me/new: the fine-grained token has no right to write there",
        ),
    ],
)
def test_a_token_that_may_not(ask: Ask, token: Token | None, code: str, words: str) -> None:
    _, told = ask(token)
    assert codes(told) == {code}
    assert words in [line.words for line in told]


def test_a_fine_grained_token_that_may(ask: Ask) -> None:
    for scope in ("me", "me/new"):
        token = Token("me", role="fineGrained", permissions={scope: ["repo.write"]})
        assert codes(ask(token)[1]) == set()


def test_no_token(ask: Ask) -> None:
    assert codes(ask(given="")[1]) == {"N403"}
    _, told = ask(None, "hub_model_id=null", given="")
    assert codes(told) == set()
    assert said(told, "token") == [(Verdict.OK, "none: public repositories only")]


def test_gated(ask: Ask) -> None:
    gated = {"gated": ["org/model"]}
    _, told = ask(Token("me"), **gated)
    (line,) = (line for line in told if line.subject == "model")
    assert (line.words, line.problem and line.problem.code) == ('"org/model" is gated', "N404")
    assert "https://huggingface.co/org/model" in line.remedy
    assert line.problem
    assert line.problem.span.line == 1
    assert codes(ask(Token("me", accepted=["org/model"]), **gated)[1]) == set()
    _, told = ask(None, "hub_model_id=null", given="", **gated)
    assert [line.remedy.splitlines()[1] for line in told if line.problem] == [
        "then set HF_TOKEN, in .env or exported"
    ]
    fine = Token("me", role="fineGrained", permissions={"me": ["repo.write"]})
    _, told = ask(fine, **gated)
    assert codes(told) == {"N404"}
    assert "enable access to public gated repositories" in said(told, "model")[0][1]


def test_missing_private_and_another_revision(ask: Ask) -> None:
    _, told = ask(Token("me"), "base_model=org/none", "datasets.0.path=org/nothing")
    assert [line.problem.code for line in told if line.problem] == ["N405", "N405"]
    assert codes(ask(Token("me"), private=["org/rows"])[1]) == {"N405"}
    assert codes(ask(Token("me", orgs={"org": "read"}), private=["org/rows"])[1]) == set()
    _, told = ask(Token("me"), "datasets.0.revision=v2")
    assert "it has no revision v2" in said(told, "dataset")[0][1]
    assert codes(told) == {"N405"}


def test_a_split_that_the_card_does_not_list(ask: Ask) -> None:
    _, told = ask(Token("me"), "datasets.0.split=test")
    (line,) = (line for line in told if line.problem)
    assert (line.problem and line.problem.code, line.remedy) == (
        "N409",
        "split: train  # it has train",
    )
    assert codes(ask(Token("me"), "datasets.0.split=train[:10%]")[1]) == set()


@pytest.mark.parametrize(("status", "code"), [(429, "N408"), (500, "N408"), (503, "N408")])
def test_out_of_order(ask: Ask, status: int, code: str) -> None:
    _, told = ask(Token("me"), faults=Faults(status=status))
    assert codes(told) == {code}
    assert said(told, "model") == [(Verdict.UNCHECKED, "org/model: the Hub does not answer")]


def test_down(folder: Path, tmp_path: Path) -> None:
    with served(folder) as url:
        pass
    recipe = written(TEXT)
    need = Need(recipe, recipe.settings)
    found = hub(need.reads, (), environment(tmp_path, HF_ENDPOINT=url), 20)
    told = list(lines(Facts(hub=found), need))
    assert codes(told) == {"N401"}
    assert "does not answer" in told[0].words


def test_an_endpoint_that_hangs_is_left_in_time(folder: Path, tmp_path: Path) -> None:
    recipe = written(TEXT)
    need = Need(recipe, recipe.settings)
    with served(folder, faults=Faults(delay=60)) as url:
        found = hub(need.reads, need.writes, environment(tmp_path, HF_ENDPOINT=url), 1.5)
    assert found.endpoint.why == "no answer within 1.5 s"
    assert {one.why for one in found.access} == {"no answer within 1.5 s"}


def test_slow(ask: Ask, folder: Path) -> None:
    (folder / "models/org/model/model.safetensors").write_bytes(bytes(2**23))
    found, told = ask(Token("me"), faults=Faults(rate=1e6))
    assert found.endpoint.speed is not None
    assert 2e5 < found.endpoint.speed < 5e6
    (line,) = (line for line in told if line.problem)
    assert line.problem
    assert (line.problem.code, "HF_HUB_DISABLE_XET=1" in line.remedy) == ("N407", True)


def test_another_clock(ask: Ask) -> None:
    found, _ = ask(Token("me"), faults=Faults(clock=7150))
    facts = machine("8-a100", hub={"endpoint": {"ahead": found.endpoint.ahead}})
    from launcher.doctor import host

    (line,) = (line for line in host.lines(facts, Need()) if line.subject == "clock")
    assert line.problem
    assert (line.problem.code, line.words[:3], line.words[-6:]) == ("N310", "7,1", "s slow")


class _Foreign(BaseHTTPRequestHandler):
    """What answers everything alike: a portal's page, or a proxy that refuses without a word."""

    status, body, date = 200, b"<html>log in</html>", ""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        first = self.path == "/"
        me = b'{"name": "me", "auth": {"accessToken": {"role": "write"}}}'
        body = me if self.status == 403 and "whoami" in self.path else self.body
        self.send_response_only(200 if first or body is me else self.status)
        self.send_header("Date", self.date)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({}, set()),
        ({"body": b"[1, 2]", "date": "tomorrow"}, set()),
        ({"status": 403, "body": b""}, {"N404", "N406"}),
    ],
)
def test_what_answers_is_not_the_hub(
    tmp_path: Path, answer: dict[str, Any], expected: set[str]
) -> None:
    recipe = written(TEXT, "hub_model_id=me/new")
    need = Need(recipe, recipe.settings)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Other", (_Foreign,), answer)) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        environ = environment(tmp_path, HF_ENDPOINT=url, HF_TOKEN=TOKEN)
        found = hub(need.reads, need.writes, environ, 20)
        server.shutdown()
    assert found.endpoint.answered
    told = list(lines(Facts(hub=found), need))
    assert codes(told) == expected
    if not expected:
        open_ones = {line.words for line in told if line.verdict is not Verdict.OK}
        assert {words.rpartition(": ")[2] for words in open_ones} == {"what answers is not the Hub"}


class _Wandb(BaseHTTPRequestHandler):
    """W&B's own answers to its query for the viewer."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        known = self.headers["Authorization"] == "Basic YXBpOmdvb2Qta2V5"  # api:good-key
        body = b'{"data": {"viewer": {"id": "1"}}}' if known else b'{"data": {"viewer": null}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("environ", "key", "valid"),
    [
        ({"WANDB_API_KEY": "good-key"}, True, True),
        ({"WANDB_API_KEY": "bad-key"}, True, False),
        ({}, False, None),
    ],
)
def test_wandb_knows_its_keys(
    tmp_path: Path, environ: Mapping[str, str], key: bool, valid: bool | None
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Wandb)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        base = {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}", "HOME": str(tmp_path)}
        found = look(trackers.WANDB, {**base, **environ}, online=True, seconds=5)
        assert (found.key, found.valid) == (key, valid)
        assert look(trackers.WANDB, {**base, **environ}, online=False, seconds=5).valid is None
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password good-key\n")
        found = look(trackers.WANDB, base, online=True, seconds=5)
        assert (found.key, found.valid) == (True, True)
    finally:
        server.shutdown()
        server.server_close()
