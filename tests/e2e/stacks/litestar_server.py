"""Litestar: `uvicorn litestar_server:app`."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, WebSocket, websocket


@websocket("/")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    """Echo until the client leaves."""
    await socket.accept()
    while (message := await socket.receive_text()) != "return":
        if message == "raise":
            raise RuntimeError("told to")
        await socket.send_text(message)


app = Litestar([echo])
