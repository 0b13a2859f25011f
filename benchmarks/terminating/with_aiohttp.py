"""A terminating proxy on aiohttp: every message is read whole, and sent anew.

No compression, no keepalive pings, no limit on size: nothing that the other proxies do not do either. The close code
and reason of either side are passed on.

    python -m benchmarks.terminating.with_aiohttp PORT UPSTREAM_PORT
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector, WSMsgType, web

Socket = web.WebSocketResponse | ClientWebSocketResponse


async def pump(source: Socket, sink: Socket) -> None:
    """Pass messages on until ``source`` closes, then close ``sink`` the same way."""
    async for message in source:
        if message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        elif message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
    code = source.close_code
    await sink.close(code=1011 if code in (None, 1006) else code)


async def main(port: int, upstream: int) -> None:
    """Serve until killed."""
    session = ClientSession(connector=TCPConnector(limit=0))

    async def handle(request: web.Request) -> web.WebSocketResponse:
        client = web.WebSocketResponse(compress=False, max_msg_size=0)
        await client.prepare(request)
        async with session.ws_connect(f"http://127.0.0.1:{upstream}{request.path}", max_msg_size=0) as server:
            await asyncio.gather(pump(client, server), pump(server, client))
        return client

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
