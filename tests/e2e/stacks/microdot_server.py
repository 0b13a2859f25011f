"""microdot. PORT"""

from __future__ import annotations

import sys
from typing import Any

from microdot import Microdot, Request
from microdot.websocket import with_websocket

app = Microdot()


@app.route("/")
@with_websocket
async def echo(request: Request, ws: Any) -> None:
    """Echo until the client leaves."""
    while (message := await ws.receive()) != "return":
        if message == "raise":
            raise RuntimeError("told to")
        await ws.send(message)


app.run("127.0.0.1", int(sys.argv[1]))
