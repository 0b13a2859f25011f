"""A FastAPI application: echoes text, and raises when told to."""

from __future__ import annotations

from fastapi import FastAPI, WebSocket

app = FastAPI()


@app.websocket("/")
async def echo(websocket: WebSocket) -> None:
    """Echo until the client leaves."""
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "raise":
            raise RuntimeError("told to")
        await websocket.send_text(text)
