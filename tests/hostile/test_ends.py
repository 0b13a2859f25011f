"""Peers that end, do not end, or do not read: every end is counted when it happens, and travels as it came."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress

import pytest
from websockets.frames import Opcode

from exporter.relay.tcp_writer import HIGH_WATER
from tests.e2e.harness.scrape import ACTIVE, CLOSED
from tests.e2e.harness.sidecar import Sidecar, audited, open_session
from tests.e2e.harness.wire import Peer, RawApp, close_frame, frame, noise, upgrade_request
from tests.unit.relay.harness import bench
from tests.waiting import eventually, until

#: Seconds within which an end must be counted: a settle time, a look at the app's port, and a slow machine.
SOON = 5.0
MIB = 1024 * 1024


def is_counted(sidecar: Sidecar, count: float = 1) -> bool:
    scrape = sidecar.scrape()
    return scrape.value(CLOSED) >= count and scrape.value(ACTIVE) == 0


def fill(peer: Peer, *, masked: bool) -> None:
    """Send until nothing is taken any more, for half a second."""
    data = frame(Opcode.BINARY, noise(MIB), masked=masked)
    peer.socket.settimeout(0.5)
    with suppress(TimeoutError):
        for _ in range(64):
            peer.socket.sendall(data)
        raise AssertionError("64 MiB were taken")


@pytest.mark.parametrize("by", ["client", "server"])
def test_peer_resets_while_the_other_does_not_read_is_counted(raw_app: RawApp, by: str) -> None:
    """The reset of a peer is counted soon although the other takes none of the bytes that came before."""
    with audited(raw_app.port) as sidecar:
        client, app = open_session(sidecar, raw_app, receive_buffer=4096)
        sender, other = (client, app) if by == "client" else (app, client)
        fill(sender, masked=by == "client")
        sender.reset()
        eventually(lambda: is_counted(sidecar), "the end is counted", SOON)
        ((_, cause, initiator),) = sidecar.scrape().endings()
        assert initiator == by
        assert cause in ("connection-reset", "slow-client")
        other.close()


@pytest.mark.parametrize("by", ["client", "server"])
def test_reset_behind_data_arrives_as_a_reset_behind_the_data(raw_app: RawApp, by: str) -> None:
    """A reset of either peer is a reset for the other, after every byte that came before it."""
    with audited(raw_app.port) as sidecar:
        client, app = open_session(sidecar, raw_app)
        sender, receiver = (client, app) if by == "client" else (app, client)
        data = frame(Opcode.BINARY, noise(100_000), masked=by == "client")
        sender.send(data)
        assert receiver.exactly(len(data)) == data
        sender.send(b"\x89\x00" if by == "server" else b"\x89\x80\0\0\0\0")
        sender.reset()
        assert receiver.some() in (b"\x89\x00", b"\x89\x80\0\0\0\0")
        with pytest.raises(ConnectionResetError):
            receiver.some()
        receiver.close()


def test_app_keeps_tcp_open_after_both_closes_is_counted_at_once(raw_app: RawApp) -> None:
    """A session is closed once both Close frames have passed, whatever becomes of TCP; its duration ends there."""
    with audited(raw_app.port) as sidecar:
        client, app = open_session(sidecar, raw_app)
        app.send(close_frame(1000, masked=False))
        client.until(close_frame(1000, masked=False))
        client.send(close_frame(1000, masked=True))
        eventually(lambda: is_counted(sidecar), "the end is counted", SOON)
        assert sidecar.scrape().endings() == {("1000", "normal", "server"): 1}
        (line,) = eventually(sidecar.closed_lines, "the end is logged")
        assert line["clean"] is True
        assert float(str(line["duration_s"])) < SOON
        client.close()
        app.close()


async def test_slow_client_stalls_for_long_gets_the_whole_tail() -> None:
    """A client that takes nothing for eleven seconds after both peers have ended still gets every byte, then a FIN."""
    async with bench() as b:
        client, server, watched = await b.session(receive_buffer=4096)
        to_client = watched.tunnel.client.transport
        message, sent = frame(Opcode.BINARY, noise(16_000), masked=False), 0
        while not to_client.get_write_buffer_size():
            await server.send(message)
            sent += 1
            await until(lambda total=sent * 16_000: watched.session.server.payload == total)
        assert to_client.get_write_buffer_size() < HIGH_WATER
        server.fin()
        client.fin()
        await b.ending(watched)
        await asyncio.sleep(11.0)
        assert await client.rest() == message * sent
        client.close()
        server.close()


def test_refused_clients_that_linger_do_not_keep_the_limit_full(raw_app: RawApp) -> None:
    """A place that a session leaves is free for the next client, however many refused ones still hang on."""
    with audited(raw_app.port, "--max-connections", "2") as sidecar:
        first, its_app = open_session(sidecar, raw_app)
        second, other_app = open_session(sidecar, raw_app)
        before = sidecar.process.descriptors()
        refused = [Peer.connect(sidecar.port) for _ in range(20)]
        eventually(lambda: sidecar.process.descriptors() >= before + len(refused), "all are refused", SOON)
        first.close()
        its_app.close()
        eventually(lambda: is_served(sidecar), "a place is free", SOON)
        for peer in (*refused, second, other_app):
            peer.close()


def is_served(sidecar: Sidecar) -> bool:
    """Whether a new client reaches the app, which is the test and does not answer."""
    with closing(Peer.connect(sidecar.port)) as client:
        client.send(upgrade_request())
        client.socket.settimeout(0.5)
        try:
            assert client.some().startswith(b"HTTP/1.1 503 ")
        except TimeoutError:
            return True
    return False
