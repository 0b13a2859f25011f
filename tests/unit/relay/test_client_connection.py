"""From accept to the 101 and beyond HTTP: forwarding, our own 502 and 503, time limits, and what is told of it all."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Sequence

import pytest

from exporter.address import Address
from exporter.protocol.enums import Cause, ConnectError, Peer, Unobserved
from exporter.protocol.http1_parser import Reader
from exporter.protocol.session import Session
from exporter.relay import client_connection as handshake
from exporter.relay.client_connection import Connection, HttpLeg
from exporter.relay.context import Limits
from exporter.relay.legs import Leg
from exporter.relay.upstream import Upstream
from tests.compiled import plain_only
from tests.unit.relay.harness import REQUEST, SWITCH, App, Ended, Wire, bench, ended
from tests.waiting import WAIT_LIMIT, until
from tests.wire import KEY, TEXT, close, cut_at, frame, singly

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage"
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
CLIENT_HELLO = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(64))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.mark.parametrize("way", ["whole", "bytewise", "cut"])
async def test_the_handshake_passes_untouched(way: str) -> None:
    """Request and 101 arrive byte for byte as they were sent, in any segmentation; one handshake, one session."""

    def segments(data: bytes) -> list[bytes]:
        return {"whole": [data], "bytewise": singly(data), "cut": cut_at(data, [7, 50, len(data) - 2])}[way]

    async with bench() as b:
        client, server = await b.pair()
        await client.send(*segments(REQUEST))
        await server.expect(REQUEST)
        await server.send(*segments(SWITCH))
        await client.expect(SWITCH)
        await until(lambda: b.observed.sessions)
        assert len(b.relay.sessions) == 1
        assert (b.observed.accepted, b.observed.refusals, b.observed.aborts, b.observed.lost) == (1, [], 0, [])
        address = "{}:{}".format(*client.sock.getsockname())
        client.close()
        server.close()
        await b.quiet()
        (record,) = b.observed.sessions[0].records
        assert (record.path, record.address, record.peer_address) == ("/chat", address, "127.0.0.1")
        assert record.handshake_seconds >= 0


async def test_the_third_request_may_upgrade() -> None:
    """Plain HTTP, a refused upgrade and then a session on one kept-alive connection: each is told for what it is."""
    async with bench() as b:
        client, server = await b.pair()
        for asked, answered in ((GET, PAGE), (REQUEST, REFUSED), (GET, PAGE), (REQUEST, SWITCH)):
            await client.send(asked)
            await server.expect(asked)
            await server.send(answered)
            await client.expect(answered)
        await until(lambda: b.observed.sessions)
        assert b.observed.refusals == [403]
        client.close()
        assert await server.rest() == b""
        server.close()
        await b.quiet()
        assert b.observed.endings == [Ended("1006", Cause.CONNECTION_LOST, Peer.CLIENT, False)]


async def test_plain_http_is_no_handshake() -> None:
    """Requests that do not ask to upgrade pass and are told to nobody."""
    async with bench() as b:
        client, server = await b.pair()
        for _ in range(3):
            await client.send(GET)
            await server.expect(GET)
            await server.send(PAGE)
            await client.expect(PAGE)
        client.close()
        assert await server.rest() == b""
        server.close()
        await b.quiet()
        assert (b.observed.sessions, b.observed.refusals, b.observed.aborts, b.observed.lost) == ([], [], 0, [])


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("TLS", CLIENT_HELLO, Unobserved.TLS),
        ("HTTP/2", PREFACE, Unobserved.HTTP2),
        ("garbage", b"\x00\xff" * 50, Unobserved.HTTP1),
        ("a head too large", b"GET / HTTP/1.1\r\nX: " + b"x" * 5000 + b"\r\n\r\n", Unobserved.HEAD_TOO_LARGE),
    ],
)
async def test_what_is_not_http1_passes_and_is_told_once(name: str, data: bytes, reason: Unobserved) -> None:
    """Anything else flows both ways for as long as it likes: one unobserved, no handshake, no ending."""
    async with bench(Limits(max_head=4096, handshake_timeout=1.0)) as b:
        client, server = await b.pair()
        await client.send(*cut_at(data, [1, 9]))
        await server.expect(data)
        noise = os.urandom(300_000)
        for one, other in ((client, server), (server, client)):
            got, _ = await asyncio.gather(other.read(len(noise)), one.send(noise))
            assert got == noise
        assert b.observed.lost == [reason]
        client.close()
        assert await server.rest() == b""
        server.close()
        await b.quiet()
        assert b.observed.lost == [reason]
        assert (b.observed.sessions, b.observed.refusals, b.observed.aborts) == ([], [], 0)


async def test_an_upgrade_without_an_answer_is_aborted() -> None:
    """An app that hangs up on a request to upgrade: one aborted handshake, no session."""
    async with bench() as b:
        client, server = await b.pair()
        await client.send(REQUEST)
        await server.expect(REQUEST)
        server.close()
        assert await client.rest() == b""
        client.close()
        await b.quiet()
        assert (b.observed.aborts, b.observed.sessions, b.observed.refusals) == (1, [], [])


async def test_frames_of_a_client_that_leaves_before_the_101_reach_the_app() -> None:
    """A client that asks, speaks early and half-closes: the app gets all of it; the session is the client's to end."""
    early = frame(TEXT, b"hi", mask=KEY)
    async with bench() as b:
        client, server = await b.pair()
        await client.send(REQUEST + early)
        client.fin()
        assert await server.rest() == REQUEST + early
        await server.send(SWITCH)
        await client.expect(SWITCH)
        await until(lambda: b.observed.sessions)
        assert b.observed.sessions[0].session.client.frames == 1
        server.close()
        client.close()
        await b.quiet()
        assert [ending.initiator for ending in b.observed.endings] == [Peer.CLIENT]


