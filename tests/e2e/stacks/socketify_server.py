"""socketify, uWebSockets for Python. PORT"""

from __future__ import annotations

import sys
from typing import Any

from socketify import App, CompressOptions, OpCode


def echo(websocket: Any, message: str | bytes, opcode: OpCode) -> None:
    """Echo."""
    if message == "raise":
        raise RuntimeError("told to")
    if message == "return":
        websocket.end(1000)
        return
    websocket.send(message, opcode)


app = App()
app.ws("/", {"compression": CompressOptions.DISABLED, "max_payload_length": 65536, "idle_timeout": 8,
             "send_pings_automatically": True, "message": echo})  # fmt: skip
app.listen({"host": "127.0.0.1", "port": int(sys.argv[1])}, lambda config: None)
app.run()
