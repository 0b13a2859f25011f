"""Long texts of peers: what they make of log lines, and the time that they take."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from exporter.observe.log import LINES_PER_SECOND, MAX_LINE
from tests.e2e.harness.process import Process
from tests.e2e.harness.scrape import CLOSED
from tests.e2e.harness.sidecar import ROOT
from tests.e2e.harness.wire import Peer, RawApp, close_frame, upgrade_request
from tests.hostile.harness import long_turns, timed
from tests.waiting import eventually

SUPPRESSED = "websocket_exporter_log_lines_suppressed_total"
DROPPED = "websocket_exporter_log_lines_dropped_total"


def test_flood_of_closes_writes_bounded_lines(load_app: Process) -> None:
    """Of 1,500 closes with texts of their own at most a bounded number a second are logged, the rest is counted."""
    with timed(int(load_app.name), "--log-endings", "all") as sidecar:
        command = [sys.executable, "-m", "tests.load.clients", str(sidecar.port), "odd", "1500", "50"]
        told = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
        assert told["sessions"] == 1500
        eventually(lambda: sidecar.scrape().value(CLOSED) == 1500, "all are counted")
        now = sidecar.scrape()
        missing = now.value(SUPPRESSED) + now.value(DROPPED)
        eventually(lambda: len(sidecar.closed_lines()) + missing >= 1500, "each is logged or counted")
        lines = [line for line in sidecar.process.output().splitlines() if '"session.closed"' in line]
        assert max(len(line.encode()) + 1 for line in lines) <= MAX_LINE
        seconds = {json.loads(line)["timestamp"][:19] for line in lines}
        assert len(lines) <= (len(seconds) + 1) * LINES_PER_SECOND


@pytest.mark.parametrize("identity", ["query:id", "cookie:id"])
def test_client_identity_in_long_texts_takes_no_long_turn(raw_app: RawApp, identity: str) -> None:
    """A query or cookies of 60,000 bytes, most of them separators, are searched in time."""
    long = "&;=%" * 15_000
    path, extra = (f"/?{long}", "") if identity.startswith("query") else ("/", f"Cookie: {long}\r\n")
    with timed(raw_app.port, "--client-identity", identity) as sidecar:
        before = sidecar.scrape()
        for _ in range(10):
            client = Peer.connect(sidecar.port)
            client.send(upgrade_request(path, extra))
            app = raw_app.accept()
            app.accept_handshake()
            client.until(b"\r\n\r\n")
            app.send(close_frame(1011, masked=False))
            client.close()
            app.close()
        assert long_turns(sidecar.settled(before, endings=10)) == 0
