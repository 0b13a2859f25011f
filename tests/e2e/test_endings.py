"""Every row of the table of endings, played by raw peers on both sides through the running sidecar."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.frames import Opcode

from tests.ports import free_port
from tests.waiting import eventually

from .harness.sidecar import Sidecar
from .harness.wire import Peer, RawApp, close_frame, frame, switching_protocols, upgrade_request

DYING = 0.01
"""Seconds between the first and the last socket that a dying process closes; up to 4 ms were measured."""

INCOMPLETE = "websocket_close_handshakes_incomplete_total"


@contextmanager
def session(sidecar: Sidecar, app: RawApp, path: str = "/", extra: str = "") -> Iterator[tuple[Peer, Peer]]:
    """An open session: its client and its server."""
    client = Peer.connect(sidecar.port)
    client.send(upgrade_request(path, extra))
    server = app.accept()
    try:
        assert server.until(b"\r\n\r\n") == upgrade_request(path, extra)
        server.send(switching_protocols())
        assert client.until(b"\r\n\r\n") == switching_protocols()
        yield client, server
    finally:
        client.close()
        server.close()


CLOSES = [
    # payload of the Close frame, code, cause
    (struct.pack("!H", 1000), "1000", "normal"),
    (struct.pack("!H", 1001), "1001", "going-away"),
    (struct.pack("!H", 1002), "1002", "protocol-error"),
    (struct.pack("!H", 1003), "1003", "protocol-error"),
    (b"", "1005", "no-status"),
    (struct.pack("!H", 1007), "1007", "protocol-error"),
    (struct.pack("!H", 1008), "1008", "policy-violation"),
    (struct.pack("!H", 1009), "1009", "message-too-big"),
    (struct.pack("!H", 1010), "1010", "protocol-error"),
    (struct.pack("!H", 1011), "1011", "internal-error"),
    (struct.pack("!H", 1011) + b"keepalive ping timeout", "1011", "ping-timeout"),
    (struct.pack("!H", 1000) + b"ping timed out", "1000", "ping-timeout"),
    (struct.pack("!H", 1012), "1012", "service-restart"),
    (struct.pack("!H", 1013), "1013", "try-again-later"),
    (struct.pack("!H", 1014), "1014", "bad-gateway"),
    (struct.pack("!H", 3000), "3000", "unauthorized"),
    (struct.pack("!H", 3003), "3003", "forbidden"),
    (struct.pack("!H", 3008), "3008", "timeout"),
    (struct.pack("!H", 3999), "3xxx", "application"),
    (struct.pack("!H", 4001) + b"x", "4xxx", "application"),
    (b"\x03", "invalid", "protocol-error"),
    *[
        (struct.pack("!H", code), "invalid", "protocol-error")
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    ],
]


def close_id(payload: bytes) -> str:
    """What a Close frame says, to be read in a test's id."""
    if len(payload) < 2:
        return f"{len(payload)}-byte body"
    return f"{int.from_bytes(payload[:2])} {payload[2:].decode()}".strip()


@pytest.mark.parametrize("sender", ["client", "server"])
@pytest.mark.parametrize(("payload", "code", "cause"), CLOSES, ids=[close_id(row[0]) for row in CLOSES])
def test_a_close_frame_is_counted_by_its_code(
    raw_sidecar: Sidecar, raw_app: RawApp, sender: str, payload: bytes, code: str, cause: str
) -> None:
    """The first Close names code, cause and initiator; it arrives as sent, and so does the answer to it."""
    before = raw_sidecar.scrape()
    with session(raw_sidecar, raw_app) as (client, server):
        first, second = (client, server) if sender == "client" else (server, client)
        close = frame_as(sender, payload)
        first.send(close)
        assert second.exactly(len(close)) == close
        answer = frame_as("server" if sender == "client" else "client", payload)
        second.send(answer)
        assert first.exactly(len(answer)) == answer
    added = raw_sidecar.settled(before)
    assert added.endings() == {(code, cause, sender): 1}
    assert added.nonzero(INCOMPLETE) == {}


def frame_as(sender: str, payload: bytes) -> bytes:
    """A Close frame with any body, masked as its sender must; `websockets` would refuse the invalid ones."""
    head = bytes([0x88, len(payload) | (0x80 if sender == "client" else 0)])
    if sender == "server":
        return head + payload
    mask = b"\x37\xfa\x21\x3d"
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


@pytest.mark.parametrize("sender", ["client", "server"])
def test_an_end_without_close_is_connection_lost(raw_sidecar: Sidecar, raw_app: RawApp, sender: str) -> None:
    """TCP ended by FIN, no Close: 1006, and the other peer sees the end too."""
    before = raw_sidecar.scrape()
    with session(raw_sidecar, raw_app) as (client, server):
        first, second = (client, server) if sender == "client" else (server, client)
        first.close()
        assert second.rest() == b""
    assert raw_sidecar.settled(before).endings() == {("1006", "connection-lost", sender): 1}


