"""Out of file descriptors: accepting pauses, nothing crashes, it recovers, and it is counted."""

from __future__ import annotations

import resource
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.frames import Opcode

from tests.e2e.harness.scrape import ACTIVE, CONNECT_ERRORS
from tests.e2e.harness.wire import Peer, RawApp, frame, upgrade_request
from tests.integration.faults.harness import TroubledSidecar, session, troubled
from tests.waiting import eventually

PAUSES = "websocket_exporter_accept_pauses_total"

READ_SMALL = 'ulimit -n 128; exec "$@"'
CROWD = 80
"""More than 128 descriptors suffice for."""


def descriptors(sidecar: TroubledSidecar) -> int:
    """File descriptors that the relay has open."""
    return len(list(Path(f"/proc/{sidecar.relay_pid}/fd").iterdir()))


class Answering(threading.Thread):
    """The app: opens a session for whoever comes, and keeps it until its client leaves."""

    def __init__(self, app: RawApp, times: int) -> None:
        super().__init__(daemon=True)
        self.servers: list[Peer] = []
        self._app, self._times = app, times

    def run(self) -> None:
        for _ in range(self._times):
            server = self._app.accept()
            self.servers.append(server)  # first, for whoever reads the answer may look for it here
            server.accept_handshake()


def test_accept_pauses_and_goes_on(raw_app: RawApp) -> None:
    """Who is in talks on; who comes waits and is served when somebody leaves; nobody is turned away or cut off."""
    with troubled(raw_app.port, shell=READ_SMALL) as sidecar, ExitStack() as cleanup:
        before, at_first = sidecar.scrape(), descriptors(sidecar)
        app = Answering(raw_app, CROWD)
        app.start()
        clients = []
        for _ in range(CROWD):
            clients.append(client := Peer.connect(sidecar.port))
            cleanup.callback(client.close)
            client.send(upgrade_request())
        eventually(lambda: sidecar.scrape().since(before).value(PAUSES) >= 1, "accepting was paused")
        eventually(lambda: sidecar.scrape().value(ACTIVE) >= 15, "those who got in have a session")
        inside = int(sidecar.scrape().value(ACTIVE))
        assert inside < CROWD
        assert descriptors(sidecar) <= 128
        assert sidecar.get("/livez")[0] == 200
        eventually(lambda: sidecar.lines("accept.paused"), "the log says so")

        clients[0].until(b"\r\n\r\n")
        hello = frame(Opcode.TEXT, b"still here", masked=True)
        clients[0].send(hello)
        assert app.servers[0].exactly(len(hello)) == hello

        for number, client in enumerate(clients):  # in the order in which they came: each that leaves makes room
            if number:
                client.until(b"\r\n\r\n")
            client.close()
            app.servers[number].rest()
            app.servers[number].close()
        app.join()
        added = sidecar.settled(before, CROWD)
        assert sum(added.endings().values()) == added.closed(code="1006", initiator="client") == CROWD
        assert added.nonzero(CONNECT_ERRORS) == {}
        eventually(lambda: descriptors(sidecar) <= at_first, "every descriptor is given back")
        assert sidecar.process.returncode is None


@pytest.mark.parametrize("spare", [1, 2])
def test_a_limit_that_is_lowered_meanwhile_kills_nothing(raw_app: RawApp, spare: int) -> None:
    """When descriptors run out against all reckoning, clients get 502 or wait; sessions live; later all is well.

    One that is spare lets a client in, two let it through to the app as well.
    """
    with troubled(raw_app.port) as sidecar, session(sidecar, raw_app) as (client, server):
        before = sidecar.scrape()
        soft, hard = resource.prlimit(sidecar.relay_pid, resource.RLIMIT_NOFILE)
        resource.prlimit(sidecar.relay_pid, resource.RLIMIT_NOFILE, (descriptors(sidecar) + spare, hard))
        with ExitStack() as cleanup:
            for _ in range(5):
                latecomer = Peer.connect(sidecar.port)
                cleanup.callback(latecomer.close)
                latecomer.socket.setblocking(True)
                latecomer.send(upgrade_request())
            hello = frame(Opcode.TEXT, b"still here", masked=True)
            client.send(hello)
            assert server.exactly(len(hello)) == hello
        resource.prlimit(sidecar.relay_pid, resource.RLIMIT_NOFILE, (soft, hard))
        eventually(lambda: sidecar.get("/livez")[0] == 200, "the admin port answers")
        errors = sidecar.scrape().since(before).by(CONNECT_ERRORS, "reason")
        assert set(errors) <= {"resources"}
        with session(sidecar, raw_app, path="/afterwards") as (client, server):
            client.send(hello)
            assert server.exactly(len(hello)) == hello
        assert sidecar.process.returncode is None
