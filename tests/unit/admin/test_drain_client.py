"""The drain command's client, against a small HTTP server that answers from a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from exporter.admin import drain_client as client
from exporter.admin.drain_client import DrainFailed, drain_and_wait


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between looks."""
    monkeypatch.setattr(client, "POLL", 0.0)


@contextmanager
def sidecar(*script: tuple[int, str]) -> Iterator[tuple[str, list[str]]]:
    """Answers each request with the next (status, phase or text); what is beyond the script hangs up."""
    asked: list[str] = []
    answers = list(script)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            if not answers:
                self.close_connection = True
                return
            status, phase = answers.pop(0)
            text = json.dumps({"phase": phase}) if status < 300 else phase
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_waits_until_the_drain_is_done() -> None:
    """One POST, then looks until the phase is done."""
    with sidecar((202, "serving"), (200, "closing"), (200, "closing"), (200, "done")) as (address, asked):
        drain_and_wait(address)
        assert asked == ["POST /drain", "GET /drain", "GET /drain", "GET /drain"]


def test_without_waiting_it_only_asks() -> None:
    """--no-wait returns once the drain is on."""
    with sidecar((202, "serving"), (200, "closing")) as (address, asked):
        drain_and_wait(address, wait=False)
        assert asked == ["POST /drain"]


def test_a_sidecar_that_is_gone_has_drained() -> None:
    """A sidecar that ends while it is watched is done, not failed."""
    with sidecar((202, "closing"), (200, "closing")) as (address, asked):
        drain_and_wait(address)
        assert asked == ["POST /drain", "GET /drain", "GET /drain"]


def test_a_refusal_is_one_clear_error() -> None:
    """403 is told with its text, and nothing is waited for."""
    with sidecar((403, "POST /drain is for loopback\n")) as (address, asked):
        with pytest.raises(DrainFailed, match=r"answered 403: POST /drain is for loopback$"):
            drain_and_wait(address)
        assert asked == ["POST /drain"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:80"])
def test_no_sidecar_is_one_clear_error(address: str) -> None:
    """Nobody there: the error names the address."""
    with pytest.raises(DrainFailed, match=f"no sidecar at {address}"):
        drain_and_wait(address)
