"""picows. PORT"""

from __future__ import annotations

import asyncio
import sys

from picows import WSAutoPingStrategy, WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


class Echo(WSListener):
    """One per connection."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Echo one message, and answer a Close."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            if frame.get_payload_as_bytes() == b"raise":
                raise RuntimeError("told to")
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


async def main() -> None:
    """Serve until killed."""

    def listener(request: WSUpgradeRequest) -> Echo:
        return Echo()

    server = await ws_create_server(
        listener,
        "127.0.0.1",
        int(sys.argv[1]),
        enable_auto_ping=True,
        auto_ping_idle_timeout=1.5,
        auto_ping_reply_timeout=1.2,
        auto_ping_strategy=WSAutoPingStrategy.PING_PERIODICALLY,
        max_frame_size=65536,
    )
    await server.serve_forever()


asyncio.run(main())
