"""ws4py under wsgiref. PORT"""

from __future__ import annotations

import sys
from typing import Any
from wsgiref.simple_server import make_server

from ws4py.server.wsgirefserver import WebSocketWSGIRequestHandler, WSGIServer
from ws4py.server.wsgiutils import WebSocketWSGIApplication
from ws4py.websocket import WebSocket


class Echo(WebSocket):
    """Echo."""

    def received_message(self, message: Any) -> None:
        """Answer one message."""
        if message.data == b"raise":
            raise RuntimeError("told to")
        if message.data == b"return":
            self.close()
        else:
            self.send(message.data, message.is_binary)


server = make_server(
    "127.0.0.1",
    int(sys.argv[1]),
    server_class=WSGIServer,
    handler_class=WebSocketWSGIRequestHandler,
    app=WebSocketWSGIApplication(handler_cls=Echo),
)
server.initialize_websockets_manager()
server.serve_forever()
