"""A drain from its beginning to its end: its phases, who is told when, and how it looks to whoever watches it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from exporter.protocol.counters import NANOSECONDS
from exporter.protocol.enums import Cause, DrainPhase, Peer
from exporter.relay import tunnel as tunnel_module
from exporter.relay.drain import Drain, Plan
from tests.compiled import plain_only
from tests.unit.relay.harness import REQUEST, SWITCH, Bench, Ended, Wire, bench, closes, ended
from tests.waiting import WAIT_LIMIT, until
from tests.wire import KEY, TEXT, close, frame

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
LATER = 60.0  # a drain that must not run out of time in a test


@asynccontextmanager
async def drained(plan: Plan) -> AsyncIterator[tuple[Bench, Drain]]:
    """A relay and its drain, which has not begun."""
    async with bench() as b:
        drain = Drain(b.relay, plan)
        try:
            yield b, drain
        finally:
            drain.cancel()


def is_listening(b: Bench) -> bool:
    return bool(b.observed.cells[b.observed.layout.listening])


async def over(drain: Drain) -> None:
    async with asyncio.timeout(WAIT_LIMIT):
        await drain.finished.wait()


async def test_nothing_is_on_before_it_begins() -> None:
    """No drain: no phase, nothing left, no time."""
    async with drained(Plan()) as (b, drain):
        client, server, watched = await b.session()
        assert (drain.is_on, drain.phase, drain.sessions_left) == (False, DrainPhase.NONE, 0)
        assert not drain.finished.is_set()
        assert client.is_silent()
        assert server.is_silent()
        assert watched.endings == []


@pytest.mark.parametrize("wait", [True, False])
async def test_with_nobody_there_it_is_done_at_once(wait: bool) -> None:
    """An idle sidecar drains in no time, whatever its timeout, and listens no more."""
    async with drained(Plan(timeout=LATER, spread=5.0)) as (b, drain):
        idle, _idle_server = await b.pair()
        assert drain.begin(wait)
        await over(drain)
        assert await ended(idle) == b""
        assert (drain.is_on, drain.phase) == (True, DrainPhase.DONE)
        assert not is_listening(b)


async def test_it_is_begun_once() -> None:
    """A second drain, of either kind, changes nothing."""
    async with drained(Plan(timeout=LATER, spread=0.0, grace=30.0)) as (b, drain):
        client, server, _ = await b.session()
        assert drain.begin(wait=True)
        assert not drain.begin(wait=True)
        assert not drain.begin(wait=False)
        assert drain.sessions_left == 1
        deadline = b.observed.cells[b.observed.layout.drain_deadline] / NANOSECONDS
        assert monotonic() < deadline <= monotonic() + LATER
        assert b.observed.cells[b.observed.layout.drain_phase] == list(DrainPhase).index(drain.phase)
        assert client.is_silent()
        assert server.is_silent()


@plain_only
async def test_a_defect_of_ours_ends_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for its drain does not wait forever, and the defect is told."""
    async with drained(Plan(timeout=LATER)) as (b, drain):
        error = RuntimeError("a defect")

        def close_idle() -> None:
            raise error

        monkeypatch.setattr(b.relay, "close_idle", close_idle)
        drain.begin(wait=True)
        await over(drain)
        assert drain.phase is DrainPhase.DONE
        assert b.observed.defects == ["RuntimeError"]


async def test_asked_for_over_http_it_tells_sessions_now() -> None:
    """An impatient drain closes sessions right after its grace; all of them end clean, each counted once as ours."""
    async with drained(Plan(timeout=LATER, spread=0.2)) as (b, drain):
        opened = [await b.session() for _ in range(4)]
        assert drain.begin(wait=False)
        assert drain.sessions_left == 4
        await asyncio.gather(*(closes(client, server) for client, server, _ in opened))
        await over(drain)
        assert drain.sessions_left == 0
        for *_, watched in opened:
            assert watched.endings == [Ended("1001", Cause.DRAIN, Peer.PROXY, clean=True)]


