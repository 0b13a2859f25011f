"""Echo with tornado: PORT."""

from __future__ import annotations

import asyncio
import sys

from tornado.web import Application
from tornado.websocket import WebSocketHandler


class Echo(WebSocketHandler):
    """Sends back each message as it came."""

    def get_compression_options(self) -> dict[str, object]:
        """Accept permessage-deflate, with tornado's defaults."""
        return {}

    def on_message(self, message: str | bytes) -> None:
        """One message of the client."""
        self.write_message(message, binary=isinstance(message, bytes))


async def main() -> None:
    """Serve until killed."""
    application = Application([("/", Echo)], websocket_max_message_size=64 * 1024 * 1024)
    application.listen(int(sys.argv[1]), address="127.0.0.1", max_buffer_size=128 * 1024 * 1024)
    await asyncio.Event().wait()


asyncio.run(main())
