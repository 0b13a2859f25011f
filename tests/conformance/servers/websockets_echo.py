"""Echo with websockets: PORT. What a conformance server needs: text and binary, compression, messages of any size."""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    """Send back each message as it came."""
    async for message in websocket:
        await websocket.send(message)


async def main() -> None:
    """Serve until killed."""
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=None, ping_interval=None) as server:
        await server.serve_forever()


asyncio.run(main())
