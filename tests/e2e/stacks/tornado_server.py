"""tornado. PORT [--keepalive SECONDS]"""

from __future__ import annotations

import argparse
import asyncio

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


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--keepalive", type=float, default=None)
    options = parser.parse_args()
    Application(
        [("/", Echo)], websocket_ping_interval=options.keepalive, websocket_ping_timeout=options.keepalive
    ).listen(options.port, "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