async def test_the_closes_are_spread_evenly() -> None:
    """Sessions are told one after the other, in the order in which they began, over the spread."""
    async with drained(Plan(timeout=LATER, spread=0.5)) as (b, drain):
        opened = [await b.session() for _ in range(5)]
        loop = asyncio.get_running_loop()
        observed: list[float] = []

        async def note(client: Wire, server: Wire) -> None:
            await client.expect(close(1001))
            observed.append(loop.time())
            await client.send(close(1001, mask=KEY))
            await server.expect(close(1001, mask=KEY))
            server.close()
            assert await client.rest() == b""
            client.close()

        began = loop.time()
        drain.begin(wait=False)
        await asyncio.gather(*(note(client, server) for client, server, _ in opened))
        await over(drain)
        assert observed == sorted(observed)
        assert observed[-1] - began >= 0.39, "the last of five waits four fifths of the spread"
        assert observed[1] - began >= 0.09


@pytest.mark.parametrize("code", [1001, 1012])
async def test_the_configured_code_is_sent(code: int) -> None:
    """A drain says 1001 or 1012, as configured, and counts what it said."""
    async with drained(Plan(timeout=LATER, spread=0.0, code=code)) as (b, drain):
        client, server, watched = await b.session()
        drain.begin(wait=False)
        await closes(client, server, code)
        await over(drain)
        assert watched.ending.code == str(code)


async def test_sigterms_way_waits_for_sessions_to_end_by_themselves() -> None:
    """A patient drain says nothing while time is left: sessions that the app ends keep the app's code and cause, and
    the drain is over when the last is."""
    async with drained(Plan(timeout=LATER, spread=1.0)) as (b, drain):
        client, server, watched = await b.session()
        drain.begin(wait=True)
        await until(lambda: drain.phase is DrainPhase.WAITING)
        data = frame(TEXT, b"as ever", mask=KEY)
        await client.send(data)
        await server.expect(data)
        assert client.is_silent()
        await server.send(close(1012, b"restarting"))
        await client.expect(close(1012, b"restarting"))
        await client.send(close(1012, mask=KEY))
        await server.expect(close(1012, mask=KEY))
        server.close()
        assert await client.rest() == b""
        client.close()
        await over(drain)
        assert watched.endings == [Ended("1012", Cause.SERVICE_RESTART, Peer.SERVER, True, "restarting")]


async def test_sigterms_way_ends_what_is_left_before_the_deadline() -> None:
    """A patient drain tells the sessions that are left when only the spread is left of its time."""
    async with drained(Plan(timeout=1.0, spread=0.5)) as (b, drain):
        client, server, watched = await b.session()
        loop = asyncio.get_running_loop()
        began = loop.time()
        drain.begin(wait=True)
        await closes(client, server)
        assert loop.time() - began >= 0.49
        await over(drain)
        assert watched.ending.cause is Cause.DRAIN


async def test_new_clients_are_served_during_the_grace() -> None:
    """Load balancers learn slowly: during the grace a new client gets its session; after it, nobody answers."""
    async with drained(Plan(timeout=LATER, spread=0.0, grace=2.0)) as (b, drain):
        first = await b.session()
        drain.begin(wait=False)
        assert drain.phase is DrainPhase.SERVING
        assert is_listening(b)
        second = await b.session()
        await asyncio.gather(*(closes(client, server) for client, server, _ in (first, second)))
        await over(drain)
        with pytest.raises(ConnectionRefusedError):
            await b.client()
        assert [ending.cause for ending in b.observed.endings] == [Cause.DRAIN] * 2


async def test_a_handshake_under_way_may_finish() -> None:
    """A request that was under way when the drain stopped accepting gets its answer."""
    async with drained(Plan(timeout=LATER, spread=0.3)) as (b, drain):
        session = await b.session()
        client, server = await b.pair()
        await client.send(GET)
        await server.expect(GET)
        drain.begin(wait=False)
        await until(lambda: not is_listening(b))
        await server.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
        await closes(*session[:2])
        client.close()
        assert await server.rest() == b""
        server.close()
        await over(drain)