# No app.


def gone() -> Upstream:
    app = App()
    app.stop()
    return Upstream(app.address)


async def test_no_app_is_a_502_with_a_short_text() -> None:
    """With nobody behind us a request to upgrade gets a 502 that says so; it counts as a handshake and as one connect
    error."""
    async with bench(upstream=gone()) as b:
        client = await b.client()
        await client.send(REQUEST)
        head, _, text = (await client.rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert b"Connection: close" in head
        assert f"Content-Length: {len(text)}".encode() in head
        assert b"websocket-exporter" in text
        assert len(text.splitlines()) == 1
        client.close()
        await b.quiet()
        assert b.observed.refusals == [502]
        assert b.observed.connect_errors == [ConnectError.REFUSED]
        assert (b.observed.aborts, b.observed.sessions, b.observed.lost) == (0, [], [])


async def test_no_app_for_plain_http_is_a_502_and_no_handshake() -> None:
    """A health check that finds no app gets the same 502, and counts as a connect error only."""
    async with bench(upstream=gone()) as b:
        client = await b.client()
        await client.send(*singly(GET))
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")
        client.close()
        await b.quiet()
        assert (b.observed.refusals, b.observed.connect_errors) == ([], [ConnectError.REFUSED])


async def test_no_app_for_tls_is_an_end_without_words() -> None:
    """Who does not speak HTTP gets no HTTP from us when there is no app: the connection just ends."""
    async with bench(upstream=gone()) as b:
        client = await b.client()
        await client.send(CLIENT_HELLO)
        assert await ended(client) == b""
        client.close()
        await b.quiet()
        assert b.observed.connect_errors == [ConnectError.REFUSED]


async def test_a_client_that_says_nothing_to_no_app_is_let_go() -> None:
    """A port scan while the app is down: counted as one connect error, closed as soon as the client leaves."""
    async with bench(upstream=gone()) as b:
        client = await b.client()
        await until(lambda: b.observed.connect_errors)
        client.fin()
        assert await client.rest() == b""
        client.close()
        await b.quiet()
        assert b.observed.refusals == []


async def test_half_a_request_to_no_app_is_let_go() -> None:
    """A client that sends half a request and no more while the app is down is let go when it ends, not later."""
    async with bench(upstream=gone()) as b:
        client = await b.client()
        await client.send(REQUEST[:30])
        client.fin()
        assert await client.rest() == b""
        client.close()
        await b.quiet()
        assert (b.observed.refusals, b.observed.aborts, b.observed.connect_errors) == ([], 0, [ConnectError.REFUSED])


async def test_it_recovers_when_the_app_comes() -> None:
    """After a 502 the next client finds the app that has started meanwhile; nothing has to be restarted."""
    upstream = gone()
    async with bench(upstream=upstream) as b:
        client = await b.client()
        await client.send(REQUEST)
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")
        client.close()
        b.app.stop()
        b.app = App(upstream.address.port)
        client, server, _ = await b.session()
        client.close()
        server.close()
        await b.quiet()
        assert b.observed.connect_errors == [ConnectError.REFUSED]
        b.app.stop()


async def test_a_client_that_does_not_take_its_502_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gets our 502 and keeps the connection open is disconnected after a moment."""
    monkeypatch.setattr(handshake, "REFUSAL_CLOSE_TIMEOUT", 0.05)
    async with bench(upstream=gone()) as b:
        client = await b.client()
        await client.send(REQUEST)
        await b.quiet()
        assert b.relay.context.clients == 0
        client.close()


# Limits.


async def drip(client: Wire, seconds: float) -> None:
    """Send a byte every now and then, for a time that is far above any limit here."""
    until = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < until:
        await client.send(b"x")
        await asyncio.sleep(0.01)


async def test_a_dripping_client_is_disconnected() -> None:
    """Slowloris: a request's head that does not end in time ends the connection, however busily it drips."""
    async with bench(Limits(handshake_timeout=0.2)) as b:
        client, server = await b.pair()
        await client.send(b"GET / HTTP/1.1\r\nHost: app\r\nX: ")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await drip(client, seconds=WAIT_LIMIT)
        await b.quiet()
        server.close()
        assert (b.observed.refusals, b.observed.aborts, b.observed.sessions) == ([], 0, [])


async def test_a_silent_client_is_disconnected() -> None:
    """A connection on which nothing is ever asked does not stay."""
    async with bench(Limits(handshake_timeout=0.1)) as b:
        client, server = await b.pair()
        assert await ended(client) == b""
        await b.quiet()
        server.close()


async def test_the_time_limit_is_for_the_first_request_only() -> None:
    """An app may take its time to answer, and a kept-alive connection and a session may be idle: no limit of ours."""
    async with bench(Limits(handshake_timeout=0.5)) as b:
        client, server = await b.pair()
        await client.send(GET)
        await server.expect(GET)
        on_timeout = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1.5, on_timeout.set_result, None)
        await on_timeout  # three times the limit
        assert client.is_silent()
        await server.send(PAGE)
        await client.expect(PAGE)
        await client.send(REQUEST)
        await server.expect(REQUEST)
        await server.send(SWITCH)
        await client.expect(SWITCH)


