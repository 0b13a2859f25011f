"""Nobody reads the log, or nobody can write it: the relay does not notice, and what was lost is counted."""

from __future__ import annotations

import signal

import pytest

from tests.e2e.harness.wire import RawApp, close_frame
from tests.integration.faults.harness import TroubledSidecar, session, troubled
from tests.waiting import WAIT_LIMIT, eventually

DROPPED = "websocket_exporter_log_lines_dropped_total"

WHERE = {
    "a full disk": 'exec "$@" >/dev/full',
    "closed": 'exec "$@" >&- 2>&-',
    "a pipe whose reader has gone": '"$@" | true',
}


def play(sidecar: TroubledSidecar, app: RawApp, times: int) -> None:
    """Sessions that each end with a line in the log."""
    for _ in range(times):
        with session(sidecar, app) as (client, server):
            close = close_frame(1011, "x" * 100, masked=False)
            server.send(close)
            assert client.exactly(len(close)) == close


@pytest.mark.parametrize("shell", WHERE.values(), ids=WHERE)
def test_lines_that_cannot_be_written_are_counted(raw_app: RawApp, shell: str) -> None:
    """Client and app see nothing of it; the endings are counted; so is each line; the exit status is 0."""
    with troubled(raw_app.port, shell=shell) as sidecar:
        before = sidecar.scrape()
        play(sidecar, raw_app, 5)
        added = sidecar.settled(before, 5)
        assert added.endings() == {("1011", "internal-error", "server"): 5}
        eventually(lambda: sidecar.scrape().value(DROPPED) >= 6, "five endings' lines and the first are counted")
        if "|" not in shell:  # else the process that we know is the shell's
            sidecar.process.signal(signal.SIGTERM)
            assert sidecar.process.wait(WAIT_LIMIT) == 0


def test_a_reader_that_stops_reading_blocks_nobody(raw_app: RawApp) -> None:
    """With its output stuck in a full pipe, sessions go on as fast as ever; lines beyond the queue are counted."""
    shell = '"$@" | sleep 1000'
    altered = ["exporter.observe.log.MAX_WAITING=10", "exporter.observe.log.LINES_PER_SECOND=100000"]
    with troubled(raw_app.port, shell=shell, altered=altered) as sidecar:
        before = sidecar.scrape()
        sessions = 0
        while not sidecar.scrape().value(DROPPED):  # a pipe holds 64 KiB, a line has some 600 bytes
            play(sidecar, raw_app, 50)
            sessions += 50
            assert sessions < 1000
        assert sidecar.settled(before, sessions).endings() == {("1011", "internal-error", "server"): sessions}


def test_lines_that_can_be_written_are_not_counted(raw_app: RawApp) -> None:
    """In peace nothing is dropped."""
    with troubled(raw_app.port) as sidecar:
        before = sidecar.scrape()
        play(sidecar, raw_app, 3)
        sidecar.settled(before, 3)
        eventually(lambda: len(sidecar.lines("session.closed")) == 3, "three lines")
        assert sidecar.scrape().value(DROPPED) == 0
