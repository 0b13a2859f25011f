"""aiohttp. PORT [--close-on-shutdown] [--keepalive SECONDS]"""

from __future__ import annotations

import argparse
import weakref

from aiohttp import WSCloseCode, WSMsgType, web

SESSIONS: web.AppKey[weakref.WeakSet[web.WebSocketResponse]] = web.AppKey("sessions")
KEEPALIVE: web.AppKey[float | None] = web.AppKey("keepalive")


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Echo until the client leaves."""
    websocket = web.WebSocketResponse(heartbeat=request.app[KEEPALIVE])
    await websocket.prepare(request)
    request.app[SESSIONS].add(websocket)
    async for message in websocket:
        if message.type == WSMsgType.TEXT:
            if message.data == "raise":
                raise RuntimeError("told to")
            if message.data == "return":
                break
            if message.data == "close":
                await websocket.close(code=4001, message=b"done")
            else:
                await websocket.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    print("saw", websocket.close_code, flush=True)
    return websocket


async def close_all(app: web.Application) -> None:
    """The clean-up that aiohttp's documentation recommends ("Graceful shutdown")."""
    for websocket in set(app[SESSIONS]):
        await websocket.close(code=WSCloseCode.GOING_AWAY, message=b"Server shutdown")


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--close-on-shutdown", action="store_true")
    parser.add_argument("--keepalive", type=float, default=None)
    options = parser.parse_args()
    app = web.Application()
    app[SESSIONS] = weakref.WeakSet()
    app[KEEPALIVE] = options.keepalive
    app.router.add_get("/", echo)
    if options.close_on_shutdown:
        app.on_shutdown.append(close_all)
    # The default of a minute only delays what happens: open handlers are cancelled when it is over.
    web.run_app(app, host="127.0.0.1", port=options.port, shutdown_timeout=0.2, print=None)


main()
