"""SIGTERM in every phase of a connection: the process ends in time, with status 0, its books balanced."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable

import pytest
from websockets.frames import Opcode

from tests.e2e.harness.scrape import CONNECT_ERRORS
from tests.e2e.harness.wire import Peer, RawApp, close_frame, frame, switching_protocols, upgrade_request
from tests.integration.faults.harness import TroubledSidecar, troubled
from tests.waiting import WAIT_LIMIT, eventually

Ends = list[tuple[object, object, object]]


def connected(client: Peer, app: RawApp) -> None:
    """TCP only."""


def half_a_request(client: Peer, app: RawApp) -> None:
    """Cut inside the head."""
    client.send(upgrade_request()[:40])


def unanswered(client: Peer, app: RawApp) -> None:
    """The app has the request and says nothing."""
    client.send(upgrade_request())
    KEPT.append(app.accept())
    KEPT[-1].until(b"\r\n\r\n")


def opened(client: Peer, app: RawApp) -> None:
    """A session without traffic."""
    unanswered(client, app)
    KEPT[-1].send(switching_protocols())
    client.until(b"\r\n\r\n")


def inside_a_frame(client: Peer, app: RawApp) -> None:
    """The app has sent half of a frame."""
    opened(client, app)
    half = frame(Opcode.BINARY, bytes(1000), masked=False)[:500]
    KEPT[-1].send(half)
    client.exactly(len(half))


def inside_a_client_frame(client: Peer, app: RawApp) -> None:
    """The client has sent half of a frame."""
    opened(client, app)
    half = frame(Opcode.BINARY, bytes(1000), masked=True)[:500]
    client.send(half)
    KEPT[-1].exactly(len(half))


def closing(client: Peer, app: RawApp) -> None:
    """The app has sent its Close; the client has not answered."""
    opened(client, app)
    KEPT[-1].send(close_frame(1011, masked=False))
    client.exactly(4)


def half_closed(client: Peer, app: RawApp) -> None:
    """The client has sent its FIN."""
    opened(client, app)
    client.half_close()
    KEPT[-1].rest()


KEPT: list[Peer] = []

PHASES: list[tuple[Callable[[Peer, RawApp], None], Ends]] = [
    (connected, []),
    (half_a_request, []),
    (unanswered, []),
    (opened, [("1001", "drain", "proxy")]),
    (inside_a_frame, [("1006", "drain", "proxy")]),
    (inside_a_client_frame, [("1001", "drain", "proxy")]),
    (closing, [("1011", "internal-error", "server")]),
    (half_closed, [("1006", "connection-lost", "client")]),
]


@pytest.mark.parametrize(("phase", "ends"), PHASES, ids=[phase.__name__ for phase, _ in PHASES])
def test_sigterm_in_every_phase(raw_app: RawApp, phase: Callable[[Peer, RawApp], None], ends: Ends) -> None:
    """Whatever a client and the app were at, both get the end of TCP, and each session its one ending."""
    flags = ("--drain-timeout", "1s", "--drain-spread", "100ms", "--close-timeout", "300ms", "--drain-linger", "0")
    with troubled(raw_app.port, *flags) as sidecar:
        client = Peer.connect(sidecar.port)
        try:
            phase(client, raw_app)
            sidecar.process.signal(signal.SIGTERM)
            assert sidecar.process.wait(WAIT_LIMIT) == 0
            client.rest()
            assert endings(sidecar) == ends
            assert "Traceback" not in sidecar.process.output()
            assert sidecar.lines("drain.finished")
        finally:
            client.close()
            while KEPT:
                KEPT[-1].rest()
                KEPT.pop().close()


def test_sigterm_while_the_app_is_down(raw_app: RawApp) -> None:
    """With nothing behind it the sidecar ends all the same."""
    with troubled(1) as sidecar:
        client = Peer.connect(sidecar.port)
        client.send(upgrade_request())
        assert client.rest().startswith(b"HTTP/1.1 502 ")
        client.close()
        sidecar.process.signal(signal.SIGTERM)
        assert sidecar.process.wait(WAIT_LIMIT) == 0
        assert endings(sidecar) == []


class Coming(threading.Thread):
    """A client that comes, asks, is answered and comes again, until nobody answers any more."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                with contextlib.closing(Peer.connect(self._port)) as client, contextlib.suppress(ConnectionError):
                    client.send(upgrade_request())
                    client.rest()


def test_sigterm_while_clients_keep_coming() -> None:
    """Clients that are just being let in when a drain begins do not keep the process from ending in time."""
    with troubled(1, "--drain-timeout", "1s", "--drain-spread", "100ms", "--drain-linger", "0") as sidecar:
        crowd = [Coming(sidecar.port) for _ in range(16)]
        for client in crowd:
            client.start()
        eventually(lambda: sidecar.scrape().value(CONNECT_ERRORS, reason="refused") > len(crowd), "all have come")
        sidecar.process.signal(signal.SIGTERM)
        assert sidecar.process.wait(WAIT_LIMIT) == 0
        assert sidecar.lines("exporter.defect") == []
        for client in crowd:
            client.join(WAIT_LIMIT)
            assert not client.is_alive()


def endings(sidecar: TroubledSidecar) -> Ends:
    """What the log says of endings."""
    return [(line["code"], line["cause"], line["initiator"]) for line in sidecar.lines("session.closed")]
