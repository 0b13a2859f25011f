"""websockets on asyncio. PORT [--close-on-sigterm] [--keepalive SECONDS] [--deflate none|takeover|no-takeover]"""

from __future__ import annotations

import argparse
import asyncio
import signal

from websockets.asyncio.server import ServerConnection, serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


async def echo(websocket: ServerConnection) -> None:
    """Echo until the client leaves."""
    try:
        async for message in websocket:
            if message == "raise":
                raise RuntimeError("told to")
            if message == "return":
                break
            if message == "close":
                await websocket.close(4001, "done")
            else:
                await websocket.send(message)
    finally:
        print("saw", websocket.close_code, websocket.close_reason, flush=True)


async def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--close-on-sigterm", action="store_true")
    parser.add_argument("--keepalive", type=float, default=None)
    parser.add_argument("--deflate", choices=("none", "takeover", "no-takeover"), default="takeover")
    options = parser.parse_args()
    forget = options.deflate == "no-takeover"
    deflate = ServerPerMessageDeflateFactory(server_no_context_takeover=forget, client_no_context_takeover=forget)
    async with serve(
        echo,
        "127.0.0.1",
        options.port,
        compression=None,
        extensions=[] if options.deflate == "none" else [deflate],
        ping_interval=options.keepalive,
        ping_timeout=options.keepalive,
    ) as server:
        if options.close_on_sigterm:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
        await server.wait_closed()


asyncio.run(main())
