"""Sanic. PORT [WORKERS]"""

from __future__ import annotations

import sys

from sanic import Request, Sanic, Websocket

app = Sanic("echo")
app.config.WEBSOCKET_PING_INTERVAL = app.config.WEBSOCKET_PING_TIMEOUT = 1
app.config.WEBSOCKET_MAX_SIZE = 65536


@app.websocket("/")
async def echo(request: Request, websocket: Websocket) -> None:
    """Echo until the client leaves."""
    async for message in websocket:
        if message == "return":
            return
        if message == "raise":
            raise RuntimeError("told to")
        await websocket.send(message)


if __name__ == "__main__":
    port, workers = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    app.run("127.0.0.1", port, workers=workers, single_process=workers == 1, motd=False, access_log=False)
