"""Answers of the admin port: short ones, and long ones in pieces so that a slow reader holds one piece at a time.

aiohttp is imported here for all of the admin port. Its client makes TLS contexts when it is imported, which read the
machine's certificate authorities: time and memory for a client that is not used. OpenSSL's environment
variables (SSL_CERT_FILE, SSL_CERT_DIR) name none meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TypeVar

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

#: Seconds of work on long answers after which all of them rest for as long: health checks are answered meanwhile.
SLICE = 0.005
#: Seconds that one answer in pieces counts at most: longer ones waited for their reader.
MAX_SEND = 0.002

HTML = "text/html"
JSON = "application/json"
TEXT = "text/plain"


T = TypeVar("T")


class TimeSlices:
    """Leave half of the event loop's time to short answers, however many readers of long ones there are."""

    def __init__(self) -> None:
        self._worked = 0.0
        self._ended = 0.0

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of ``work``, which does not wait, when its turn has come."""
        while (rest := self._rest()) > 0:
            await asyncio.sleep(rest)
        began = monotonic()
        try:
            return work()
        finally:
            self.count(monotonic() - began)

    def count(self, seconds: float) -> None:
        """Count work that has just been done."""
        self._worked += seconds
        self._ended = monotonic()

    def _rest(self) -> float:
        """Return the seconds that are left of a rest; the slice begins anew after it."""
        rested = monotonic() - self._ended
        if rested >= self._worked:
            self._worked = 0.0
        return self._worked - rested if self._worked > SLICE else 0.0


_slices = TimeSlices()


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
    await _slices.run(lambda: None)  # all who wait for one exposition would send it in one turn of the loop
    began = monotonic()
    response = web.StreamResponse(headers={"Content-Type": content_type})
    response.content_length = len(body)
    await response.prepare(request)
    view = memoryview(body)
    await _write(request, response, (bytes(view[at : at + PIECE]) for at in range(0, len(body), PIECE)))
    _slices.count(min(monotonic() - began, MAX_SEND))
    return response


async def _write(request: web.Request, response: web.StreamResponse, pieces: Iterator[bytes]) -> None:
    try:
        async with asyncio.timeout(ANSWER_TIME):
            if request.method != "HEAD":
                while (piece := await _slices.run(lambda: next(pieces, None))) is not None:
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
