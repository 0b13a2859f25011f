"""autobahn on asyncio. PORT [--keepalive SECONDS], a quarter of it between pings"""

from __future__ import annotations

import asyncio

import autobahn_echo
from autobahn.asyncio.websocket import WebSocketServerFactory, WebSocketServerProtocol


class Echo(autobahn_echo.Echo, WebSocketServerProtocol):
    """One per connection."""


async def main() -> None:
    """Serve until killed."""
    factory, port = autobahn_echo.factory(WebSocketServerFactory, Echo)
    await asyncio.get_running_loop().create_server(factory, "127.0.0.1", port)
    await asyncio.Event().wait()


asyncio.run(main())
