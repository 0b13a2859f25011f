"""What two TCP connections mean for each other, on real sockets: FINs behind data, buffers, and what a reset leaves."""

from __future__ import annotations

import asyncio
import socket

import pytest

from exporter.protocol.enums import Peer, TcpEndKind
from exporter.relay import legs
from exporter.relay.legs import Leg, LegOwner, half_close_timeouts
from exporter.relay.poller import Poller
from exporter.relay.tcp import TcpTransport
from exporter.relay.tcp_writer import HIGH_WATER
from tests.unit.relay.harness import Wire
from tests.waiting import until


class Relaying(Leg):
    """A leg that only passes on."""

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)


class Kept(LegOwner):
    """An owner that writes down what it is told."""

    def __init__(self) -> None:
        self.cuts: list[tuple[Peer, TcpEndKind]] = []
        self.overs = 0
        self.half_close_timeouts = half_close_timeouts()

    def on_leg_end(self, peer: Peer, how: TcpEndKind) -> None:
        self.cuts.append((peer, how))

    def on_closed(self) -> None:
        self.overs += 1


async def relay() -> tuple[Wire, Wire, Kept, Relaying, Relaying]:
    """A client and a server with two legs between them."""
    owner = Kept()
    client, server = Relaying(Peer.CLIENT, owner), Relaying(Peer.SERVER, owner)
    client.other, server.other = server, client
    ends = []
    poller = Poller()
    for leg in (client, server):
        ours, theirs = tcp_pair()
        TcpTransport(poller, ours, leg)
        ends.append(Wire(theirs))
    return ends[0], ends[1], owner, client, server


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    ours.setblocking(False)
    return ours, theirs


async def test_both_fins_end_both_connections() -> None:
    """The first FIN passes on, the second closes: each cut is told once with its peer, the end once."""
    client, server, owner, *_ = await relay()
    await client.send(b"to the server")
    client.fin()
    assert await server.rest() == b"to the server"
    assert owner.cuts == [(Peer.CLIENT, TcpEndKind.FIN)]
    assert owner.overs == 0
    await server.send(b"to the client")
    server.fin()
    assert await client.rest() == b"to the client"
    await until(lambda: owner.overs)
    assert owner.cuts == [(Peer.CLIENT, TcpEndKind.FIN), (Peer.SERVER, TcpEndKind.FIN)]
    assert owner.overs == 1
    client.close()
    server.close()


async def test_a_fin_waits_behind_what_is_buffered() -> None:
    """A FIN is sent when all that was read before it has been sent, even if the reader takes its time."""
    client, server, owner, _, leg = await relay()
    written = 0
    while not leg.transport.get_write_buffer_size():
        leg.transport.write(bytes(16384))
        written += 16384
    client.fin()
    await until(lambda: owner.cuts == [(Peer.CLIENT, TcpEndKind.FIN)])
    assert leg.transport.get_write_buffer_size(), "the FIN overtakes nothing unless something waits"
    assert await server.rest() == bytes(written)
    server.close()
    assert await client.rest() == b""
    client.close()


async def test_a_fin_behind_a_flood_loses_nothing() -> None:
    """A client that sends much and then half-closes has all of it delivered to a reader that starts late."""
    client, server, _, _, leg = await relay()
    data = bytes(range(256)) * 100_000
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(client.sock, data))
    await until(lambda: leg.transport.get_write_buffer_size() > 0, "bytes wait in our buffer")
    reading = asyncio.create_task(server.rest())
    await sending
    client.fin()
    assert await reading == data
    server.close()
    assert await client.rest() == b""
    client.close()


@pytest.mark.parametrize("first", [Peer.CLIENT, Peer.SERVER])
async def test_a_reset_is_told_as_one_and_ends_the_other(first: Peer) -> None:
    """A reset is told with its peer, once; the other connection is closed, and that end is not told as a cut."""
    client, server, owner, *_ = await relay()
    one, other = (client, server) if first is Peer.CLIENT else (server, client)
    one.reset()
    with pytest.raises(ConnectionResetError):
        await other.rest()
    other.close()
    await until(lambda: owner.overs)
    assert owner.cuts == [(first, TcpEndKind.RESET)]
    assert owner.overs == 1


async def test_a_reset_after_a_fin_is_not_told_again() -> None:
    """A peer whose FIN was read and which then resets has ended once."""
    client, server, owner, *_ = await relay()
    client.fin()
    assert await server.rest() == b""
    client.reset()
    await until(lambda: server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "the reset has passed on")
    server.close()
    await until(lambda: owner.overs)
    assert owner.cuts[0] == (Peer.CLIENT, TcpEndKind.FIN)
    assert [peer for peer, _ in owner.cuts].count(Peer.CLIENT) == 1


async def test_a_full_buffer_stops_the_reading_and_an_empty_one_starts_it() -> None:
    """Above the mark the other leg stops reading; when the buffer has drained it reads again."""
    client, server, _, from_client, to_server = await relay()
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(client.sock, bytes(24 << 20)))
    await until(lambda: not from_client.transport._reading, "the client is made to wait")
    assert to_server.transport.get_write_buffer_size() > HIGH_WATER
    assert not sending.done()
    assert await server.read(24 << 20) == bytes(24 << 20)
    await sending
    assert from_client.transport._reading
    client.close()
    server.close()


async def test_a_reader_that_never_comes_back_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed leg whose peer does not read is aborted after a while: no connection stays for ever."""
    monkeypatch.setattr(legs, "NO_PROGRESS", 0.05)
    monkeypatch.setattr(legs, "DELIVERY_INTERVAL", 0.01)
    client, server, owner, _, to_server = await relay()
    while not to_server.transport.get_write_buffer_size():
        to_server.transport.write(bytes(16384))
    client.reset()
    await until(lambda: owner.overs, "both are gone although the server never read")
    assert owner.overs == 1
    server.close()


async def test_a_close_behind_a_paused_read_survives_a_failed_write() -> None:
    """A server that is not being read from resets; what it sent last is still passed on before its client's end."""
    client, server, owner, _, from_server = await relay()
    from_server.transport.pause_reading()
    await server.send(b"\x88\x02\x03\xf3")
    server.reset()
    await client.expect(b"\x88\x02\x03\xf3")
    with pytest.raises(ConnectionResetError):
        await client.rest()
    client.close()
    await until(lambda: owner.overs)
    assert owner.cuts[0] == (Peer.SERVER, TcpEndKind.RESET)
