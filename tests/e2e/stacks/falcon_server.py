"""Falcon: `uvicorn falcon_server:app`."""

from __future__ import annotations

from falcon.asgi import App, Request, WebSocket


class Echo:
    """The resource at /."""

    async def on_websocket(self, request: Request, socket: WebSocket) -> None:
        """Echo until the client leaves."""
        await socket.accept()
        while (message := await socket.receive_text()) != "return":
            if message == "raise":
                raise RuntimeError("told to")
            await socket.send_text(message)


app = App()
app.add_route("/", Echo())
