"""The app is killed, stopped, restarted, silent: what its clients get, what is counted, what the log says."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from contextlib import ExitStack

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.frames import Opcode
from websockets.sync.client import connect as connect_sync

from tests.e2e.harness.process import Process
from tests.e2e.harness.scrape import ACTIVE, CLOSED, CONNECT_ERRORS, HANDSHAKES
from tests.e2e.harness.stack import python
from tests.e2e.harness.wire import Peer, RawApp, frame, upgrade_request
from tests.integration.faults.harness import session, troubled
from tests.ports import free_port
from tests.waiting import WAIT_LIMIT, eventually

STACK = python("websockets", "websockets_asyncio.py", needs="websockets")


def echoed(client: websockets.sync.client.ClientConnection, text: str) -> bool:
    """One message there and back."""
    client.send(text)
    return client.recv(timeout=WAIT_LIMIT) == text


def test_a_killed_app_is_app_down() -> None:
    """SIGKILL: clients get the end of TCP at once (1006), cause app-down; then 502; a new app is served at once."""
    port = free_port()
    app = STACK.start(port)
    with troubled(port) as sidecar, ExitStack() as cleanup:
        before = sidecar.scrape()
        clients = [cleanup.enter_context(connect_sync(sidecar.url)) for _ in range(3)]
        assert all(echoed(client, "hello") for client in clients)
        kill(app)
        for client in clients:
            with pytest.raises(websockets.ConnectionClosedError) as ended:
                client.recv(timeout=WAIT_LIMIT)
            assert ended.value.rcvd is None, "no Close frame: 1006 in a browser"
        added = sidecar.settled(before, 3)
        assert added.endings() == {("1006", "app-down", "server"): 3}
        eventually(lambda: len(sidecar.lines("session.closed")) == 3, "three lines")
        assert {line["cause"] for line in sidecar.lines("session.closed")} == {"app-down"}

        with pytest.raises(websockets.InvalidStatus) as refused, connect_sync(sidecar.url):
            pass
        assert refused.value.response.status_code == 502
        assert sidecar.scrape().since(before).by(CONNECT_ERRORS, "reason") == {"refused": 1}
        assert sidecar.line("upstream.connect_failed")["reason"] == "refused"

        app = STACK.start(port)
        sidecar.wait_ready()
        with connect_sync(sidecar.url) as client:
            assert echoed(client, "back again")
    app.stop()


def test_a_stopped_app_is_waited_for() -> None:
    """SIGSTOP: sessions stay, nothing is made up; a client that gives up is `aborted`; SIGCONT: all arrives."""
    port = free_port()
    app = STACK.start(port)
    with troubled(port) as sidecar:
        before = sidecar.scrape()
        with connect_sync(sidecar.url) as client:
            assert echoed(client, "hello")
            app.signal(signal.SIGSTOP)
            client.send("are you there?")
            with pytest.raises(TimeoutError):
                client.recv(timeout=0.5)
            impatient = Peer.connect(sidecar.port)
            impatient.send(upgrade_request())
            impatient.half_close()
            impatient.close()
            meanwhile = sidecar.scrape()
            assert meanwhile.value(ACTIVE) == 1
            assert meanwhile.since(before).endings() == {}
            app.signal(signal.SIGCONT)
            assert client.recv(timeout=WAIT_LIMIT) == "are you there?"
        added = sidecar.settled(before)
        assert added.endings()[("1000", "normal", "client")] == 1
        statuses = sidecar.scrape().since(before).by(HANDSHAKES, "status")
        assert statuses.get("101", 0) + statuses.get("aborted", 0) == 2, "the impatient client is counted once"
        assert "502" not in statuses
    app.stop()


def test_an_app_that_never_answers(raw_app: RawApp) -> None:
    """An upgrade without an answer ends with the client's patience: `aborted`, no session, no ending."""
    with troubled(raw_app.port) as sidecar:
        before = sidecar.scrape()
        client = Peer.connect(sidecar.port)
        client.send(upgrade_request())
        server = raw_app.accept()
        server.until(b"\r\n\r\n")
        client.close()
        assert server.rest() == b""
        server.close()

        def aborted() -> bool:
            return sidecar.scrape().since(before).by(HANDSHAKES, "status") == {"aborted": 1}

        eventually(aborted, "the handshake is counted as aborted")
        assert sidecar.scrape().since(before).endings() == {}


RESTARTS = 20
CLIENTS = 20


def test_twenty_restarts_under_load() -> None:
    """20 kills and starts under 20 busy clients: every session has one ending, every client finds back."""
    port = free_port()
    app = STACK.start(port)
    with troubled(port) as sidecar:
        over = threading.Event()
        counts = {"opened": 0, "lost": 0, "refused": 0}

        async def client(dice: random.Random) -> None:
            while not over.is_set():
                try:
                    async with connect(sidecar.url, open_timeout=WAIT_LIMIT, ping_interval=None) as websocket:
                        counts["opened"] += 1
                        for number in range(dice.randrange(5, 50)):
                            await websocket.send(str(number))
                            assert await websocket.recv() == str(number)
                except websockets.ConnectionClosedError:
                    counts["lost"] += 1
                except (websockets.InvalidHandshake, EOFError, OSError):
                    counts["refused"] += 1
                    await asyncio.sleep(0.02)

        async def crowd() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    group.create_task(client(random.Random(number)))

        thread = threading.Thread(target=asyncio.run, args=(crowd(),))
        thread.start()
        try:
            for _ in range(RESTARTS):
                seen = counts["opened"]
                eventually(lambda seen=seen: counts["opened"] >= seen + CLIENTS, "the clients are back")  # type: ignore[misc]
                kill(app)
                app = STACK.start(port)
        finally:
            over.set()
            thread.join()

        def balanced() -> bool:
            now = sidecar.scrape()
            return now.value(ACTIVE) == 0 and now.value(HANDSHAKES, status="101") == now.value(CLOSED)

        eventually(balanced, "as many endings as 101s")
        books = sidecar.scrape()
        assert books.value(CLOSED) >= counts["opened"]
        assert counts["lost"] >= RESTARTS
        kinds = {(code, initiator) for code, _, initiator in books.endings()}
        assert kinds <= {("1000", "client"), ("1006", "server"), ("1006", "client")}
        assert books.closed(initiator="server", cause="app-down") + books.closed(cause="app-restarted") >= RESTARTS
        assert "Traceback" not in sidecar.process.output()
    app.stop()


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_peer_that_only_closes_half_is_given_up_when_silent(raw_app: RawApp, who: str) -> None:
    """After a FIN the other peer may go on; if it says nothing for a minute (here a second) it is given up."""
    altered = ["exporter.relay.legs.HALF_CLOSED=1.0"]
    with troubled(raw_app.port, altered=altered) as sidecar:
        before = sidecar.scrape()
        with session(sidecar, raw_app) as (client, server):
            first, second = (client, server) if who == "client" else (server, client)
            first.half_close()
            assert second.rest() == b""
            tail = frame(Opcode.TEXT, b"not silent yet", masked=second is client)
            for _ in range(8):  # two seconds of it
                threading.Event().wait(0.25)
                second.send(tail)
                assert first.exactly(len(tail)) == tail
            assert first.rest() == b""
            added = sidecar.settled(before)
        assert added.endings() == {("1006", "connection-lost", who): 1}


def kill(process: Process) -> None:
    """SIGKILL, and forget it."""
    process.kill_group()
    process.stop()
