"""The clients: how they disconnect, reconnect and count."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from pathlib import Path

import pytest

from exporter.demo import clients
from exporter.demo.chat_server import Bug, BugKind, Chat, bound_port, serve_chat
from exporter.demo.clients import (
    MAX_BACKOFF,
    MIN_BACKOFF,
    Backoff,
    Behaviour,
    Client,
    Disconnect,
    Results,
    choose,
    close_seen,
    disconnect,
)
from tests.ports import free_port
from tests.waiting import WAIT_LIMIT, until

from .harness import connect_to, recording_server, running

CODES = {
    Disconnect.NORMAL: b"\x03\xe8",
    Disconnect.GOING_AWAY: b"\x03\xe9",
    Disconnect.NO_STATUS: b"",
    Disconnect.SIGNED_OUT: b"\x0f\xa1signed out",
}


@pytest.mark.parametrize("way", CODES)
def test_disconnect_with_a_close_frame_sends_its_code(way: Disconnect) -> None:
    """1000, 1001, an empty Close and 4001 arrive as Close frames with that payload; then TCP ends."""

    async def scene() -> None:
        async with recording_server() as server:
            guest = await connect_to(server.port)
            await asyncio.wait_for(disconnect(guest, way), WAIT_LIMIT)
            assert close_seen(guest, True)[1] == "client"
            await until(lambda: server.endings)
            assert server.endings == [(CODES[way], "fin")]

    asyncio.run(scene())


@pytest.mark.parametrize(("way", "end"), [(Disconnect.FIN, "fin"), (Disconnect.RESET, "reset")])
def test_disconnect_without_a_close_frame_ends_tcp(way: Disconnect, end: str) -> None:
    """FIN and RST arrive as such, with no Close frame before."""

    async def scene() -> None:
        async with recording_server() as server:
            guest = await connect_to(server.port)
            await asyncio.wait_for(disconnect(guest, way), WAIT_LIMIT)
            assert close_seen(guest, True) == (1006, "client")
            await until(lambda: server.endings)
            assert server.endings == [(None, end)]

    asyncio.run(scene())


@pytest.mark.parametrize(("way", "code"), [(Disconnect.TOO_BIG, 1009), (Disconnect.NOT_IN_ROOM, 1008)])
def test_disconnect_by_a_broken_rule_is_the_servers_close(way: Disconnect, code: int) -> None:
    """The chat server closes with 1009 and 1008."""

    async def scene() -> None:
        async with serve_chat(Chat(Bug()), 0) as server:
            guest = await connect_to(bound_port(server))
            await guest.send(json.dumps({"type": "join", "room": "tea", "name": "ann"}))
            await asyncio.wait_for(disconnect(guest, way), WAIT_LIMIT)
            assert close_seen(guest, True) == (code, "server")

    asyncio.run(scene())


def test_choose_draws_every_way() -> None:
    """Every way to disconnect is drawn; most are 1000 and 1001."""
    rng = random.Random(1)
    chosen = [choose(rng) for _ in range(3000)]
    assert set(chosen) == set(Disconnect)
    assert sum(way in (Disconnect.NORMAL, Disconnect.GOING_AWAY) for way in chosen) > len(chosen) / 2


class Highest(random.Random):
    """Draws the upper bound each time."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_backoff_doubles_up_to_its_maximum_and_resets() -> None:
    """Ceilings double with each failure up to MAX_BACKOFF; reset() starts again; 1012 has its own delay."""
    backoff = Backoff(Highest())
    first = MIN_BACKOFF
    assert [backoff.delay(1001) for _ in range(6)] == [first, 2 * first, 4 * first, 8 * first, MAX_BACKOFF, MAX_BACKOFF]
    backoff.reset()
    assert backoff.delay(1012) == 30
    assert backoff.delay() == first


def test_backoff_spreads_clients_over_the_whole_delay() -> None:
    """Clients that lose their sessions together reconnect apart: some in every tenth of the time."""
    delays = [Backoff(random.Random(seed)).delay(1001) for seed in range(300)]
    assert {int(10 * delay / MIN_BACKOFF) for delay in delays} == set(range(10))


