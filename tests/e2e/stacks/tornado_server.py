"""tornado. PORT [--keepalive SECONDS] [--processes NUMBER]"""

from __future__ import annotations

import argparse
import asyncio
import socket

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.process import fork_processes
from tornado.web import Application
from tornado.websocket import WebSocketHandler


class Echo(WebSocketHandler):
    """One per connection."""

    def on_message(self, message: str | bytes) -> None:
        """Echo one message."""
        if message == "raise":
            raise RuntimeError("told to")
        if message == "close":
            self.close(4001, "done")
        else:
            self.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        """Say what was seen."""
        print("saw", self.close_code, self.close_reason, flush=True)

    def check_origin(self, origin: str) -> bool:
        """A browser's page may be from anywhere."""
        return True


async def main(sockets: list[socket.socket], keepalive: float | None) -> None:
    """Serve until killed."""
    application = Application([("/", Echo)], websocket_ping_interval=keepalive, websocket_ping_timeout=keepalive)
    HTTPServer(application).add_sockets(sockets)
    await asyncio.Event().wait()


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--keepalive", type=float, default=None)
parser.add_argument("--processes", type=int, default=1)
options = parser.parse_args()
bound = bind_sockets(options.port, "127.0.0.1")
if options.processes > 1:
    fork_processes(options.processes)
asyncio.run(main(bound, options.keepalive))
