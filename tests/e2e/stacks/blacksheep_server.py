"""BlackSheep: `uvicorn blacksheep_server:app`."""

from __future__ import annotations

from blacksheep import Application, WebSocket

app = Application()


@app.router.ws("/")
async def echo(websocket: WebSocket) -> None:
    """Echo until the client leaves."""
    await websocket.accept()
    while (message := await websocket.receive_text()) != "return":
        if message == "raise":
            raise RuntimeError("told to")
        await websocket.send_text(message)
