"""websockets on asyncio. PORT [--close-on-sigterm] [--keepalive SECONDS]"""

from __future__ import annotations

import argparse
import asyncio
import signal

from websockets.asyncio.server import ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    """Echo until the client leaves."""
    async for message in websocket:
        if message == "raise":
            raise RuntimeError("told to")
        await websocket.send(message)


async def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--close-on-sigterm", action="store_true")
    parser.add_argument("--keepalive", type=float, default=None)
    options = parser.parse_args()
    async with serve(
        echo, "127.0.0.1", options.port, ping_interval=options.keepalive, ping_timeout=options.keepalive
    ) as server:
        if options.close_on_sigterm:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
        await server.wait_closed()


asyncio.run(main())
