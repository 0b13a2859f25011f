"""gevent-websocket. PORT"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from gevent import pywsgi
from geventwebsocket.handler import WebSocketHandler


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Echo until the client leaves."""
    ws = environ["wsgi.websocket"]
    while (message := ws.receive()) not in (None, "return"):
        if message == "raise":
            raise RuntimeError("told to")
        ws.send(message)
    return []


pywsgi.WSGIServer(("127.0.0.1", int(sys.argv[1])), app, handler_class=WebSocketHandler).serve_forever()
