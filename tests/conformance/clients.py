"""The clients under test. Each plays every case of a fuzzing server, as the Autobahn test suite asks of a client.

A case is one connection to ``/runCase?case=N``; the client echoes what it gets until the server ends the connection.
After the last case it opens ``/updateReports``, which ends the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
import websockets
from websockets.asyncio.client import connect

#: Seconds that one case may take; the slowest compress a thousand messages of 128 KiB, four cases at a time.
CASE_TIMEOUT = 900.0

Play = Callable[[str], Awaitable[None]]


async def echo_with_websockets(url: str) -> None:
    """One case with websockets."""
    try:
        async with connect(url, max_size=None, ping_interval=None) as websocket:
            async for message in websocket:
                await websocket.send(message)
    except websockets.ConnectionClosed:
        pass  # many cases end so on purpose; the verdict is the server's


async def echo_with_aiohttp(url: str) -> None:
    """One case with aiohttp."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, max_msg_size=0, compress=15) as websocket,
    ):
        async for message in websocket:
            try:
                if message.type is aiohttp.WSMsgType.TEXT:
                    await websocket.send_str(message.data)
                elif message.type is aiohttp.WSMsgType.BINARY:
                    await websocket.send_bytes(message.data)
            except aiohttp.ClientError:
                return  # the server ended the connection meanwhile


CLIENTS: Mapping[str, Play] = {"websockets": echo_with_websockets, "aiohttp": echo_with_aiohttp}


async def play_all(client: str, base: str, cases: int, parallel: int) -> None:
    """Play cases 1 to ``cases`` of the fuzzing server behind ``base`` (``ws://host:port``), then end the run."""
    play = CLIENTS[client]
    numbers = iter(range(1, cases + 1))

    async def play_next() -> None:
        for number in numbers:
            async with asyncio.timeout(CASE_TIMEOUT):
                await play(f"{base}/runCase?case={number}&agent={client}")

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(play_next())
    await play(f"{base}/updateReports?agent={client}")


async def count_cases(base: str) -> int:
    """How many cases the fuzzing server has."""
    async with connect(f"{base}/getCaseCount") as websocket:
        return int(await websocket.recv())
