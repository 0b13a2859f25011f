"""aiohttp serving a page whose script opens a WebSocket to where the page came from. PORT"""

from __future__ import annotations

import sys

from aiohttp import WSMsgType, web

PAGE = """<!doctype html><title>opening</title>
<script>
  const socket = new WebSocket("ws://" + location.host + "/ws");
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (event) => { document.title = event.data; };
  socket.onclose = (event) => { document.title = "closed " + event.code + " " + event.wasClean; };
</script>"""


async def page(request: web.Request) -> web.Response:
    """The page, on any path; /elsewhere has no script."""
    text = "<!doctype html><title>elsewhere</title>" if request.path == "/elsewhere" else PAGE
    return web.Response(text=text, content_type="text/html")


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Echo until the client leaves."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        if message.type == WSMsgType.TEXT:
            await websocket.send_str(message.data)
    return websocket


app = web.Application()
app.router.add_get("/ws", echo)
app.router.add_get("/{any:.*}", page)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), shutdown_timeout=0.2, print=None)
