"""Robyn. PORT"""

from __future__ import annotations

import sys

from robyn import Robyn, WebSocketDisconnect

app = Robyn(__file__)


@app.websocket("/")
async def echo(websocket) -> None:  # type: ignore[no-untyped-def]
    """Echo until the client leaves."""
    try:
        while (message := await websocket.receive_text()) != "return":
            if message == "raise":
                raise RuntimeError("told to")
            await websocket.send_text(message)
    except WebSocketDisconnect:
        pass


app.start(host="127.0.0.1", port=int(sys.argv[1]))
