"""The admin port towards strangers: it tells nothing of what it is made of, and its log stays one line an event."""

from __future__ import annotations

import json
import socket

import pytest

from tests.e2e.harness.sidecar import Sidecar
from tests.ports import free_port
from tests.waiting import WAIT_LIMIT

WRONG = {
    "no HTTP": b"GARBAGE\r\n\r\n",
    "TLS": bytes.fromhex("16030100f8010000f40303"),
    "a header of 20 KB": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    "two lengths": b"POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "no such page": b"GET /<script>alert(1)</script> HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a method": b"BREW /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("said", WRONG.values(), ids=WRONG)
def test_strangers_learn_nothing(said: bytes) -> None:
    """An error, no version of anything, nothing of what was said as markup; the log has no traceback."""
    sidecar = Sidecar(free_port())
    try:
        with socket.create_connection(("127.0.0.1", sidecar.admin_port), timeout=WAIT_LIMIT) as stranger:
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
            answer = b""
            while more := stranger.recv(65536):
                answer += more
        assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        assert b"aiohttp" not in answer
        assert b"Python" not in answer
        assert b"<script>" not in answer
        assert sidecar.get("/livez")[0] == 200
        output = sidecar.process.output()
        assert all(json.loads(line) for line in output.splitlines()), "each line is one event"
        assert "Traceback" not in output
    finally:
        sidecar.stop()
