"""The look-up of known vulnerabilities: an exception has a date, silence is no all-clear."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

REQUIREMENTS = Path(__file__).parent.parent / "requirements"
PROGRAM = Path(sys.prefix) / "audit" / "bin" / "python"
TODAY = date(2026, 11, 23)
RICH = {
    "name": "rich",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"]}],
}


@pytest.fixture(scope="module")
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", REQUIREMENTS / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def excepted(until: date, name: str = "CVE-1") -> list[dict[str, Any]]:
    return [{"package": "rich", "id": name, "reason": "not used", "until": until}]


def test_what_is_found_is_told_with_the_version_that_mends_it(audit: Any) -> None:
    assert [*audit.problems([RICH], [], TODAY)] == ["rich 1.0: PYSEC-1 (fixed in 1.1)"]


def test_an_exception_holds_until_its_date_and_no_longer(audit: Any) -> None:
    assert [*audit.problems([RICH], excepted(TODAY), TODAY)] == []
    late = [*audit.problems([RICH], excepted(date(2026, 11, 22)), TODAY)]
    assert late == [
        "the exception CVE-1 of rich was until 2026-11-22: upgrade, or look at it again"
    ]


def test_an_exception_that_is_not_needed_goes(audit: Any) -> None:
    found = [*audit.problems([], excepted(TODAY), TODAY)]
    assert found == [
        "the exception CVE-1 of rich is not needed any more: delete it from audit.toml"
    ]


def test_all_that_users_get_is_looked_up_in_every_version(audit: Any) -> None:
    names = {name for batch in audit.batches() for name in batch}
    assert {"torch", "axolotl", "click", "uv"} <= names
    assert all("==" in pin for batch in audit.batches() for pin in batch.values())


class Osv(BaseHTTPRequestHandler):
    """Answers as OSV does; knows one vulnerability."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        known = {"id": "PYSEC-1", "aliases": [], "summary": "bad", "affected": []}
        found = {"vulns": [known]} if asked["package"]["name"] == "rich" else {}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.skipif(not PROGRAM.exists(), reason="no pip-audit here: make audit brings it")
def test_pip_audit_itself_is_asked() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        words = ["-s", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query"]
        command = [PROGRAM, REQUIREMENTS / "audit.py", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        server.shutdown()
    assert done.returncode == 1, done.stderr
    assert "rich" in done.stdout
    assert "PYSEC-1" in done.stdout


@pytest.mark.skipif(not PROGRAM.exists(), reason="no pip-audit here: make audit brings it")
def test_no_answer_is_no_all_clear() -> None:
    words = ["-s", "osv", "--osv-url", "http://127.0.0.1:9/v1/query"]
    command = [PROGRAM, REQUIREMENTS / "audit.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "nothing was looked up" in done.stderr
    assert "Traceback" not in done.stderr
