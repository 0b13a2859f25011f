"""Visitors come, talk, leave, come back; and say what they saw."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from exporter.demo import backoff, traffic
from exporter.demo.app import Bug, BugKind, Chat, serve_chat
from exporter.demo.traffic import Habits, Seen, Visitor
from tests.ports import free_port
from tests.waiting import PATIENCE

from .helpers import running
from .listener import listening


async def until_seen(habits: Habits, *seeds: str, endings: int) -> Seen:
    """Let a visitor for each seed live until they have seen so many endings or failures, and tell them to stop."""
    seen, stop = Seen(), asyncio.get_running_loop().create_future()
    tasks = [asyncio.create_task(Visitor(f"v-{seed}", habits, seed, seen, stop).live()) for seed in seeds]
    async with asyncio.timeout(PATIENCE):
        while seen.endings.total() + seen.failures.total() < endings:
            await asyncio.sleep(0.01)
            assert not any(task.done() for task in tasks)
        stop.set_result(None)
        await asyncio.gather(*tasks)
    return seen


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Visitors who come at once and come back at once."""
    monkeypatch.setattr(traffic, "ARRIVAL", (0.0, 0.0))
    monkeypatch.setattr(traffic, "PAUSE", (0.0, 0.0))
    monkeypatch.setattr(backoff, "LAST", 0.01)
    monkeypatch.setattr(backoff, "FIRST", 0.01)


@pytest.mark.usefixtures("hasty")
def test_the_same_seed_makes_the_same_choices() -> None:
    """Two runs of one visitor leave in the same ways in the same order; another seed leaves in others."""

    async def run(seed: str) -> list[bytes | None]:
        async with listening() as server:
            habits = Habits(f"ws://127.0.0.1:{server.port}/chat", rate=200, stay=0.02)
            await until_seen(habits, seed, endings=12)
            return [close for close, _ in server.endings][:12]

    first = asyncio.run(run("2/0"))
    assert len(set(first)) > 1
    assert asyncio.run(run("2/0")) == first
    assert asyncio.run(run("3/0")) != first


@pytest.mark.usefixtures("hasty")
def test_visitors_and_app_agree_on_the_endings() -> None:
    """Ordinary endings are the clients'; with the bug on there are 1011 from the server, with it off none."""

    async def run(bug: Bug) -> Seen:
        async with serve_chat(Chat(bug), 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            habits = Habits(f"ws://127.0.0.1:{port}/chat", rate=100, stay=0.05)
            seen = await until_seen(habits, *(f"1/{n}" for n in range(5)), endings=20)
        assert seen.visits == seen.endings.total()
        return seen

    calm = asyncio.run(run(Bug())).endings
    assert calm["1000 client"]
    assert calm["1001 client"]
    assert not any(ending in calm for ending in ("1011 server", "1006 server", "1011 client"))
    assert asyncio.run(run(Bug(0.3))).endings["1011 server"]
    assert asyncio.run(run(Bug(0.3, BugKind.DROPS))).endings["1006 server"]


@pytest.mark.usefixtures("hasty")
def test_a_server_that_is_down_is_a_failure_not_a_visit() -> None:
    """Refused connections are counted and tried again."""
    habits = Habits(f"ws://127.0.0.1:{free_port()}/chat")
    seen = asyncio.run(until_seen(habits, "1/0", endings=2))
    assert set(seen.failures) == {"ConnectionRefusedError"}
    assert seen.visits == 0


@pytest.mark.usefixtures("hasty")
def test_a_refused_handshake_is_counted_by_its_status() -> None:
    """An answer other than 101 is a failure that names the status."""

    async def scene() -> None:
        async with serve_chat(Chat(Bug()), 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            seen = await until_seen(Habits(f"ws://127.0.0.1:{port}/no"), "1/0", endings=1)
        assert set(seen.failures) == {"HTTP 404"}
        assert seen.visits == 0

    asyncio.run(scene())


def test_on_sigterm_all_close_with_1001(tmp_path: Path) -> None:
    """SIGTERM ends every visit with 1001 by the client; one JSON line says so; status 0 and no traceback."""

    async def scene() -> None:
        async with listening() as server:
            url = f"ws://127.0.0.1:{server.port}/chat"
            command = ("-m", "exporter.demo.traffic", "--url", url, "--clients", "4", "--stay", "3600")
            with running(tmp_path / "out", *command) as visitors:
                async with asyncio.timeout(PATIENCE):
                    while server.visits < 4:
                        await asyncio.sleep(0.02)
                visitors.send(signal.SIGTERM)
                status = await asyncio.to_thread(visitors.status)
                assert (status, json.loads(visitors.output)) == (
                    0,
                    {"visits": 4, "endings": {"1001 client": 4}, "failures": {}},
                )
        assert [close for close, _ in server.endings] == [b"\x03\xe9"] * 4

    asyncio.run(scene())


def test_who_is_told_to_stop_while_coming_in_still_counts(tmp_path: Path) -> None:
    """SIGTERM while the handshake runs: once the server lets the visitor in it is a visit, and it ends with 1001."""

    async def scene() -> None:
        async with listening() as server:
            server.door.clear()
            url = f"ws://127.0.0.1:{server.port}/chat"
            command = ("-m", "exporter.demo.traffic", "--url", url, "--clients", "1")
            with running(tmp_path / "out", *command) as visitors:
                async with asyncio.timeout(PATIENCE):
                    while not server.asked:
                        await asyncio.sleep(0.02)
                visitors.send(signal.SIGTERM)
                await asyncio.sleep(0.2)  # it would have gone by now
                server.door.set()
                status = await asyncio.to_thread(visitors.status)
                assert (status, json.loads(visitors.output)) == (
                    0,
                    {"visits": 1, "endings": {"1001 client": 1}, "failures": {}},
                )
        assert [close for close, _ in server.endings] == [b"\x03\xe9"]

    asyncio.run(scene())


def test_a_wrong_url_is_one_clear_line(tmp_path: Path) -> None:
    """What is no WebSocket address is refused with status 2, and the line shows what one looks like."""
    with running(tmp_path / "out", "-m", "exporter.demo.traffic", "--url", "http://x") as visitors:
        assert visitors.status() == 2
        assert "'http://x' is no address such as ws://127.0.0.1:10010/chat" in visitors.output
        assert "Traceback" not in visitors.output
