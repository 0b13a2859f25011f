"""Each kind of hostile client alone, several at once: memory, turns, descriptors and books stay within their bounds.

``make load`` plays all of them together for ten minutes (:mod:`tests.load.soak`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.e2e.harness.process import Process
from tests.e2e.harness.scrape import ACTIVE
from tests.e2e.harness.wire import Peer
from tests.hostile.harness import MAX_CLIENT, MIB, SLACK, growth, long_turns, timed
from tests.integration.faults.harness import TroubledSidecar
from tests.load.hostile import KINDS, Ports
from tests.waiting import eventually

#: Hostile clients of one kind at a time, rounds that each plays one after the other, and seconds for all.
AT_ONCE = 8
ROUNDS = 2
SECONDS = 2.0
#: Kinds that hold up to 100 connections each instead of one.
MANY = {"one byte each": 50, "unread scrapes": 10, "slow admin": 100}
#: Bytes that one idle connection may cost.
IDLE = 16 * 1024
#: Growth of the observer: reports, which are bounded in number and size, and answers that nobody reads.
OBSERVER_GROWTH = 24 * MIB


@pytest.fixture(scope="module")
def sidecar(load_app: Process) -> Iterator[TroubledSidecar]:
    """One sidecar for all kinds; once the app has gone all sessions are over, and their books balance."""
    with timed(int(load_app.name), "--log-endings", "abnormal") as sidecar:
        asyncio.run(play(sidecar, "empty pings"))  # allocates what is kept
        before = sidecar.process.descriptors()
        yield sidecar
        load_app.kill_group()
        eventually(lambda: sidecar.scrape().value(ACTIVE) == 0, "no session is left")
        eventually(lambda: sidecar.process.descriptors() <= before, "descriptors are closed")
        now = sidecar.scrape()
        assert now.value("websocket_unobserved_connections_total", reason="internal") == 0
        assert now.value("websocket_exporter_relay_restarts_total") == 0
        assert "Traceback" not in sidecar.process.output()


async def play(sidecar: TroubledSidecar, kind: str) -> None:
    """Play one kind, bounded in time."""
    ports = Ports(sidecar.port, sidecar.admin_port)

    async def one() -> None:
        for _ in range(ROUNDS):
            with suppress(OSError):
                await KINDS[kind](ports)

    with suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(one() for _ in range(AT_ONCE)))


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_clients_of_a_kind_stay_within_bounds(sidecar: TroubledSidecar, kind: str) -> None:
    """While one kind does its worst, memory of each process and turns are bounded, and others are served."""
    before = sidecar.scrape()
    most = SLACK + AT_ONCE * (MANY.get(kind, 1) * IDLE + MAX_CLIENT)
    with growth(sidecar.relay_pid, most), growth(sidecar.observer_pid, OBSERVER_GROWTH):
        asyncio.run(play(sidecar, kind))
        assert sidecar.get("/livez")[0] == 200
        innocent = Peer.connect(sidecar.port)
        innocent.handshake()
        innocent.close()
    assert long_turns(sidecar.scrape().since(before)) == 0
