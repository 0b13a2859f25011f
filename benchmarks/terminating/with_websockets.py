"""A terminating proxy on the websockets library: every message is read whole, and sent anew.

No compression, no keepalive pings, no limit on size: nothing that the other proxies do not do either. The close code
and reason of either side are passed on.

    python -m benchmarks.terminating.with_websockets PORT UPSTREAM_PORT
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def pump(source: Connection, sink: Connection) -> None:
    """Pass messages on until ``source`` closes, then close ``sink`` the same way."""
    try:
        while True:
            await sink.send(await source.recv())
    except ConnectionClosed:
        close = source.protocol.close_rcvd
        if close is None:
            await sink.close(1011)
        else:
            await sink.close(1000 if close.code == 1005 else close.code, close.reason)


async def main(port: int, upstream: int) -> None:
    """Serve until killed."""

    async def handle(client: ServerConnection) -> None:
        assert client.request is not None
        uri = f"ws://127.0.0.1:{upstream}{client.request.path}"
        async with connect(uri, compression=None, max_size=None, ping_interval=None) as server:
            await asyncio.gather(pump(client, server), pump(server, client))

    async with serve(
        handle, "127.0.0.1", port, compression=None, max_size=None, ping_interval=None, backlog=4096
    ) as it:
        await it.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