# Defects.


@plain_only
async def test_a_defect_in_the_http_listener_does_not_touch_the_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    """When overhearing HTTP fails, everything passes on unheard: request, 101 and frames."""

    def fail(*args: object) -> None:
        raise ZeroDivisionError

    async with bench() as b:
        client, server = await b.pair()
        monkeypatch.setattr("exporter.protocol.http1.HandshakeTracker.request", fail)
        for up, down in ((REQUEST, SWITCH), (frame(TEXT, b"a", mask=KEY), frame(TEXT, b"b"))):
            await client.send(up)
            await server.expect(up)
            await server.send(down)
            await client.expect(down)
        assert b.observed.defects == ["ZeroDivisionError"]
        assert b.observed.sessions == []
        client.close()
        server.close()
        await b.quiet()


class Slow(Upstream):
    """Connects and connects."""

    async def _open(self, sock: socket.socket | None = None) -> socket.socket:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_client_whose_request_waits_for_the_app_is_not_idle() -> None:
    """Who has asked is not hung up on with those who have not, however long the app takes to be connected to."""
    async with bench(upstream=Slow(Address("app", 9))) as b:
        silent, asking = await b.client(), await b.client()
        await asking.send(REQUEST)
        await until(lambda: [c.is_idle for c in b.relay.context.connections].count(False) == 1, "the request was read")
        b.relay.close_idle()
        assert await ended(silent) == b""
        assert b.relay.context.clients == 1
        assert asking.is_silent()


async def test_a_client_that_leaves_while_the_app_is_connected_to() -> None:
    """A client that resets before the app was reached leaves nothing behind: no task, no connection, no error."""

    async with bench(upstream=Slow(Address("app", 9))) as b:
        client = await b.client()
        await until(lambda: b.relay.context.clients == 1)
        client.reset()
        await b.quiet()
        assert (b.observed.connect_errors, b.observed.refusals) == ([], [])


async def test_a_101_that_is_found_in_a_broken_connection_is_a_session() -> None:
    """An app that switches, speaks, and resets while its client sends early frames: what it said reaches the client and
    is heard, and the session that began so late ends like any other."""
    async with bench() as b:
        for _ in range(30):
            client, server = await b.pair()
            await client.send(REQUEST)
            await server.expect(REQUEST)
            # Both happen before the relay's loop runs again: it finds a broken connection with the 101 still in it.
            client.sock.send(frame(TEXT, b"hi", mask=KEY) * 100)
            server.sock.send(SWITCH + close(1011))
            server.reset()
            await until(lambda: b.relay.context.is_quiet, "the session is over")
            assert await ended(client) == SWITCH + close(1011)
            client.close()
        assert [ending.code for ending in b.observed.endings] == ["1011"] * 30


def alive(*kinds: type, without: Sequence[object] = ()) -> list[object]:
    """The objects of these kinds that there are, less those that other tests left to the collector."""
    known = set(map(id, without))
    return [thing for thing in gc.get_objects() if isinstance(thing, kinds) and id(thing) not in known]


async def test_a_session_keeps_nothing_of_its_handshake() -> None:
    """The connection, legs, readers and parsers of the handshake are gone once a session has begun, without the
    collector's help: an idle session costs what it needs."""
    async with bench() as b:
        gc.collect()
        before = alive(Connection, HttpLeg, Reader)
        gc.disable()
        try:
            client, server, _ = await b.session()
            kept = alive(Connection, HttpLeg, Reader, without=before)
        finally:
            gc.enable()
        assert kept == []
        client.close()
        server.close()
        await b.quiet()


async def test_sessions_leave_nothing_to_the_collector() -> None:
    """A session that ended, by a Close or a drop, is gone at once: full collections may be rare."""
    async with bench() as b:
        gc.collect()
        before = alive(Connection, Leg, Session)
        gc.disable()
        try:
            for last in (close(1000, mask=KEY), b""):
                client, server, watched = await b.session()
                await client.send(last)
                await server.expect(last)
                client.close()
                server.close()
                await b.ending(watched)
            b.observed.forget()
            del watched
            await b.quiet()
            await asyncio.sleep(0)
            kept = alive(Connection, Leg, Session, without=before)
        finally:
            gc.enable()
        assert [type(thing) for thing in kept] == []
