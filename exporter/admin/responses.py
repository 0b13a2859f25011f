"""Answers of the admin port: short ones, and long ones in pieces so that a slow reader holds one piece at a time.

aiohttp is imported here for all of the admin port. Its client makes TLS contexts when it is imported, which read the
machine's certificate authorities: time and memory for a client that is not used. OpenSSL's environment
variables (SSL_CERT_FILE, SSL_CERT_DIR) name none meanwhile. The extension of frozenlist would load the C++ library for
a few lists of callbacks.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from time import monotonic, thread_time
from typing import TypeVar

_BEFORE = os.environ.copy()
os.environ |= {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull, "FROZENLIST_NO_EXTENSIONS": "1"}
from aiohttp import web as web  # noqa: E402
from aiohttp import web_response  # noqa: E402
from aiohttp.http_exceptions import HttpProcessingError as HttpProcessingError  # noqa: E402
from aiohttp.typedefs import Handler as Handler  # noqa: E402

os.environ.clear()
os.environ.update(_BEFORE)

#: The value of the Server header.
SERVER = "websocket-exporter"
web_response.SERVER_SOFTWARE = SERVER  # type: ignore[attr-defined]  # aiohttp's answers to malformed requests

#: Seconds for one whole answer.
ANSWER_TIME = 60.0
#: The part of one core that long answers may take for long, and the seconds of it that they may take at once.
SHARE = 0.1
BURST = 0.1
#: Seconds of a core that a piece counts at least: writing it, and reading its request, take about as long.
LEAST = 0.0003

HTML = "text/html"
JSON = "application/json"
TEXT = "text/plain"


T = TypeVar("T")


class TimeShare:
    """Bound the processor time of long answers, and do one piece of them in an iteration of the event loop.

    A few answers come at once. However many readers there are, traffic and health checks have the rest of the time.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._paid = 0.0  # the monotonic time until which the work so far takes no more than its share

    async def wait(self) -> None:
        """Return when it is the caller's turn to work, in the order of the calls."""
        async with self._turn:
            await asyncio.sleep(max(0.0, self._paid - BURST / SHARE - monotonic()))

    def count(self, seconds: float) -> None:
        """Count processor time that was used."""
        self._paid = max(self._paid, monotonic()) + max(seconds, LEAST) / SHARE

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of ``work``, which does not wait, when its turn has come."""
        await self.wait()
        began = thread_time()
        try:
            return work()
        finally:
            self.count(thread_time() - began)


#: The share of all long answers of a server.
TIME_SHARE = web.AppKey("time-share", TimeShare)


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
    left, share = (piece.encode() for piece in pieces), request.app[TIME_SHARE]
    async with bounded(request, ANSWER_TIME):
        if request.method != "HEAD":
            while (piece := await share.run(lambda: next(left, None))) is not None:
                await response.write(piece)
        await response.write_eof()
    return response


async def send_bytes(request: web.Request, content_type: str, body: bytes) -> web.StreamResponse:
    """Send a body that several readers share, one after the other."""
    await request.app[TIME_SHARE].run(lambda: None)
    response = web.StreamResponse(headers={"Content-Type": content_type})
    response.content_length = len(body)
    await response.prepare(request)
    async with bounded(request, ANSWER_TIME):
        await response.write_eof(b"" if request.method == "HEAD" else body)
    return response


@asynccontextmanager
async def bounded(request: web.Request, seconds: float | None) -> AsyncIterator[None]:
    """Bound the time of an answer; close on a reader who needs too long, ignore that one disconnected."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass
