"""trio-websocket. PORT"""

from __future__ import annotations

import sys

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket


async def echo(request: WebSocketRequest) -> None:
    """Echo until the client leaves."""
    websocket = await request.accept()
    try:
        while (message := await websocket.get_message()) != "return":
            if message == "raise":
                raise RuntimeError("told to")
            await websocket.send_message(message)
    except ConnectionClosed:
        pass


trio.run(serve_websocket, echo, "127.0.0.1", int(sys.argv[1]), None)
