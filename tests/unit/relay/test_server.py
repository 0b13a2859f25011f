"""The relay as a whole: how many clients, how old a session, who judges its end, and that nothing stays behind."""

from __future__ import annotations

import asyncio

import pytest

from exporter.protocol.classify import Ending
from exporter.protocol.enums import Cause, Peer
from exporter.relay import server as listener
from exporter.relay import upstream as upstream_module
from exporter.relay.client_connection import Limits
from exporter.relay.tunnel import Engine
from tests.unit.relay.harness import REQUEST, Wire, bench, closes, ended, on_uvloop
from tests.waiting import until
from tests.wire import KEY, close

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"


@pytest.fixture(autouse=True)
def _probe_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes wait for nothing but their interval, and that is short."""
    monkeypatch.setattr(upstream_module, "PROBE_INTERVAL", 0.05)
    if hasattr(upstream_module, "PROBE_DELAY"):
        monkeypatch.setattr(upstream_module, "PROBE_DELAY", 0.0)


@on_uvloop
async def test_a_taken_port_is_an_error(engine: Engine) -> None:
    """Listening where somebody listens already raises OSError, for the caller to say so."""
    async with bench(engine) as b:
        with pytest.raises(OSError):
            await b.relay.listen("127.0.0.1", b.port)


@pytest.mark.parametrize("asked", [REQUEST, GET])
@on_uvloop
async def test_a_full_house_answers_503(engine: Engine, asked: bytes) -> None:
    """Over the limit a client gets a 503 with a short text and never reaches the app; when one leaves, the next is let
    in."""
    async with bench(engine, Limits(max_connections=2)) as b:
        first, first_server, _ = await b.session()
        second = await b.session()
        third = await b.client()
        await third.send(asked)
        answer = await third.rest()
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"websocket-exporter" in answer.partition(b"\r\n\r\n")[2]
        assert b.told.refusals == ([503] if asked is REQUEST else [])
        assert b.told.connect_errors == []
        third.close()
        first.close()
        assert await first_server.rest() == b""
        first_server.close()
        await until(lambda: b.relay.connections == 1)
        again = await b.session()
        assert second[2].endings == again[2].endings == []


@on_uvloop
async def test_an_old_session_is_ended(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its greatest age a session gets one Close 1001 from us, cause limit; a younger one gets nothing."""
    monkeypatch.setattr(listener, "AGE_INTERVAL", 0.02)
    async with bench(engine, Limits(max_session_age=2.0)) as b:
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
        assert await b.ending(old) == Ending("1001", Cause.LIMIT, Peer.PROXY, clean=True)
        assert young.endings == []
        await young_client.expect(close(1001))