async def run_until(behaviour: Behaviour, *seeds: str, closes: int) -> Results:
    """Run a client for each seed until they have counted so many closes or failures, then stop them."""
    results, stop = Results(), asyncio.get_running_loop().create_future()
    tasks = [asyncio.create_task(Client(f"c-{seed}", behaviour, seed, results, stop).run()) for seed in seeds]
    async with asyncio.timeout(WAIT_LIMIT):
        while results.closes.total() + results.failures.total() < closes:
            await asyncio.sleep(0.01)
            assert not any(task.done() for task in tasks)
        stop.set_result(None)
        await asyncio.gather(*tasks)
    return results


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that connect and reconnect at once."""
    monkeypatch.setattr(clients, "RAMP_UP", (0.0, 0.0))
    monkeypatch.setattr(clients, "PAUSE", (0.0, 0.0))
    monkeypatch.setattr(clients, "MAX_BACKOFF", 0.01)
    monkeypatch.setattr(clients, "MIN_BACKOFF", 0.01)


@pytest.mark.usefixtures("fast")
def test_client_with_the_same_seed_makes_the_same_choices() -> None:
    """Two runs of one seed disconnect in the same ways in the same order; another seed in others."""

    async def run(seed: str) -> list[bytes | None]:
        async with recording_server() as server:
            behaviour = Behaviour(f"ws://127.0.0.1:{server.port}/chat", rate=200, stay=0.02)
            await run_until(behaviour, seed, closes=12)
            return [close for close, _ in server.endings][:12]

    first = asyncio.run(run("2/0"))
    assert len(set(first)) > 1
    assert asyncio.run(run("2/0")) == first
    assert asyncio.run(run("3/0")) != first


@pytest.mark.usefixtures("fast")
def test_clients_count_the_servers_closes_by_code() -> None:
    """Closes are the clients' without the bug; with it 1011 or 1006 by the server, as its kind is."""

    async def run(bug: Bug) -> Results:
        async with serve_chat(Chat(bug), 0) as server:
            behaviour = Behaviour(f"ws://127.0.0.1:{bound_port(server)}/chat", rate=100, stay=0.05)
            results = await run_until(behaviour, *(f"1/{n}" for n in range(5)), closes=20)
        assert results.sessions == results.closes.total()
        return results

    healthy = asyncio.run(run(Bug())).closes
    assert healthy["1000 client"]
    assert healthy["1001 client"]
    assert not any(close in healthy for close in ("1011 server", "1006 server", "1011 client"))
    assert asyncio.run(run(Bug(0.3))).closes["1011 server"]
    assert asyncio.run(run(Bug(0.3, BugKind.DROPS))).closes["1006 server"]


@pytest.mark.usefixtures("fast")
def test_client_that_cannot_connect_counts_a_failure() -> None:
    """A refused connection and a status other than 101 are failures, and no sessions."""
    down = asyncio.run(run_until(Behaviour(f"ws://127.0.0.1:{free_port()}/chat"), "1/0", closes=2))
    assert set(down.failures) == {"ConnectionRefusedError"}
    assert down.sessions == 0

    async def scene() -> None:
        async with serve_chat(Chat(Bug()), 0) as server:
            refused = await run_until(Behaviour(f"ws://127.0.0.1:{bound_port(server)}/no"), "1/0", closes=1)
        assert set(refused.failures) == {"HTTP 404"}
        assert refused.sessions == 0

    asyncio.run(scene())


def test_sigterm_closes_every_session_with_1001(tmp_path: Path) -> None:
    """SIGTERM ends every session with 1001, also one whose handshake is under way; one JSON line counts them."""

    async def scene() -> None:
        async with recording_server() as server:
            url = f"ws://127.0.0.1:{server.port}/chat"
            command = ("-m", "exporter.demo.clients", "--url", url, "--clients", "4", "--stay", "3600")
            server.may_answer.clear()
            with running(tmp_path / "out", *command) as process:
                await until(lambda: server.requests == 4)
                process.send(signal.SIGTERM)
                await asyncio.sleep(0.2)  # a client that gave up would have disconnected by now
                server.may_answer.set()
                status = await asyncio.to_thread(process.status)
                expected = {"sessions": 4, "closes": {"1001 client": 4}, "failures": {}}
                assert (status, json.loads(process.output)) == (0, expected)
            await until(lambda: len(server.endings) == 4)
        assert [close for close, _ in server.endings] == [b"\x03\xe9"] * 4

    asyncio.run(scene())


def test_url_that_is_invalid_is_one_line(tmp_path: Path) -> None:
    """An invalid URL exits with status 2 and one line with an example."""
    with running(tmp_path / "out", "-m", "exporter.demo.clients", "--url", "http://x") as process:
        assert process.status() == 2
        assert "'http://x': expected an address such as ws://127.0.0.1:10010/chat" in process.output
        assert "Traceback" not in process.output
