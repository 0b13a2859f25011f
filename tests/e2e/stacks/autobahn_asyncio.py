"""autobahn on asyncio. PORT [--keepalive SECONDS], a quarter of it between pings"""

from __future__ import annotations

import argparse
import asyncio

from autobahn.asyncio.websocket import WebSocketServerFactory, WebSocketServerProtocol


class Echo(WebSocketServerProtocol):
    """One per connection."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Echo one message."""
        if payload == b"raise":
            raise RuntimeError("told to")
        if payload == b"close":
            self.sendClose(4001, "done")
        else:
            self.sendMessage(payload, isBinary)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Say what was seen."""
        print("saw", wasClean, code, reason, flush=True)


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--keepalive", type=float, default=0)
    options = parser.parse_args()
    factory = WebSocketServerFactory(f"ws://127.0.0.1:{options.port}")
    factory.protocol = Echo
    factory.setProtocolOptions(
        autoPingInterval=options.keepalive / 4,
        autoPingTimeout=options.keepalive,
        closeHandshakeTimeout=30,  # its one second is too short for a busy machine
    )
    await asyncio.get_running_loop().create_server(factory, "127.0.0.1", options.port)
    await asyncio.Event().wait()


asyncio.run(main())
