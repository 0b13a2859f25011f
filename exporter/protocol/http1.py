"""Reads HTTP/1.1 in both directions of one connection, up to the 101 that makes it a WebSocket connection.

    HTTP ──── request to upgrade ────► UPGRADING ──── 101 ────► finished: Upgraded
     ▲  │                               │   │
     │  │                               │   └─ TCP ends ──► finished: UpgradeAborted
     │  │                               │
     │  └─ cannot be followed ──────────┼─────────────────► finished: ParseFailed
     └──── another answer: UpgradeRejected

:mod:`exporter.protocol.http1_parser` reads each direction; here the two meet:

- Answers come in the order of the requests, of which several may be under way (pipelining, RFC 9112, section 9.3.2).
  Of a request that waits for its answer one byte is kept: whether it is a HEAD, whose answer has no body (RFC 9110,
  section 9.3.2). Only the request that asks to upgrade is kept with its texts.
- Bytes that follow a request to upgrade are frames if the answer is 101, the next request otherwise. They are buffered
  until the answer decides, up to :data:`MAX_EARLY`. (They have been forwarded: nothing waits for this module.)
- An interim answer (1xx, RFC 9110, section 15.2) is not the answer, and one that began before any request (a 408 to
  half a head) answers none.

The state of a connection is bounded: one head of each direction, of at most ``max_head`` bytes, the early bytes, and
:data:`MAX_PIPELINED` bytes. Whatever cannot be followed ends the reading with one :class:`ParseFailed`; nothing here
raises for bytes that a peer sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from httptools import HttpParserError
from mypy_extensions import mypyc_attr

from exporter.protocol.enums import Unobserved
from exporter.protocol.http1_parser import HeadTooLarge, Phase, Request, RequestReader, Response, ResponseReader
from exporter.protocol.usual_heads import usual_answer, usual_request

#: Bytes of a client that are kept while its request to upgrade is unanswered. A client may send frames early (RFC 6455
#: does not let it, some do); 64 KiB is the limit of several servers for a whole request head.
MAX_EARLY: Final = 64 * 1024
#: Requests that may wait for answers; no known client pipelines this deep.
MAX_PIPELINED: Final = 100

_TLS_HANDSHAKE: Final = 0x16
_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD: Final = Phase.HEAD


# These two are no dataclasses, whose __init__ is never compiled.


@mypyc_attr(free_list_len=1, acyclic=True)
class UpgradeRequested:
    """The client asked to upgrade to WebSocket: an opening handshake has begun."""

    def __init__(self, request: Request) -> None:
        self.request = request


@mypyc_attr(free_list_len=1, acyclic=True)
class Upgraded:
    """The 101. ``client`` and ``server`` are the bytes of each that are already frames."""

    def __init__(self, request: Request, response: Response, client: bytes, server: bytes) -> None:
        self.request = request
        self.response = response
        self.client = client
        self.server = server


@dataclass(slots=True)
class UpgradeRejected:
    """The opening handshake was answered with something other than 101; HTTP goes on."""

    request: Request
    status: int


@dataclass(slots=True)
class UpgradeAborted:
    """The opening handshake got no answer."""

    request: Request


@dataclass(slots=True)
class ParseFailed:
    """The connection cannot be followed any more; it is still forwarded."""

    reason: Unobserved
    why: str = ""


Event = UpgradeRequested | UpgradeRejected | UpgradeAborted | Upgraded | ParseFailed


@mypyc_attr(free_list_len=1, acyclic=True)
class HandshakeTracker:
    """Both directions of one HTTP/1.1 connection.

    :param max_head: bytes that a request's or response's head, or a body's trailers, may have.

    :meth:`request` and :meth:`response` take bytes and return events. After :class:`Upgraded` or :class:`ParseFailed`,
    which come last and at most once, :attr:`finished` is true and no event follows. Every :class:`UpgradeRequested` is
    followed by exactly one of :class:`UpgradeRejected`, :class:`UpgradeAborted` and :class:`Upgraded`.
    """

    __slots__ = (
        "_answering", "_events", "_max_head", "_opening", "_parked", "_requests", "_responses", "_upgrading",
        "_waiting", "finished", "started",
    )  # fmt: skip

    def __init__(self, max_head: int = 64 * 1024) -> None:
        self.finished = False
        self.started = False  # a request's head was complete
        self._max_head = max_head
        self._events: list[Event] = []
        self._waiting = b""  # one byte for each request that waits for its answer: 1 for a HEAD
        self._answering = False  # the response that is being read answers the first of them
        self._upgrading: Request | None = None  # the last of them, if it asks to upgrade
        self._parked: bytes | bytearray = b""
        self._opening = b""  # the connection's first bytes, while they are not known to be HTTP/1.1
        # Made when a head is not of the usual form.
        self._requests: RequestReader | None = None
        self._responses: ResponseReader | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way, not even a part of its head."""
        return not self._waiting and (self._requests is None or not self._requests.begun)

    def request(self, data: bytes) -> list[Event]:
        """Read the next bytes from the client."""
        if not self.finished:
            is_first = not self.started and not self._opening and len(data) <= self._max_head
            if is_first and (request := usual_request(data)) is not None:
                self._request_head(request)
            else:
                self._begin_work()
                self._read_requests(data)
        return self._take_events()

    def response(self, data: bytes) -> list[Event]:
        """Read the next bytes from the server."""
        if not self.finished:
            is_first = self._upgrading is not None and self._responses is None and len(data) <= self._max_head
            if is_first and (answer := usual_answer(data)) is not None:
                self._response_head(answer[0], data, answer[1])
            else:
                self._begin_work()
                self._read_responses(data)
        return self._take_events()

    def _begin_work(self) -> None:
        for reader in (self._requests, self._responses):
            if reader is not None:
                reader.work = 0

    def eof(self) -> list[Event]:
        """Both directions have ended."""
        if not self.finished:
            self._abort()
            self._finish()
        return self._take_events()

    def _take_events(self) -> list[Event]:
        events = self._events
        self._events = []
        return events

    def _finish(self) -> None:
        self.finished = True
        self._waiting = self._parked = self._opening = b""
        self._upgrading = None
        for reader in (self._requests, self._responses):
            if reader is not None:
                reader.release()
        self._requests = self._responses = None

    def _abort(self) -> None:
        request = self._upgrading
        if request is not None and request.websocket and not request.answered:
            self._events.append(UpgradeAborted(request))

    def _fail(self, reason: Unobserved, why: str) -> None:
        self._abort()
        self._finish()
        self._events.append(ParseFailed(reason, why))

    def _read_requests(self, data: bytes) -> None:
        reader = self._requests
        if reader is None:
            reader = self._requests = RequestReader(self._max_head)
        at = 0
        try:
            while at < len(data) and not self.finished:
                if self._upgrading is not None and reader.phase is _HEAD:
                    self._buffer_early(data[at:])
                    break
                at = reader.feed(data, at)
                if reader.head_complete:
                    self._request_head(reader.take())
        except HttpParserError as error:
            self._fail(*self._not_http1(error, data))
        except HeadTooLarge as error:
            self._fail(Unobserved.HEAD_TOO_LARGE, f"a request's {error} of over {self._max_head} bytes")
        if not self.started and len(self._opening) < len(_HTTP2_PREFACE):
            self._opening += data[: len(_HTTP2_PREFACE)]

    def _buffer_early(self, data: bytes) -> None:
        if len(self._parked) + len(data) > MAX_EARLY:
            self._fail(Unobserved.HTTP1, f"over {MAX_EARLY} bytes before the answer to an upgrade")
            return
        if not self._parked:
            self._parked = bytearray()  # made when needed, which is seldom
        self._parked += data

    def _not_http1(self, error: Exception, data: bytes) -> tuple[Unobserved, str]:
        if not self.started:
            opening = self._opening + data[: len(_HTTP2_PREFACE)]
            if opening[0] == _TLS_HANDSHAKE:
                return Unobserved.TLS, "TLS"
            if opening.startswith(_HTTP2_PREFACE[:14]):
                return Unobserved.HTTP2, "HTTP/2 with prior knowledge"
        return Unobserved.HTTP1, f"request: {error}"

    def _request_head(self, request: Request) -> None:
        self.started = True
        self._opening = b""
        self._waiting += b"\x01" if request.method == b"HEAD" else b"\x00"
        if len(self._waiting) > MAX_PIPELINED:
            self._fail(Unobserved.HTTP1, f"over {MAX_PIPELINED} requests without an answer")
        elif request.upgrade:
            self._upgrading = request
            if request.websocket:
                self._events.append(UpgradeRequested(request))

    def _read_responses(self, data: bytes) -> None:
        reader = self._responses
        if reader is None:
            reader = self._responses = ResponseReader(self._max_head)
        at = 0
        try:
            while at < len(data) and not self.finished:
                at = reader.feed(data, at)
                if reader.head_complete:
                    self._response_head(reader.take(), data, at)
                if not self.finished and reader.is_between:
                    self._response_done()
        except HttpParserError as error:
            self._fail(Unobserved.HTTP1, f"response: {error}")
        except HeadTooLarge as error:
            self._fail(Unobserved.HEAD_TOO_LARGE, f"a response's {error} of over {self._max_head} bytes")

    def _response_head(self, response: Response, data: bytes, at: int) -> None:
        """Handle a response's head, which ends at ``at`` in ``data``."""
        self._answering = bool(self._waiting) and not response.is_interim
        request = self._upgrading if self._answering and len(self._waiting) == 1 else None
        if response.status == 101 and (response.upgrade or request is not None):
            if response.upgrade and request is not None and request.websocket:
                self._events.append(Upgraded(request, response, bytes(self._parked), data[at:]))
                self._finish()
            else:
                self._fail(Unobserved.UPGRADE, "switched to another protocol")
            return
        if request is not None:
            if request.websocket:
                self._events.append(UpgradeRejected(request, response.status))
                request.answered = True
            elif request.method == b"CONNECT" and response.status // 100 == 2:
                self._fail(Unobserved.UPGRADE, "switched to another protocol")
                return
        if self._answering and self._waiting[0] == 1 and self._responses is not None:
            self._responses.end_message()

    def _response_done(self) -> None:
        """Handle the end of a response: the next one belongs to the next request."""
        if not self._answering:
            return
        self._answering = False
        self._waiting = self._waiting[1:]
        if self._waiting or self._upgrading is None:
            return
        early, self._parked = bytes(self._parked), b""
        self._upgrading = None
        self._read_requests(early)
