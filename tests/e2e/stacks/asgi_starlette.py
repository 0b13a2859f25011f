"""A Starlette application: echoes text, and raises when told to."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket


async def echo(websocket: WebSocket) -> None:
    """Echo until the client leaves."""
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "raise":
            raise RuntimeError("told to")
        await websocket.send_text(text)


app = Starlette(routes=[WebSocketRoute("/", echo)])