async def test_at_the_deadline_whatever_is_left_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain is bounded: silent clients, stuck frames, TLS and half a request are all gone at its deadline, each
    session counted once."""
    monkeypatch.setattr(tunnel_module, "FINAL_CLOSE_TIMEOUT", 0.05)
    async with drained(Plan(timeout=0.5, spread=0.1, close_timeout=30.0)) as (b, drain):
        silent = await b.session()
        stuck = await b.session()
        await stuck[1].send(frame(TEXT, b"half")[:-1])
        await stuck[0].expect(frame(TEXT, b"half")[:-1])
        unheard, unheard_server = await b.pair()
        await unheard.send(b"\x16\x03\x01" + bytes(50))
        await unheard_server.expect(b"\x16\x03\x01" + bytes(50))
        asking, asking_server = await b.pair()
        await asking.send(REQUEST)
        await asking_server.expect(REQUEST)
        drain.begin(wait=False)
        await over(drain)
        assert b.relay.context.clients == 0
        assert silent[2].endings == [Ended("1001", Cause.DRAIN, Peer.PROXY, False, close_unanswered=True)]
        assert stuck[2].endings == [Ended("1006", Cause.DRAIN, Peer.PROXY, clean=False)]
        assert b.observed.aborts == 1
        assert await ended(silent[0]) == close(1001)
        assert await ended(stuck[0]) == b""
        assert await ended(unheard) == b""
        assert await ended(asking) == b""


async def test_a_session_that_begins_while_others_are_told_is_ended_too() -> None:
    """A 101 that comes after accepting has stopped makes a session that the deadline ends."""
    async with drained(Plan(timeout=2.0, spread=0.1, close_timeout=0.1)) as (b, drain):
        first = await b.session()
        client, server = await b.pair()
        await client.send(REQUEST)
        await server.expect(REQUEST)
        drain.begin(wait=False)
        await first[0].expect(close(1001))
        await server.send(SWITCH)
        await client.expect(SWITCH)
        await until(lambda: len(b.observed.sessions) == 2)
        await over(drain)
        assert [ending.cause for ending in b.observed.endings] == [Cause.DRAIN] * 2


async def test_endings_by_peers_during_a_drain_keep_their_cause() -> None:
    """While the drain goes round, a peer's own ending stands: a crash stays a crash."""
    async with drained(Plan(timeout=LATER, spread=3.0)) as (b, drain):
        told_first, crashing, leaving = [await b.session() for _ in range(3)]
        drain.begin(wait=False)
        await crashing[1].send(close(1011, b"boom"))
        crashing[1].close()
        assert await crashing[0].rest() == close(1011, b"boom")
        crashing[0].close()
        leaving[0].reset()
        assert await ended(leaving[1]) == b""
        leaving[1].close()
        await closes(*told_first[:2])
        await over(drain)
        assert (crashing[2].ending.code, crashing[2].ending.cause) == ("1011", Cause.INTERNAL_ERROR)
        assert (leaving[2].ending.cause, leaving[2].ending.initiator) == (Cause.CONNECTION_RESET, Peer.CLIENT)
        assert told_first[2].ending.cause is Cause.DRAIN


async def test_a_cancelled_drain_says_nothing_more() -> None:
    """A process that ends at once stops its drain: no Close is sent after that."""
    async with drained(Plan(timeout=LATER, spread=0.2, grace=0.1)) as (b, drain):
        client, _server, watched = await b.session()
        drain.begin(wait=False)
        drain.cancel()
        assert drain._task is not None
        await asyncio.gather(drain._task, return_exceptions=True)
        assert drain._task.cancelled()
        assert client.is_silent()
        assert watched.endings == []
