"""autobahn on twisted. PORT [--keepalive SECONDS], a quarter of it between pings"""

from __future__ import annotations

import argparse

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor


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
reactor.listenTCP(options.port, factory, interface="127.0.0.1")
reactor.run()
