"""python-socketio on aiohttp: echoes every event's argument, disconnects when told to. PORT [--keepalive]"""

from __future__ import annotations

import sys

import socketio
from aiohttp import web

beat = {"ping_interval": 1, "ping_timeout": 1.5} if "--keepalive" in sys.argv else {}
server = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*", **beat)


@server.on("echo")
async def echo(sid: str, data: object) -> object:
    """Answer, as acknowledgement, what came."""
    return data


@server.on("close")
async def close(sid: str) -> None:
    """End the connection."""
    await server.disconnect(sid)


app = web.Application()
server.attach(app)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), shutdown_timeout=0.2, print=None)
