"""How the admin port answers: in pieces, to readers who may be slow, without ever holding up the traffic.

How it works
============
The relay and this server share one event loop, so two things must not happen here: work that keeps the loop for long,
and memory that grows because somebody does not read. A long answer is therefore made piece by piece, each when the one
before it has been taken over by the kernel, with a turn of the loop for everybody else in between. What waits for a
reader is at most one piece, the transport's buffer and the kernel's, which is kept small. A reader who takes longer
than :data:`ANSWER_TIME` for one answer is dropped.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable
from contextlib import suppress

from exporter.admin.http import web

#: Seconds for one whole answer. All that is kept is a few megabytes at most: slower than this is not reading.
ANSWER_TIME = 60.0
#: Bytes that the kernel may hold for one reader; its default grows to megabytes, which count as the container's memory.
SEND_BUFFER = 65536

HTML = "text/html"
JSON = "application/json"
TEXT = "text/plain"


def as_json(status: int, body: object) -> web.Response:
    """A short answer for a program."""
    return web.Response(status=status, text=json.dumps(body) + "\n", content_type=JSON)


def line(status: int, said: str, headers: dict[str, str] | None = None) -> web.Response:
    """One line of text."""
    return web.Response(status=status, text=f"{said}\n", content_type=TEXT, headers=headers)


async def begin(request: web.Request, content_type: str, status: int = 200) -> web.StreamResponse:
    """The head of an answer in pieces."""
    response = web.StreamResponse(status=status, headers={"Content-Type": f"{content_type}; charset=utf-8"})
    response.headers["Vary"] = "Accept"
    if request.transport is not None and (peer := request.transport.get_extra_info("socket")) is not None:
        with suppress(OSError):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    await response.prepare(request)
    return response


async def send(request: web.Request, content_type: str, pieces: Iterable[str], status: int = 200) -> web.StreamResponse:
    """Answer with ``pieces``, each made when it is its turn; drops a reader who needs too long."""
    response = await begin(request, content_type, status)
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(ANSWER_TIME):
            for piece in pieces if request.method != "HEAD" else ():
                await response.write(piece.encode())
                await asyncio.sleep(0)
            await response.write_eof()
    except TimeoutError:
        drop(request)
    except ConnectionError:
        pass  # gone; nothing is left to be told
    return response


def drop(request: web.Request) -> None:
    """End a connection at once, whatever waits in it."""
    if request.transport is not None:
        request.transport.abort()
