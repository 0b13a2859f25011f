"""An ASGI application with no framework: echoes, raises and closes when told to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Accept every WebSocket; other scopes (lifespan, http) are refused, as the specification allows."""
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event.get("text") == "raise":
            raise RuntimeError("told to")
        elif event.get("text") == "return":
            return
        elif event.get("text") == "close":
            await send({"type": "websocket.close", "code": 4001, "reason": "done"})
        elif event.get("text") is not None:
            await send({"type": "websocket.send", "text": event["text"]})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})
    print("saw", event["code"], event.get("reason"), flush=True)
