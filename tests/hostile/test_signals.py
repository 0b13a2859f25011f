"""Signals that kill a process by default: none ends a session without a Close frame."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.harness.wire import Opcode, Peer, RawApp, close_frame, frame
from tests.integration.faults.harness import TroubledSidecar, session, troubled
from tests.waiting import WAIT_LIMIT

DRAINING = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2"]
FLAGS = ("--drain-timeout", "1s", "--drain-spread", "100ms", "--drain-linger", "0")


def send(sidecar: TroubledSidecar, name: str, to: str) -> None:
    """Send a signal to the supervisor, to all processes as a terminal does, or to one of the supervisor's children."""
    number = signal.Signals[name]
    match to:
        case "group":
            os.killpg(sidecar.process.pid, number)
        case "relay":
            os.kill(sidecar.relay_pid, number)
        case "observer":
            os.kill(sidecar.observer_pid, number)
        case _:
            sidecar.process.signal(number)


def echo(client: Peer, app: Peer) -> None:
    data = frame(Opcode.TEXT, b"hello", masked=True)
    client.send(data)
    assert app.exactly(len(data)) == data
    data = frame(Opcode.TEXT, b"hello", masked=False)
    app.send(data)
    assert client.exactly(len(data)) == data


@pytest.mark.parametrize("to", ["supervisor", "group"])
@pytest.mark.parametrize("name", DRAINING)
def test_signal_that_ends_the_sidecar_sends_a_close_first(raw_app: RawApp, name: str, to: str) -> None:
    """A client gets 1001, its answer reaches the app; the sidecar ends with status 0, the close counted as its own."""
    with troubled(raw_app.port, *FLAGS) as sidecar, session(sidecar, raw_app, f"/{name}-{to}") as (client, app):
        send(sidecar, name, to)
        closing = close_frame(1001, masked=False)
        assert client.exactly(len(closing)) == closing
        answer = close_frame(1001, masked=True)
        client.send(answer)
        assert app.exactly(len(answer)) == answer
        app.close()
        client.close()
        assert sidecar.process.wait(WAIT_LIMIT) == 0
        (line,) = sidecar.lines("session.closed")
        assert (line["code"], line["cause"], line["initiator"], line["clean"]) == ("1001", "drain", "proxy", True)


@pytest.mark.parametrize(
    ("name", "to"),
    [("SIGHUP", "supervisor"), ("SIGHUP", "group")]
    + [(name, to) for to in ("relay", "observer") for name in ("SIGHUP", *DRAINING)],
)
def test_signal_that_is_not_an_end_leaves_sessions_alone(raw_app: RawApp, name: str, to: str) -> None:
    """SIGHUP, and signals to a child of the supervisor, end no session and no process."""
    with troubled(raw_app.port) as sidecar, session(sidecar, raw_app, f"/{name}-{to}") as (client, app):
        children = sidecar.process.children()
        send(sidecar, name, to)
        for _ in range(3):
            echo(client, app)
            assert sidecar.get("/livez")[0] == 200
        assert sidecar.process.children() == children
        assert sidecar.lines("session.closed") == []
