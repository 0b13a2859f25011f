"""Answers of the admin port: short ones, and long ones in pieces so that a slow reader holds one piece at a time.

aiohttp is imported here for all of the admin port. Its client makes TLS contexts when it is imported, which read the
machine's certificate authorities: time and memory for a client that is not used. OpenSSL's environment
variables (SSL_CERT_FILE, SSL_CERT_DIR) name none meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable

_NONE = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
_BEFORE = {name: os.environ.get(name) for name in _NONE}
os.environ.update(_NONE)
from aiohttp import web, web_response  # noqa: E402
from aiohttp.http_exceptions import HttpProcessingError  # noqa: E402

for _name, _value in _BEFORE.items():
    if _value is None:
        del os.environ[_name]
    else:
        os.environ[_name] = _value

__all__ = ["SERVER", "HttpProcessingError", "as_json", "begin", "drop", "line", "send", "send_bytes", "web"]

#: The value of the Server header.
SERVER = "websocket-exporter"
web_response.SERVER_SOFTWARE = SERVER  # type: ignore[attr-defined]  # aiohttp's answers to malformed requests

#: Seconds for one whole answer.
ANSWER_TIME = 60.0
#: Bytes of a piece of a long answer.
PIECE = 65536

HTML = "text/html"
JSON = "application/json"
TEXT = "text/plain"


def as_json(status: int, body: object) -> web.Response:
    """Return a short answer for a program."""
    return web.Response(status=status, text=json.dumps(body) + "\n", content_type=JSON)


def line(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    """Return one line of text."""
    return web.Response(status=status, text=f"{text}\n", content_type=TEXT, headers=headers)


async def begin(request: web.Request, content_type: str, status: int = 200) -> web.StreamResponse:
    """Send the head of a text in pieces."""
    response = web.StreamResponse(status=status, headers={"Content-Type": f"{content_type}; charset=utf-8"})
    response.headers["Vary"] = "Accept"
    await response.prepare(request)
    return response


async def send(request: web.Request, content_type: str, pieces: Iterable[str], status: int = 200) -> web.StreamResponse:
    """Send ``pieces``, each made when the one before it was written; close on a reader who needs too long."""
    response = await begin(request, content_type, status)
    await _write(request, response, (piece.encode() for piece in pieces))
    return response


async def send_bytes(request: web.Request, content_type: str, body: bytes) -> web.StreamResponse:
    """Send a body that several readers share."""
    response = web.StreamResponse(headers={"Content-Type": content_type})
    response.content_length = len(body)
    await response.prepare(request)
    view = memoryview(body)
    await _write(request, response, (bytes(view[at : at + PIECE]) for at in range(0, len(body), PIECE)))
    return response


async def _write(request: web.Request, response: web.StreamResponse, pieces: Iterable[bytes]) -> None:
    try:
        async with asyncio.timeout(ANSWER_TIME):
            for piece in pieces if request.method != "HEAD" else ():
                await response.write(piece)
            await response.write_eof()
    except TimeoutError:
        drop(request)
    except ConnectionError:
        pass  # the reader has gone


def drop(request: web.Request) -> None:
    """Close a connection at once, with unsent data."""
    if request.transport is not None:
        request.transport.abort()
