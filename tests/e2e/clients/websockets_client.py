"""A Python websockets client that stays: URL. Prints `open`, then reads until it is ended from outside."""

from __future__ import annotations

import asyncio
import signal
import sys

from websockets.asyncio.client import connect


async def main() -> None:
    """Connect, echo one message, read on."""
    async with connect(sys.argv[1]) as websocket:
        await websocket.send("hello")
        print(await websocket.recv(), flush=True)
        async for _ in websocket:
            pass


signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
asyncio.run(main())