@pytest.mark.parametrize("sender", ["client", "server"])
def test_a_reset_ends_the_other_side(raw_sidecar: Sidecar, raw_app: RawApp, sender: str) -> None:
    """TCP ended by RST, no Close: 1006, told from a FIN, and the other peer is not left hanging."""
    before = raw_sidecar.scrape()
    with session(raw_sidecar, raw_app) as (client, server):
        first, second = (client, server) if sender == "client" else (server, client)
        first.reset()
        assert second.rest() == b""
    assert raw_sidecar.settled(before).endings() == {("1006", "connection-reset", sender): 1}


@pytest.mark.parametrize("sender", ["client", "server"])
def test_a_close_without_answer_is_incomplete(raw_sidecar: Sidecar, raw_app: RawApp, sender: str) -> None:
    """A Close, then TCP's end before its answer: the code counts, and so does the missing answer."""
    before = raw_sidecar.scrape()
    with session(raw_sidecar, raw_app) as (client, server):
        first, second = (client, server) if sender == "client" else (server, client)
        first.send(close_frame(1001, masked=sender == "client"))
        first.half_close()
        second.rest()
        second.close()
    added = raw_sidecar.settled(before)
    assert added.endings() == {("1001", "going-away", sender): 1}
    assert added.by(INCOMPLETE, "initiator") == {sender: 1}


def test_a_dying_app_is_app_down() -> None:
    """A process that dies closes its sockets one after another: a moment's open port is not an app that lives.

    Seen with Node (one process) and with granian (a process that listens, workers that serve).
    """
    app = RawApp(free_port())
    sidecar = Sidecar(app.port)
    try:
        before = sidecar.scrape()
        with session(sidecar, app) as (client, server):
            server.close()
            time.sleep(DYING)
            app.close()
            assert client.rest() == b""
            client.close()
        assert sidecar.settled(before).endings() == {("1006", "app-down", "server"): 1}
    finally:
        app.close()
        sidecar.stop()


def test_app_down_is_judged_when_the_app_ends() -> None:
    """A client that lingers after its app has died does not change the cause, though a new app is up by then."""
    port = free_port()
    app = RawApp(port)
    sidecar = Sidecar(port)
    try:
        before = sidecar.scrape()
        with session(sidecar, app) as (lingering, first), session(sidecar, app) as (prompt, second):
            app.close()
            first.close()
            second.close()
            assert lingering.rest() == prompt.rest() == b""
            prompt.close()
            # Its ending is told when the app has been looked at, which was after both had lost their server.
            eventually(lambda: sidecar.scrape().since(before).closed(), "the prompt client's ending")
            app = RawApp(port)
        assert sidecar.settled(before, 2).endings() == {("1006", "app-down", "server"): 2}
    finally:
        app.close()
        sidecar.stop()


def test_a_close_cut_short_is_no_close(raw_sidecar: Sidecar, raw_app: RawApp) -> None:
    """TCP's end inside a Close frame: 1006, not the code half said."""
    before = raw_sidecar.scrape()
    with session(raw_sidecar, raw_app) as (client, server):
        close = close_frame(1011, "so sorry", masked=False)
        server.send(close[:-1])
        server.close()
        assert client.rest() == close[:-1]
    assert raw_sidecar.settled(before).endings() == {("1006", "connection-lost", "server"): 1}


def test_the_first_close_decides(raw_sidecar: Sidecar, raw_app: RawApp) -> None:
    """What a peer sends after its own Close frame is forwarded, and judges nothing."""
    before = raw_sidecar.scrape()
    with session(raw_sidecar, raw_app) as (client, server):
        said = close_frame(1011, masked=False) + close_frame(1000, masked=False)
        said += frame(Opcode.TEXT, b"?", masked=False)
        server.send(said)
        assert client.exactly(len(said)) == said
        client.send(close_frame(1011, masked=True))
        client.close()
        server.rest()
    assert raw_sidecar.settled(before).endings() == {("1011", "internal-error", "server"): 1}


def test_the_log_line_says_what_labels_must_not(raw_sidecar: Sidecar, raw_app: RawApp) -> None:
    """Path, reason and trace id, which a client chooses freely, are in the log line and on no series."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    extra = f"traceparent: 00-{trace}-00f067aa0ba902b7-01\r\nX-Forwarded-For: 203.0.113.7\r\n"
    before = raw_sidecar.scrape()
    with session(raw_sidecar, raw_app, "/room/7", extra) as (client, server):
        server.send(close_frame(1011, "out of cheese", masked=False))
        client.until(b"cheese")
    assert raw_sidecar.settled(before).endings() == {("1011", "internal-error", "server"): 1}

    def line() -> dict[str, object] | None:
        return next((line for line in raw_sidecar.closed_lines() if line["reason"] == "out of cheese"), None)

    logged = eventually(line, "a session.closed line with the reason")
    assert logged["path"] == "/room/7"
    assert logged["trace_id"] == trace
    assert (str(logged["code"]), logged["cause"], logged["initiator"]) == ("1011", "internal-error", "server")
    assert logged["clean"] is False
    assert "203.0.113.7" in str(logged)
    _, exposed = raw_sidecar.get("/metrics")
    assert not any(word in exposed for word in ("room", "cheese", trace, "203.0.113.7"))
