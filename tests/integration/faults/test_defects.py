"""Defects of our own, a clock that jumps, a loop that is blocked: the traffic goes on."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from websockets.frames import Opcode

from tests.e2e.harness.scrape import ACTIVE
from tests.e2e.harness.wire import Peer, RawApp, Sender, close_frame, frame, upgrade_request
from tests.integration.faults.fault_injection import TRIGGER
from tests.integration.faults.harness import session, troubled
from tests.waiting import WAIT_LIMIT, eventually

UNOBSERVED = "websocket_unobserved_connections_total"
DURATION = "websocket_connection_duration_seconds_sum"
EXPORTER = Path(__file__).resolve().parents[3] / "exporter"


@pytest.mark.parametrize(
    ("defect", "endings"),
    [
        ("scanner_raises", {("unknown", "unobserved", "client"): 1}),
        ("session_raises", {("unknown", "unobserved", "client"): 1}),
        ("opening_raises", {}),
        ("http_raises", {}),
        ("closing_raises", {("unknown", "unclassified", "proxy"): 1}),
    ],
)
def test_a_defect_of_ours_does_not_touch_the_traffic(
    raw_app: RawApp, defect: str, endings: dict[tuple[str, str, str], int]
) -> None:
    """Every byte arrives both ways, before and after; the defect is counted as `internal` and logged with its place."""
    with troubled(raw_app.port, altered=[defect]) as sidecar:
        before = sidecar.scrape()
        with session(sidecar, raw_app) as (client, server):
            for text in (b"before", TRIGGER, b"after"):
                up, down = frame(Opcode.TEXT, text, masked=True), frame(Opcode.TEXT, text * 100, masked=False)
                client.send(up)
                assert server.exactly(len(up)) == up
                server.send(down)
                assert client.exactly(len(down)) == down
            close, answer = close_frame(1000, masked=True), close_frame(1000, masked=False)
            client.send(close)
            assert server.exactly(len(close)) == close
            server.send(answer)
            assert client.exactly(len(answer)) == answer
        eventually(lambda: sidecar.scrape().since(before).by(UNOBSERVED, "reason") == {"internal": 1}, "it is counted")
        eventually(lambda: sidecar.scrape().value(ACTIVE) == 0, "nothing is left open")
        assert sidecar.scrape().since(before).endings() == endings
        eventually(lambda: "BuiltIn" in sidecar.process.output(), "the log says where")
        assert sidecar.process.returncode is None


def test_a_clock_that_jumps_changes_nothing(raw_app: RawApp) -> None:
    """With a wall clock that goes a year forth and back at every look, durations and timeouts are as ever."""
    with troubled(raw_app.port, altered=["wall_clock_jumps"]) as sidecar:
        before = sidecar.scrape()
        for _ in range(5):
            with session(sidecar, raw_app) as (client, server):
                server.send(close_frame(1001, masked=False))
                client.exactly(4)
        added = sidecar.settled(before, 5)
        assert added.endings() == {("1001", "going-away", "server"): 5}
        assert 0 < added.value(DURATION) < 60


def test_only_the_monotonic_clock_decides() -> None:
    """What judges and what moves bytes reads no wall clock; it is for time stamps that people see (observe, admin)."""
    wall = re.compile(r"\btime\.time\b|from time import [^\n]*\btime\b|datetime|\bctime\b|utcnow")
    modules = [path for package in ("protocol", "relay") for path in (EXPORTER / package).glob("*.py")]
    assert len(modules) > 15
    assert [path.name for path in modules if wall.search(path.read_text())] == []


def test_a_blocked_loop_delays_and_loses_nothing(raw_app: RawApp) -> None:
    """While the relay stands still (SIGSTOP) bytes and clients wait in the kernel; afterwards all of it arrives."""
    with troubled(raw_app.port) as sidecar:
        before = sidecar.scrape()
        with session(sidecar, raw_app) as (client, server):
            os.kill(sidecar.relay_pid, signal.SIGSTOP)
            data = frame(Opcode.BINARY, bytes(range(256)) * 4096, masked=True)
            sender = Sender(client, data)
            sender.start()
            on_timeout = Peer.connect(sidecar.port)
            on_timeout.send(upgrade_request())
            server.socket.settimeout(0.5)
            with pytest.raises(TimeoutError):
                server.some()
            server.socket.settimeout(WAIT_LIMIT)
            os.kill(sidecar.relay_pid, signal.SIGCONT)
            assert server.exactly(len(data)) == data
            sender.join()
            other = raw_app.accept()
            other.accept_handshake()
            on_timeout.until(b"\r\n\r\n")
            for one, peer in ((client, server), (on_timeout, other)):
                one.close()
                assert peer.rest() == b""
                peer.close()
        assert sidecar.settled(before, 2).endings() == {("1006", "connection-lost", "client"): 2}
