"""A Starlette application: echoes, raises and closes when told to."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket


async def echo(websocket: WebSocket) -> None:
    """Echo until the client leaves."""
    await websocket.accept()
    while (event := await websocket.receive())["type"] != "websocket.disconnect":
        if event.get("text") == "raise":
            raise RuntimeError("told to")
        if event.get("text") == "return":
            return
        if event.get("text") == "close":
            await websocket.close(4001, "done")
        elif event.get("text") is not None:
            await websocket.send_text(event["text"])
        else:
            await websocket.send_bytes(event["bytes"])
    print("saw", event["code"], event.get("reason"), flush=True)


app = Starlette(routes=[WebSocketRoute("/", echo)])
