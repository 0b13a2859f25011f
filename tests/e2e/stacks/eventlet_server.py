"""eventlet's own WebSocket server. PORT"""

from __future__ import annotations

import sys

import eventlet
from eventlet import websocket, wsgi


@websocket.WebSocketWSGI
def echo(ws: websocket.WebSocket) -> None:
    """Echo until the client leaves."""
    while (message := ws.wait()) not in (None, "return"):
        if message == "raise":
            raise RuntimeError("told to")
        ws.send(message)


wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), echo)
