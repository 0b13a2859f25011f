"""websocket-server, on threads. PORT"""

from __future__ import annotations

import sys
from typing import Any

from websocket_server import WebsocketServer


def echo(client: dict[str, Any], server: WebsocketServer, message: str) -> None:
    """Echo."""
    if message == "raise":
        raise RuntimeError("told to")
    server.send_message(client, message)


server = WebsocketServer(host="127.0.0.1", port=int(sys.argv[1]))
server.set_fn_message_received(echo)
server.run_forever()
