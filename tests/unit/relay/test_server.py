"""The relay as a whole: how many clients, how old a session, who judges its end, and that nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from exporter.protocol.enums import Cause, Peer
from exporter.relay import server as listener
from exporter.relay.context import Limits
from exporter.relay.server import CLOSE_BATCH
from tests.compiled import plain_only
from tests.unit.relay.harness import REQUEST, Ended, bench, closes, ended
from tests.waiting import until
from tests.wire import KEY, close

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"


@pytest.mark.parametrize("asked", [REQUEST, GET])
async def test_a_full_house_answers_503(asked: bytes) -> None:
    """Over the limit a client gets a 503 with a short text and never reaches the app; when one leaves, the next is let
    in."""
    async with bench(Limits(max_connections=2)) as b:
        first, first_server, _ = await b.session()
        second = await b.session()
        third = await b.client()
        await third.send(asked)
        answer = await third.rest()
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"websocket-exporter" in answer.partition(b"\r\n\r\n")[2]
        assert b.observed.refusals == ([503] if asked is REQUEST else [])
        assert b.observed.connect_errors == []
        third.close()
        first.close()
        assert await first_server.rest() == b""
        first_server.close()
        await until(lambda: b.relay.context.clients == 1)
        again = await b.session()
        assert second[2].endings == again[2].endings == []


async def test_an_old_session_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its greatest age a session gets one Close 1001 from us, cause limit; a younger one gets nothing."""
    monkeypatch.setattr(listener, "AGE_INTERVAL", 0.02)
    async with bench(Limits(max_session_age=2.0)) as b:
        old_client, old_server, old = await b.session()
        await until(lambda: asyncio.get_running_loop().time() - began(b.relay) > 1.0)
        young_client, young_server, young = await b.session()
        await old_client.expect(close(1001))
        assert young_client.is_silent()
        assert young_server.is_silent()
        await old_client.send(close(1001, mask=KEY))
        await old_server.expect(close(1001, mask=KEY))
        old_server.close()
        assert await old_client.rest() == b""
        old_client.close()
        assert await b.ending(old) == Ended("1001", Cause.LIMIT, Peer.PROXY, clean=True)
        assert young.endings == []
        await young_client.expect(close(1001))


async def test_sessions_of_one_age_are_not_ended_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that began at once are ended one by one, over the last tenth of their greatest age."""
    monkeypatch.setattr(listener, "AGE_INTERVAL", 0.02)
    async with bench(Limits(max_session_age=10.0)) as b:
        opened = [await b.session() for _ in range(20)]
        nearly = asyncio.get_running_loop().time() - 8.9  # 0.1 s from the last tenth
        for session in b.relay.sessions:
            session.session.record.opened_at = nearly
        observed = await asyncio.gather(*(closes(client, server) for client, server, _ in opened))
        assert max(observed) - min(observed) > 0.2, (
            "of a second; that it is less by chance is one case in 10 to the 12th"
        )
        for *_, watched in opened:
            assert await b.ending(watched) == Ended("1001", Cause.LIMIT, Peer.PROXY, clean=True)


def began(relay: listener.Relay) -> float:
    """When the oldest session began; uvloop's clock is the monotonic one, too."""
    return min(tunnel.session.record.opened_at for tunnel in relay.sessions)


async def test_no_limit_means_no_watching() -> None:
    """Without a greatest age nothing looks at ages."""
    async with bench() as b:
        assert b.relay._ageing is None


async def test_every_session_is_told_once() -> None:
    """Sessions that end in every way, at once: as many endings as sessions, one each, and nothing stays behind."""
    async with bench() as b:
        opened = [await b.session() for _ in range(30)]
        for number, (client, server, _) in enumerate(opened):
            match number % 5:
                case 0:
                    client.reset()
                case 1:
                    server.reset()
                case 2:
                    client.close()
                case 3:
                    await server.send(close(1011))
                    server.close()
                case 4:
                    client.reset()
                    server.reset()
        for client, server, _ in opened:
            client.sock.close()
            server.sock.close()
        await b.quiet()
        assert [len(watched.endings) for *_, watched in opened] == [1] * 30
        assert b.relay.context.clients == 0


async def test_closing_everything_counts_every_session_as_ours() -> None:
    """A process that ends at once ends its sessions: 1006, drain, by the proxy, once each, and no client stays."""
    async with bench() as b:
        opened = [await b.session() for _ in range(3)]
        plain = await b.client()
        await until(lambda: b.relay.context.clients == 4)
        b.relay.close_all()
        assert not b.observed.cells[b.observed.layout.listening]
        await b.quiet()
        for *_, watched in opened:
            assert watched.endings == [Ended("1006", Cause.DRAIN, Peer.PROXY, False)]
        assert await ended(plain) == b""


async def test_a_session_that_was_closing_keeps_its_cause_when_everything_is_closed() -> None:
    """What a peer has begun is not taken over by the end of the process."""
    async with bench() as b:
        client, server, watched = await b.session()
        await server.send(close(1011, b"boom"))
        await client.expect(close(1011, b"boom"))
        b.relay.close_all()
        await b.quiet()
        assert watched.endings == [Ended("1011", Cause.INTERNAL_ERROR, Peer.SERVER, False, "boom", True)]


async def test_idle_http_is_closed_and_busy_http_is_not() -> None:
    """Closing idle connections spares a request that is under way and a session."""
    async with bench() as b:
        idle, idle_server = await b.pair()
        busy, busy_server = await b.pair()
        await busy.send(GET)
        await busy_server.expect(GET)
        client, server, watched = await b.session()
        await until(lambda: b.relay.context.clients == 3)
        b.relay.close_idle()
        await until(lambda: b.relay.context.clients == 2)
        assert await ended(idle) == b""
        assert await ended(idle_server) == b""
        await busy_server.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await busy.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
        await client.send(b"\x89\x80\0\0\0\0")
        await server.expect(b"\x89\x80\0\0\0\0")
        assert watched.endings == []


@plain_only
async def test_close_rest_with_many_sessions_closes_them_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a drain's deadline a turn of the event loop closes a few of the sessions that are left, not all at once."""
    async with bench() as b:
        opened = [await b.session() for _ in range(CLOSE_BATCH + 3)]
        portions: list[Callable[[], bool]] = []
        with monkeypatch.context() as patch:
            patch.setattr(b.relay.context.poller, "run_later", portions.append)
            b.relay.close_rest()
        (portion,) = portions
        assert b.observed.endings == []
        assert not portion()
        assert len(b.observed.endings) == CLOSE_BATCH
        assert portion()
        assert b.observed.endings == [Ended("1006", Cause.DRAIN, Peer.PROXY, False)] * len(opened)