@on_uvloop
async def test_sessions_of_one_age_are_not_ended_together(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that began at once are ended one by one, over the last tenth of their greatest age."""
    monkeypatch.setattr(listener, "AGE_INTERVAL", 0.02)
    async with bench(engine, Limits(max_session_age=10.0)) as b:
        opened = [await b.session() for _ in range(20)]
        nearly = asyncio.get_running_loop().time() - 8.9  # 0.1 s from the last tenth
        for session in b.relay.sessions:
            session.watch.session.began = nearly
        told = await asyncio.gather(*(closes(client, server) for client, server, _ in opened))
        assert max(told) - min(told) > 0.2, "of a second; that it is less by chance is one case in 10 to the 12th"
        for *_, watched in opened:
            assert await b.ending(watched) == Ending("1001", Cause.LIMIT, Peer.PROXY, clean=True)


def began(relay: listener.Relay) -> float:
    """When the oldest session began; uvloop's clock is the monotonic one, too."""
    return min(connection.began for connection in relay.sessions)


@on_uvloop
async def test_no_limit_means_no_watching(engine: Engine) -> None:
    """Without a greatest age nothing looks at ages."""
    async with bench(engine) as b:
        assert b.relay._ageing is None


async def end(server: Wire, how: str) -> None:
    if how == "fin":
        server.close()
    else:
        server.reset()


@pytest.mark.parametrize("how", ["fin", "reset"])
@on_uvloop
async def test_an_app_that_takes_no_connections_any_more_is_down(engine: Engine, how: str) -> None:
    """The app drops its connection and its port is closed: app-down. The probe is in nobody's count."""
    async with bench(engine) as b:
        client, server, watched = await b.session()
        b.app.stop()
        await end(server, how)
        assert await client.rest() == b""
        client.close()
        assert await b.ending(watched) == Ending("1006", Cause.APP_DOWN, Peer.SERVER, False)
        assert b.told.connect_errors == []


@pytest.mark.parametrize(("how", "cause"), [("fin", Cause.CONNECTION_LOST), ("reset", Cause.CONNECTION_RESET)])
@on_uvloop
async def test_an_app_that_still_takes_connections_dropped_this_one(engine: Engine, how: str, cause: Cause) -> None:
    """The app drops a connection while its port is open: the shape of an unhandled exception, not of a dead app."""
    async with bench(engine) as b:
        client, server, watched = await b.session()
        await end(server, how)
        assert await client.rest() == b""
        client.close()
        assert await b.ending(watched) == Ending("1006", cause, Peer.SERVER, False)
        probe = await b.app.accept()
        assert await probe.rest() == b""
        probe.close()
        assert (b.told.aborts, len(b.told.sessions)) == (0, 1)


@on_uvloop
async def test_many_sessions_that_end_at_once_ask_once(engine: Engine) -> None:
    """Twenty sessions dropped in one moment are judged by very few probes, and each is told once."""
    async with bench(engine) as b:
        opened = [await b.session() for _ in range(20)]
        for _, server, _ in opened:
            server.close()
        for client, *_ in opened:
            assert await client.rest() == b""
            client.close()
        await b.quiet()
        assert [watched.ending.cause for *_, watched in opened] == [Cause.CONNECTION_LOST] * 20
        probes = 0
        while True:
            try:
                b.app.sock.accept()[0].close()
            except BlockingIOError:
                break
            probes += 1
        assert 1 <= probes <= 5


@on_uvloop
async def test_a_client_that_leaves_asks_nobody(engine: Engine) -> None:
    """Whether the app is up does not matter to an ending by the client: no probe is made."""
    async with bench(engine) as b:
        client, server, watched = await b.session()
        client.close()
        assert await server.rest() == b""
        server.close()
        assert (await b.ending(watched)).cause is Cause.CONNECTION_LOST
        with pytest.raises(BlockingIOError):
            b.app.sock.accept()


@on_uvloop
async def test_every_session_is_told_once(engine: Engine) -> None:
    """Sessions that end in every way, at once: as many endings as sessions, one each, and nothing stays behind."""
    async with bench(engine) as b:
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
        assert b.relay.connections == 0


@on_uvloop
async def test_closing_everything_counts_every_session_as_ours(engine: Engine) -> None:
    """A process that ends at once ends its sessions: 1006, drain, by the proxy, once each, and no client stays."""
    async with bench(engine) as b:
        opened = [await b.session() for _ in range(3)]
        plain = await b.client()
        await until(lambda: b.relay.connections == 4)
        b.relay.close_all()
        assert not b.relay.is_listening
        await b.quiet()
        for *_, watched in opened:
            assert watched.endings == [Ending("1006", Cause.DRAIN, Peer.PROXY, False)]
        assert await ended(plain) == b""


@on_uvloop
async def test_a_session_that_was_closing_keeps_its_cause_when_everything_is_closed(engine: Engine) -> None:
    """What a peer has begun is not taken over by the end of the process."""
    async with bench(engine) as b:
        client, server, watched = await b.session()
        await server.send(close(1011, b"boom"))
        await client.expect(close(1011, b"boom"))
        b.relay.close_all()
        await b.quiet()
        assert watched.endings == [Ending("1011", Cause.INTERNAL_ERROR, Peer.SERVER, False, "boom", True)]


@on_uvloop
async def test_idle_http_is_closed_and_busy_http_is_not(engine: Engine) -> None:
    """Closing idle connections spares a request that is under way and a session."""
    async with bench(engine) as b:
        idle, idle_server = await b.pair()
        busy, busy_server = await b.pair()
        await busy.send(GET)
        await busy_server.expect(GET)
        client, server, watched = await b.session()
        await until(lambda: b.relay.connections == 3)
        b.relay.close_idle()
        await until(lambda: b.relay.connections == 2)
        assert await ended(idle) == b""
        assert await ended(idle_server) == b""
        await busy_server.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await busy.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
        await client.send(b"\x89\x80\0\0\0\0")
        await server.expect(b"\x89\x80\0\0\0\0")
        assert watched.endings == []


@on_uvloop
async def test_the_time_of_the_last_ending_is_known(engine: Engine) -> None:
    """Whoever waits for one more scrape can tell whether an ending came after the last one."""
    async with bench(engine) as b:
        assert b.relay.last_ending == float("-inf")
        client, server, watched = await b.session()
        client.close()
        server.close()
        await b.ending(watched)
        assert b.relay.last_ending > 0
