"""The reports of a relay: counters in the cells, and messages that never wait."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from exporter.protocol.counters import OPCODES
from exporter.protocol.enums import Cause, ConnectError, Peer
from exporter.protocol.messages import FLUSH, MAX_OPENED
from exporter.relay import reporter as module
from exporter.relay.context import Limits
from tests.compiled import plain_only
from tests.unit.relay.harness import REQUEST, SWITCH, Observed, bench
from tests.waiting import until
from tests.wire import KEY, PING, PONG, TEXT, close, frame


async def test_session_opens_and_closes_is_counted_and_sent_once() -> None:
    """A session is one in opened and, while it is open, in active; its record comes once."""
    async with bench() as b:
        (route,) = b.observed.layout.routes[:1]
        client, server, watched = await b.session()
        assert (b.observed.cells[route.handshakes], b.observed.cells[route.active]) == (1, 1)
        await server.send(close(1001))
        await client.expect(close(1001))
        await client.send(close(1001, mask=KEY))
        await until(lambda: watched.endings, "the record has come")
        assert (b.observed.cells[route.handshakes], b.observed.cells[route.active]) == (1, 0)
        client.close()
        server.close()
        await b.quiet()
        (record,) = watched.records
        assert (record.number, record.route, record.first_close) == (1, 0, Peer.SERVER)
        assert record.opened_at < record.closed_at


async def test_record_when_the_observer_takes_none_is_counted_by_initiator() -> None:
    """A record that the kernel does not take is counted as dropped, by route and initiator; active falls all the
    same."""
    async with bench() as b:
        (route,) = b.observed.layout.routes[:1]
        opened = [await b.session() for _ in range(2)]
        b.observed.receive()
        with suppress(BlockingIOError):
            while b.observed.relays.send(FLUSH + bytes(1000)):
                pass
        opened[0][0].close()
        opened[1][1].close()
        await until(lambda: b.observed.cells[route.active] == 0, "both are over")
        dropped = {peer: b.observed.cells[route.dropped + index] for index, peer in enumerate(Peer)}
        assert dropped == {Peer.CLIENT: 1, Peer.SERVER: 1, Peer.PROXY: 0}
        with suppress(BlockingIOError):
            while b.observed.messages.recv(8192):
                pass


async def test_flush_brings_the_counts_of_open_sessions() -> None:
    """After FLUSHED the cells hold every frame that was forwarded before FLUSH, of sessions that are still open."""
    async with bench() as b:
        (route,) = b.observed.layout.routes[:1]
        opened = [await b.session() for _ in range(3)]
        up = frame(TEXT, b"hello", mask=KEY) * 2 + frame(PING, b"p", mask=KEY)
        for client, server, _ in opened:
            await client.send(up)
            await server.expect(up)
        b.observed.messages.send(FLUSH)
        await until(lambda: (b.observed.receive(), b.observed.flushed)[1], "it is flushed")
        start = route.frames[Peer.CLIENT]
        counts = {opcode: b.observed.cells[start + index] for index, opcode in enumerate(OPCODES)}
        assert {opcode: count for opcode, count in counts.items() if count} == {"text": 6, "ping": 3}
        assert b.observed.cells[route.payload[Peer.CLIENT]] == 3 * 11


@plain_only
async def test_flush_of_many_sessions_goes_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions are flushed a slice at a time; a second FLUSH meanwhile is answered too."""
    monkeypatch.setattr(module, "FLUSH_SLICE", 2)
    async with bench() as b:
        opened = [await b.session() for _ in range(5)]
        for client, server, _ in opened:
            await client.send(frame(TEXT, b"x", mask=KEY))
            await server.expect(frame(TEXT, b"x", mask=KEY))
        b.observed.messages.send(FLUSH)
        await asyncio.sleep(0)
        b.observed.messages.send(FLUSH)
        await until(lambda: (b.observed.receive(), b.observed.flushed)[1] >= 1, "it is flushed")
        assert b.observed.cells[b.observed.layout.routes[0].payload[Peer.CLIENT]] == 5


async def test_openings_are_sent_in_batches() -> None:
    """Openings wait for a batch or a second, and come with route, time and identity."""
    async with bench() as b:
        opened = [await b.session() for _ in range(2)]
        await until(lambda: len((b.observed.receive(), b.observed.opened)[1]) == 2, "a second later they are there")
        assert len({observed.identity for observed in b.observed.opened}) == 1
        assert len(opened) < MAX_OPENED


async def test_notices_of_one_event_are_throttled_and_counted() -> None:
    """Of a hundred failures one notice is sent; the cell counts them all."""
    async with bench() as b:
        for _ in range(100):
            b.observed.reporter.connect_failed(ConnectError.REFUSED, "refused")
        b.observed.reporter.connect_failed(ConnectError.DNS, "unknown")
        notices = b.observed.noticed("upstream.connect_failed")
        assert [(fields["reason"], fields["times"]) for fields in notices] == [("refused", 1), ("dns", 1)]
        assert b.observed.cells[b.observed.layout.connect_errors[ConnectError.REFUSED]] == 100


async def test_ping_that_is_answered_is_timed() -> None:
    """The round trip of a ping is one observation of its sender's histogram."""
    async with bench() as b:
        client, server, _ = await b.session()
        await server.send(frame(PING, b"p"))
        await client.expect(frame(PING, b"p"))
        await client.send(frame(PONG, b"p", mask=KEY))
        await server.expect(frame(PONG, b"p", mask=KEY))
        cells = b.observed.layout.routes[0].ping_rtt[Peer.SERVER]
        assert sum(b.observed.cells[cells.start : cells.start + len(cells.bounds) + 1]) == 1


async def test_limit_of_clients_is_that_of_all_relays() -> None:
    """Clients of another relay count against ``--max-connections``."""
    async with bench(Limits(max_connections=3)) as b:
        other = memoryview(bytearray(len(b.observed.cells) * 8)).cast("q")
        b.observed.blocks.append(other)
        other[b.observed.layout.clients] = 2
        opened = await b.session()
        refused = await b.client()
        await refused.send(REQUEST)
        assert (await refused.rest()).startswith(b"HTTP/1.1 503 ")
        assert opened[2].endings == []
        other[b.observed.layout.clients] = 0
        second, server = await b.pair()
        await second.send(REQUEST)
        await server.expect(REQUEST)
        await server.send(SWITCH)
        await second.expect(SWITCH)


async def test_session_that_we_close_at_once_is_the_proxys() -> None:
    """What the process closes at its end is reported before it is gone."""
    async with bench() as b:
        _, _, watched = await b.session()
        b.relay.close_all()
        assert [(e.cause, e.initiator) for e in watched.endings] == [(Cause.DRAIN, Peer.PROXY)]


def test_reporter_whose_observer_is_gone_raises_nothing() -> None:
    """Nothing raises into the traffic when nobody is at the other end."""
    observed = Observed()
    observed.messages.close()
    observed.reporter.connect_failed(ConnectError.REFUSED, "refused")
    observed.reporter.defect(ValueError("one"))
    observed.relays.close()
    observed.reporter.defect(ValueError("another"))
