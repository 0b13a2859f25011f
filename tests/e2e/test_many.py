"""Many sessions at once: crashes, rolling restarts and churn are counted one by one, and nothing is left behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.frames import Opcode

from tests.ports import free_port
from tests.waiting import eventually

from .harness.process import Process
from .harness.scrape import ACTIVE
from .harness.sidecar import Sidecar, audited
from .harness.stack import python
from .harness.wire import Peer, RawApp, close_frame, frame, switching_protocols, upgrade_request

MANY = 50

APP = python("the echo app", "websockets_asyncio.py", "--close-on-sigterm", needs="websockets")


@pytest.fixture
def app() -> Iterator[Process]:
    """An echoing app on a port of its own (`app.port`)."""
    port = free_port()
    process = APP.start(port)
    process.port = port  # type: ignore[attr-defined]
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture
def sidecar(app: Process) -> Iterator[Sidecar]:
    """A sidecar in front of that app; its books must balance."""
    with audited(app.port) as sidecar:  # type: ignore[attr-defined]
        yield sidecar


def sessions(sidecar: Sidecar, count: int) -> list[Peer]:
    """Open sessions, each past its handshake."""
    clients = [Peer.connect(sidecar.port) for _ in range(count)]
    for client in clients:
        client.handshake()
    eventually(lambda: sidecar.scrape().value(ACTIVE) == count, f"{count} sessions are active")
    return clients


def test_a_crash_counts_every_session(sidecar: Sidecar, app: Process) -> None:
    """An app that dies takes all its sessions along: each of them is app-down, not only the first."""
    before = sidecar.scrape()
    clients = sessions(sidecar, MANY)
    app.kill_group()
    for client in clients:
        assert client.rest() == b""
        client.close()
    assert sidecar.settled(before, MANY).endings() == {("1006", "app-down", "server"): MANY}


def test_rolling_restart_is_expected(sidecar: Sidecar, app: Process) -> None:
    """A restart in good order is 1001 by the server for everybody, and the next app serves without our help."""
    before = sidecar.scrape()
    clients = sessions(sidecar, MANY)
    app.signal(signal.SIGTERM)
    for client in clients:
        assert client.exactly(4) == close_frame(1001, masked=False)
        client.send(close_frame(1001, masked=True))
        client.rest()
        client.close()
    assert sidecar.settled(before, MANY).endings() == {("1001", "going-away", "server"): MANY}
    app.stop()

    again = APP.start(sidecar.upstream_port)
    try:
        before = sidecar.scrape()
        (client,) = sessions(sidecar, 1)
        client.send(close_frame(1000, masked=True))
        client.rest()
        client.close()
        assert sidecar.settled(before).endings() == {("1000", "normal", "client"): 1}
    finally:
        again.stop()


def leave(sidecar: Sidecar, turn: int) -> tuple[str, str, str]:
    """One client's life, ending in one of four ways; returns the ending to be counted."""
    client = Peer.connect(sidecar.port)
    client.handshake()
    client.send(frame(Opcode.TEXT, b"hello", masked=True))
    assert client.exactly(7) == frame(Opcode.TEXT, b"hello", masked=False)
    match turn % 4:
        case 0:
            client.send(close_frame(1001, masked=True))
            client.rest()
            client.close()
            return ("1001", "going-away", "client")
        case 1:
            client.close()
            return ("1006", "connection-lost", "client")
        case 2:
            client.reset()
            return ("1006", "connection-reset", "client")
        case _:
            client.send(frame(Opcode.TEXT, b"raise", masked=True))
            assert client.exactly(4) == close_frame(1011, masked=False)
            client.send(close_frame(1011, masked=True))
            client.rest()
            client.close()
            return ("1011", "internal-error", "server")


def test_churn_leaves_nothing_behind(sidecar: Sidecar) -> None:
    """Hundreds of short sessions, many at once, ended in all ways: each is counted as what it was, once.

    Afterwards the process lives and holds no file descriptor more than before.
    """
    before = sidecar.scrape()
    at_rest = sidecar.process.descriptors()
    turns = 400
    with ThreadPoolExecutor(8) as pool:
        endings = list(pool.map(lambda turn: leave(sidecar, turn), range(turns)))
    added = sidecar.settled(before, turns)
    assert added.endings() == {ending: endings.count(ending) for ending in endings}
    assert added.value("websocket_frames_total", opcode="text", sender="server") == turns
    eventually(lambda: sidecar.process.descriptors() <= at_rest + 2, "descriptors are closed")
    assert sidecar.process.returncode is None


def test_probes_are_few() -> None:
    """Thirty sessions dropped at once by a living app cost a few probes, and are a lost worker, not app-down."""
    app = RawApp(free_port())
    sidecar = Sidecar(app.port, wait_ready=True)
    try:
        before = sidecar.scrape()
        pairs = []
        for _ in range(30):
            client = Peer.connect(sidecar.port)
            client.send(upgrade_request())
            server = app.accept()
            server.accept_handshake()
            assert client.until(b"\r\n\r\n") == switching_protocols()
            pairs.append((client, server))
            time.sleep(0.01)  # so that they have been idle for different times
        silent = app.silent
        for _, server in pairs:
            server.close()
        for client, _ in pairs:
            assert client.rest() == b""
            client.close()
        assert sidecar.settled(before, 30).endings() == {("1006", "worker-lost", "server"): 30}
        client = Peer.connect(sidecar.port)
        client.send(upgrade_request())
        app.accept().close()  # the probes queue in front of it, and have been counted on the way
        client.close()
        assert app.silent - silent <= 5
    finally:
        sidecar.stop()
        app.close()
