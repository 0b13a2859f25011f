"""Overhears HTTP/1.1 in both directions of one connection, up to the 101 that turns it into a WebSocket connection.

How it works
============
llhttp (through httptools) does the parsing, one parser a direction. What is ours is to bring the two together:

- Requests wait in a queue until their answers come, because how an answer is read depends on its request: one to HEAD
  has no body whatever its headers say (RFC 9110, section 9.3.2), a 101 switches only if its request asked
  (section 7.8). Several requests may be under way (pipelining, RFC 9112, section 9.3.2).
- When a request asks to upgrade, nobody knows yet what follows it: frames if the answer is 101, the next request
  otherwise. Bytes of the client are therefore *parked* here, bounded by :data:`MAX_EARLY`, until the answer decides.
  They have been forwarded all the same: this file only listens.
- An interim answer (1xx, RFC 9110, section 15.2) is not the answer, and one that began before anything was asked (a 408
  to half a head) is nobody's.
- llhttp cannot be told that a response has no body, so answers while a HEAD waits are fed to it byte by byte, and its
  parser is replaced when such an answer's head is complete. So are answers while bytes are parked, where a HEAD may be.
- A head's size is limited twice: while it is unfinished by the bytes that came for it, and when it is complete by what
  it holds (:mod:`exporter.protocol.http1_parser`), so that one which came in a single segment is judged alike.

Whatever cannot be followed ends the listening with one :class:`ParseFailed` that names why; nothing here ever raises
for what a peer sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from httptools import HttpParserError
from mypy_extensions import mypyc_attr

from exporter.protocol.enums import Unobserved
from exporter.protocol.http1_parser import Request, RequestReader, Response, ResponseReader

#: Bytes of a client that are kept while its request to upgrade is unanswered. A client may send frames early (RFC 6455
#: does not let it, some do); 64 KiB is what several servers allow for a whole request head.
MAX_EARLY: Final = 64 * 1024
#: Requests that may wait for answers; no known client pipelines this deep.
MAX_PIPELINED: Final = 1000
#: Bytes that may be fed one at a time (see above), 0.2 µs each: bounds what it can cost.
MAX_SINGLE_BYTES: Final = 256 * 1024

_TLS_HANDSHAKE = 0x16
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@mypyc_attr(free_list_len=1, acyclic=True)
@dataclass(slots=True, init=False)
class UpgradeRequested:
    """The client asked to upgrade to WebSocket: an opening handshake has begun."""

    request: Request

    def __init__(self, request: Request) -> None:
        self.request = request


@dataclass(slots=True)
class UpgradeRejected:
    """The opening handshake was answered with something other than 101; HTTP goes on."""

    request: Request
    status: int


@dataclass(slots=True)
class UpgradeAborted:
    """The opening handshake got no answer."""

    request: Request


@mypyc_attr(free_list_len=1, acyclic=True)
@dataclass(slots=True, init=False)
class Upgraded:
    """The 101. ``client`` and ``server`` are the bytes of each that are already frames."""

    request: Request
    response: Response
    client: bytes
    server: bytes

    def __init__(self, request: Request, response: Response, client: bytes, server: bytes) -> None:
        self.request = request
        self.response = response
        self.client = client
        self.server = server


@dataclass(slots=True)
class ParseFailed:
    """The connection cannot be followed any more; it is still forwarded."""

    reason: Unobserved
    why: str = ""


Fact = UpgradeRequested | UpgradeRejected | UpgradeAborted | Upgraded | ParseFailed


class HandshakeTracker:
    """Both directions of one HTTP/1.1 connection.

    :param max_head: bytes that a request's or response's head may have.

    :meth:`request` and :meth:`response` take bytes and return facts. After :class:`Upgraded` or :class:`ParseFailed`,
    told last and at most once, :attr:`over` is true and nothing more is told. Every :class:`UpgradeRequested` is
    followed by exactly one of :class:`UpgradeRejected`, :class:`UpgradeAborted` and :class:`Upgraded`.
    """

    __slots__ = (
        "_answering", "_facts", "_heads", "_opening", "_parked", "_requests", "_responses", "_singles", "_upgrading",
        "_waiting", "max_head", "over", "started",
    )  # fmt: skip
    __deletable__ = ("_requests", "_responses")

    def __init__(self, max_head: int = 64 * 1024) -> None:
        self.over = False
        self.started = False  # a request's head was complete
        self.max_head = max_head
        self._facts: list[Fact]
        self._waiting: list[Request] = []
        self._answering: Request | None = None  # by the head that came last; None: an interim one, or nothing was asked
        self._heads = 0  # HEAD requests among those waiting
        self._singles = 0
        self._upgrading: Request | None = None
        self._parked: bytes | bytearray = b""
        self._opening = b""  # the connection's first bytes, while they are not known to be HTTP/1.1
        self._requests = RequestReader(self)
        self._responses = ResponseReader(self)

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way, not even a part of its head."""
        return not self._waiting and not self._requests.begun

    def request(self, data: bytes) -> list[Fact]:
        """Take the next bytes from the client."""
        facts: list[Fact] = []
        self._facts = facts
        if not self.over:
            self._read_requests(data)
        return facts

    def response(self, data: bytes) -> list[Fact]:
        """Take the next bytes from the server."""
        facts: list[Fact] = []
        self._facts = facts
        if not self.over:
            self._read_responses(data)
        return facts

    def eof(self) -> list[Fact]:
        """Both directions have ended."""
        facts: list[Fact] = []
        self._facts = facts
        if not self.over:
            self._abort()
            self._finish()
        return facts

    def release(self) -> None:
        """Let go of the readers once :attr:`over`, so that no cycle is left to the garbage collector. The last call."""
        del self._requests, self._responses

    def _finish(self) -> None:
        self.over = True
        self._waiting = []
        self._parked = b""
        del self._requests.parser, self._responses.parser

    def _abort(self) -> None:
        request = self._upgrading
        if request is not None and request.websocket and not request.answered:
            self._facts.append(UpgradeAborted(request))

    def _lose(self, reason: Unobserved, why: str) -> None:
        if not self.over:
            self._abort()
            self._finish()
            self._facts.append(ParseFailed(reason, why))

    def _read_requests(self, data: bytes) -> None:
        if self._upgrading is not None:
            self._buffer_early(data)
            return
        reader = self._requests
        try:
            http = reader.feed(data)
        except HttpParserError as error:
            self._lose(*self._not_http1(error, data))
        else:
            if http >= 0 and not self.over:
                self._upgrade_asked(reader.request)
                if http < len(data):
                    self._buffer_early(data[http:])
        if not self.started and len(self._opening) < len(_HTTP2_PREFACE):
            self._opening += data[: len(_HTTP2_PREFACE)]
        if reader.head_bytes > self.max_head:
            self.head_too_large("request")

    def _buffer_early(self, data: bytes) -> None:
        if not self._parked:
            self._parked = bytearray()  # made when needed, which is seldom
        self._parked += data
        if len(self._parked) > MAX_EARLY:
            self._lose(Unobserved.HTTP1, f"over {MAX_EARLY} bytes before the answer to an upgrade")

    def _not_http1(self, error: Exception, data: bytes) -> tuple[Unobserved, str]:
        if not self.started:
            opening = self._opening + data[: len(_HTTP2_PREFACE)]
            if opening[0] == _TLS_HANDSHAKE:
                return Unobserved.TLS, "TLS"
            if opening.startswith(_HTTP2_PREFACE[:14]):
                return Unobserved.HTTP2, "HTTP/2 with prior knowledge"
        return Unobserved.HTTP1, f"request: {error}"

    def _upgrade_asked(self, request: Request) -> None:
        self._upgrading = request
        if request.websocket:
            self._facts.append(UpgradeRequested(request))
        elif request.has_body:
            # Where its body ends is not known: llhttp takes all that follows a request to upgrade for the new protocol.
            self._lose(Unobserved.HTTP1, "a body in a request to upgrade to another protocol")

    def _read_responses(self, data: bytes) -> None:
        at = self._read_singly(data) if self._heads or self._parked else 0
        if at < len(data) and not self.over:
            self._read_response(data, at, len(data))
        if self._responses.head_bytes > self.max_head:
            self.head_too_large("response")

    def _read_singly(self, data: bytes) -> int:
        """Read byte by byte for as long as there is need to. Returns how many bytes were read."""
        at = 0
        while (self._heads or self._parked) and at < len(data) and not self.over:
            self._singles += 1
            if self._singles > MAX_SINGLE_BYTES:
                self._lose(Unobserved.HTTP1, "too much data while an answer to HEAD or an upgrade is awaited")
                break
            self._read_response(data, at, at + 1)
            if not self.over:
                self._responses.renew_after_head()
            at += 1
        return at

    def _read_response(self, data: bytes, start: int, end: int) -> None:
        try:
            http = self._responses.feed(data[start:end])
        except HttpParserError as error:
            self._lose(Unobserved.HTTP1, f"response: {error}")
        else:
            if http >= 0:
                self._switch(data[start + http :])

    def _switch(self, rest: bytes) -> None:
        """llhttp saw the end of a 101 with the headers of an upgrade."""
        request, response = self._upgrading, self._responses.response
        if self.over:
            return
        if request is None or not request.websocket:
            self._lose(Unobserved.UPGRADE, "switched to another protocol")
            return
        client = bytes(self._parked) if self._parked else b""
        self._upgrading = None
        self._finish()
        self._facts.append(Upgraded(request, response, client, rest))

    # Called by the readers.

    def head_too_large(self, whose: str) -> None:
        """A head is over the limit, finished or not."""
        self._lose(Unobserved.HEAD_TOO_LARGE, f"a {whose}'s head of over {self.max_head} bytes")

    def request_head(self, request: Request) -> None:
        """A request's head is complete."""
        self.started = True
        self._waiting.append(request)
        if request.method == "HEAD":
            self._heads += 1
        if len(self._waiting) > MAX_PIPELINED:
            self._lose(Unobserved.HTTP1, f"over {MAX_PIPELINED} requests without an answer")

    def response_head(self, response: Response) -> bool:
        """A response's head is complete. Returns whether its body is to be skipped because it answers a HEAD."""
        if response.is_interim:
            self._answering = None
            return False
        request = self._answering = self._waiting[0] if self._waiting else None
        if request is not None and request is self._upgrading:
            if request.websocket and response.status != 101:
                self._facts.append(UpgradeRejected(request, response.status))
                request.answered = True
            elif request.method == "CONNECT" and response.status // 100 == 2:
                self._lose(Unobserved.UPGRADE, "switched to another protocol")
        return request is not None and request.method == "HEAD"

    def response_done(self, response: Response) -> None:
        """A response is complete, body and all: the next one belongs to the next request."""
        request = self._answering
        if request is None or self.over:
            return
        del self._waiting[0]
        self._heads -= request.method == "HEAD"
        if request is not self._upgrading:
            return
        if response.status == 101:
            self._lose(Unobserved.UPGRADE, "switched to another protocol")
            return
        parked, self._parked = bytes(self._parked), b""
        self._upgrading = None
        self._requests.renew()
        if parked:
            self._read_requests(parked)
