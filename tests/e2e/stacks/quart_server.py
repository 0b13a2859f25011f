"""Quart under hypercorn: `hypercorn quart_server:app`."""

from __future__ import annotations

from quart import Quart, websocket

app = Quart(__name__)


@app.websocket("/")
async def echo() -> None:
    """Echo until the client leaves."""
    while (message := await websocket.receive()) != "return":
        if message == "raise":
            raise RuntimeError("told to")
        await websocket.send(message)
