"""autobahn on twisted. PORT [--keepalive SECONDS], a quarter of it between pings"""

from __future__ import annotations

import autobahn_echo
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor


class Echo(autobahn_echo.Echo, WebSocketServerProtocol):
    """One per connection."""


factory, port = autobahn_echo.factory(WebSocketServerFactory, Echo)
reactor.listenTCP(port, factory, interface="127.0.0.1")
reactor.run()
