"""Visitors leave as they mean to, as seen by a server that reads the bytes."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from exporter.demo.app import Bug, Chat, serve_chat
from exporter.demo.leaving import WEIGHTS, Leaving, choose, leave
from exporter.demo.traffic import who_ended
from tests.waiting import PATIENCE

from .helpers import visit
from .listener import listening

CODES = {
    Leaving.FINISHED: b"\x03\xe8",
    Leaving.TAB_CLOSED: b"\x03\xe9",
    Leaving.PAGE_CLOSED_IT: b"",
    Leaving.SIGNED_OUT: b"\x0f\xa1signed out",
}


@pytest.mark.parametrize("way", CODES)
def test_a_close_frame_arrives_with_its_code(way: Leaving) -> None:
    """1000, 1001, an empty Close and 4001 arrive as Close frames with just that body; then TCP ends."""

    async def scene() -> None:
        async with listening() as server:
            guest = await visit(server.port)
            await asyncio.wait_for(leave(guest, way), PATIENCE)
            assert who_ended(guest, True)[1] == "client"
            await settle(server.endings)
            assert server.endings == [(CODES[way], "fin")]

    asyncio.run(scene())


@pytest.mark.parametrize(("way", "how"), [(Leaving.UNPLUGGED, "fin"), (Leaving.CRASHED, "reset")])
def test_vanishing_sends_no_close_frame(way: Leaving, how: str) -> None:
    """An unplugged visitor is a bare FIN, a crashed one a reset; neither says Close."""

    async def scene() -> None:
        async with listening() as server:
            guest = await visit(server.port)
            await asyncio.wait_for(leave(guest, way), PATIENCE)
            assert who_ended(guest, True) == (1006, "client")
            await settle(server.endings)
            assert server.endings == [(None, how)]

    asyncio.run(scene())


@pytest.mark.parametrize(("way", "code"), [(Leaving.SHOUTED, 1009), (Leaving.BARGED_IN, 1008)])
def test_rule_breakers_are_thrown_out_by_the_chat(way: Leaving, code: int) -> None:
    """A message too big is closed with 1009, speaking outside a room with 1008, both by the server."""

    async def scene() -> None:
        async with serve_chat(Chat(Bug()), 0) as server:
            guest = await visit(next(iter(server.sockets)).getsockname()[1])
            await guest.send(json.dumps({"type": "join", "room": "tea", "name": "ann"}))
            await asyncio.wait_for(leave(guest, way), PATIENCE)
            assert who_ended(guest, True) == (code, "server")

    asyncio.run(scene())


def test_every_way_is_chosen_at_times() -> None:
    """Among a few thousand visits there is each way to leave; most are a closed tab or a finished talk."""
    rng = random.Random(1)
    chosen = [choose(rng) for _ in range(3000)]
    assert set(chosen) == set(Leaving) == set(WEIGHTS)
    common = sum(way in (Leaving.FINISHED, Leaving.TAB_CLOSED) for way in chosen)
    assert common > len(chosen) / 2


async def settle(endings: list[tuple[bytes | None, str]]) -> None:
    """Wait until the server has seen an ending."""
    async with asyncio.timeout(PATIENCE):
        while not endings:
            await asyncio.sleep(0.01)
