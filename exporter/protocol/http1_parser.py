"""Messages of HTTP/1.1 in one direction: heads are parsed by llhttp (through httptools), bodies are skipped.

    HEAD ──── empty line ────► BODY ──────── n bytes ────────────────────────────────┐
     ▲ │                       CHUNK_SIZE ──► BODY ─── n bytes ──► CHUNK_SIZE        │
     │ │                           └─ size 0 ──► TRAILERS ── empty line ─────────────┤
     │ └─ no body ─┐                                                                 │
     └─────────────┴─────────────────────────────────────────────────────────────────┘

A reader passes llhttp the bytes of one head and no more, and skips the body itself: so a HEAD's answer has none, a
request to upgrade ends where it ends, and heads and trailers are measured as their bytes come, however they are cut.
Of a head only the texts that :mod:`exporter.protocol.http1` reports are kept, each cut to its limit; of trailers
nothing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser
from mypy_extensions import mypyc_attr

#: Bytes of X-Forwarded-For, User-Agent and Sec-WebSocket-Protocol that are kept.
MAX_TEXT: Final = 1024
#: Bytes of traceparent that are kept: W3C Trace Context's version 00 has 55.
MAX_TRACEPARENT: Final = 128
#: Bytes of a chunk's size line, extensions included (RFC 9112, section 7.1.1: a recipient should limit them).
MAX_CHUNK_LINE: Final = 4096
#: Work that one call may cost: a chunk counts 1, a head :data:`_HEAD_COST`.
MAX_WORK: Final = 4096
_HEAD_COST: Final = 16

_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"
#: Hexadecimal digits of a chunk's size at most: more is no length that exists.
_MAX_DIGITS: Final = 15
#: Length of a body that ends with the connection: more bytes than any connection carries.
_UNTIL_CLOSE: Final = 1 << 60


class Phase(IntEnum):
    """Where in a message a direction stands; see the diagram."""

    HEAD = 0
    BODY = 1
    CHUNK_SIZE = 2
    TRAILERS = 3


_HEAD: Final = Phase.HEAD
_BODY: Final = Phase.BODY
_CHUNK_SIZE: Final = Phase.CHUNK_SIZE
_TRAILERS: Final = Phase.TRAILERS


class HeadTooLarge(Exception):
    """A head, or a body's trailers, over the limit, complete or not."""


@mypyc_attr(free_list_len=1, acyclic=True)
class Request:
    """A request's head. Texts are as sent, decoded as Latin-1 but for the method; empty if absent.

    :ivar upgrade: it asks to switch protocols.
    :ivar websocket: its Upgrade header names WebSocket.
    :ivar answered: its answer has been reported.
    """

    __slots__ = ("answered", "cookie", "forwarded_for", "method", "target", "traceparent", "upgrade", "user_agent",
                 "websocket")  # fmt: skip

    def __init__(
        self,
        method: bytes = b"",
        target: str = "",
        upgrade: bool = False,
        websocket: bool = False,
        forwarded_for: str = "",
        user_agent: str = "",
        traceparent: str = "",
        cookie: str = "",
    ) -> None:
        self.method = method
        self.target = target
        self.upgrade = upgrade
        self.websocket = websocket
        self.forwarded_for = forwarded_for
        self.user_agent = user_agent
        self.traceparent = traceparent
        self.cookie = cookie
        self.answered = False


@mypyc_attr(free_list_len=1, acyclic=True)
class Response:
    """A response's head. ``upgrade``: it is a 101 that switches protocols."""

    __slots__ = ("status", "subprotocol", "upgrade")

    def __init__(self, status: int, subprotocol: str = "", upgrade: bool = False) -> None:
        self.status = status
        self.subprotocol = subprotocol
        self.upgrade = upgrade

    @property
    def is_interim(self) -> bool:
        """1xx, which announces the answer; 101 is an answer."""
        return 100 <= self.status < 200 and self.status != 101


class Reader:
    """Messages of one direction: see :class:`RequestReader` and :class:`ResponseReader`.

    :param max_head: bytes that a head, or a body's trailers, may have.
    :ivar phase: where in a message the direction stands.
    :ivar begun: a message has begun.
    :ivar head_complete: a head has been read to its end and not been taken.
    :ivar work: the cost of the current call of the owner so far.
    """

    __slots__ = ("_chunked", "_head_bytes", "_left", "_length", "_line", "_max_head", "_parser", "_parser_class",
                 "_tail", "_upgrade", "begun", "head_complete", "phase", "work")  # fmt: skip

    def __init__(self, parser_class: type[HttpRequestParser | HttpResponseParser], max_head: int) -> None:
        self._max_head = max_head
        self.phase = _HEAD
        self.begun = False
        self.head_complete = False
        self.work = 0
        self._parser_class = parser_class
        self._parser: HttpRequestParser | HttpResponseParser | None = None
        self._upgrade = False  # the head asks to switch protocols, or does so
        self._head_bytes = 0  # bytes of the head, or of the trailers, that is being read
        self._tail = b""  # the last of them
        self._length = -1  # the body's length, if the head gives one
        self._chunked = False
        self._left = 0  # bytes of the body, or of the chunk and its line end
        self._line = b""  # the beginning of a chunk's size line

    def on_message_begin(self) -> None:
        self.begun = True

    def on_headers_complete(self) -> None:
        self.head_complete = True

    @property
    def is_between(self) -> bool:
        """Whether the last message has been read to its end, and no byte of another one."""
        return self.phase is _HEAD and not self._head_bytes

    def release(self) -> None:
        """Let go of the parser, which refers to its reader."""
        self._parser = None

    def feed(self, data: bytes, at: int) -> int:
        """Read ``data`` from ``at`` on, at most to the end of a head or of a body. Returns how far it was read.

        Raises HttpParserError for bytes that are no HTTP/1.1, HeadTooLarge for a head or trailers over the limit.
        """
        phase = self.phase
        if phase is _HEAD or phase is _TRAILERS:
            return self._read_section(data, at)
        if phase is _CHUNK_SIZE:
            return self._read_chunk_size(data, at)
        stop = min(len(data), at + self._left)
        self._left -= stop - at
        if not self._left:
            if self._chunked:
                self.phase = _CHUNK_SIZE
            else:
                self.end_message()
        return stop

    def _read_section(self, data: bytes, at: int) -> int:
        """Read a head, or a body's trailers, as far as the empty line that ends it."""
        end = self._find_end(data, at)
        stop = min(len(data) if end < 0 else end, at + self._max_head - self._head_bytes + 1)
        part = data[at:stop]
        self._head_bytes += stop - at
        if self.phase is _HEAD:
            self._parse(part)
        if self._head_bytes > self._max_head:
            raise HeadTooLarge("head" if self.phase is _HEAD else "trailers")
        if self.head_complete:
            self._spend(_HEAD_COST)
        elif end < 0:
            self._tail = (self._tail + part[-3:])[-3:]
        elif self.phase is _TRAILERS:
            self.end_message()
        else:
            self._tail = b""  # empty lines before a message (RFC 9112, section 2.2)
            self._spend(1)
        return stop

    def _parse(self, part: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = self._parser_class(self)
        try:
            parser.feed_data(part)
        except HttpParserUpgrade:
            self._upgrade = True

    def _find_end(self, data: bytes, at: int) -> int:
        """Return where the head, or the trailers, end in ``data``; -1 if not in there."""
        tail = self._tail
        if tail:
            found = (tail + data[at : at + 3]).find(b"\r\n\r\n")
            if found >= 0:
                return at + found + 4 - len(tail)
        found = data.find(b"\r\n\r\n", at)
        return found + 4 if found >= 0 else -1

    def _begin_body(self) -> None:
        """Set the phase after a head: a chunked body, one of a length, or none."""
        self.head_complete = self._upgrade = False
        self._parser = None  # it would take the body for its own
        if self._chunked:
            self._begin_section(_CHUNK_SIZE)
        elif self._length > 0:
            self._begin_section(_BODY)
            self._left = self._length
        else:
            self.end_message()

    def _begin_section(self, phase: Phase) -> None:
        self.phase = phase
        self._head_bytes = 0
        self._tail = b""

    def end_message(self) -> None:
        """Note that the message has ended."""
        self._begin_section(_HEAD)
        self.begun = self._chunked = False
        self._length = -1

    def _read_chunk_size(self, data: bytes, at: int) -> int:
        """Read the line before a chunk (RFC 9112, section 7.1)."""
        end = data.find(b"\n", at)
        line = data[at : end if end >= 0 else min(len(data), at + MAX_CHUNK_LINE + 1)]
        if self._line:
            line = self._line + line
        if len(line) > MAX_CHUNK_LINE:
            raise HttpParserError("a chunk's size line that is too long")
        if end < 0:
            self._line = line
            return len(data)
        self._line = b""
        self._spend(1)
        digits = line.partition(b";")[0].strip()
        if not digits or len(digits) > _MAX_DIGITS or digits.strip(_HEX_DIGITS):
            raise HttpParserError("a chunk's size that is no number")
        length = int(digits, 16)
        if length:
            self.phase = _BODY
            self._left = length + 2
        else:
            self.phase = _TRAILERS
            self._tail = b"\r\n"
        return end + 1

    def _spend(self, cost: int) -> None:
        self.work += cost
        if self.work > MAX_WORK:
            raise HttpParserError("too many small parts at once")


class RequestReader(Reader):
    """Requests, as httptools calls back."""

    __slots__ = ("_cookie", "_forwarded_for", "_target", "_traceparent", "_user_agent", "_websocket")

    def __init__(self, max_head: int) -> None:
        super().__init__(HttpRequestParser, max_head)
        self._target = self._forwarded_for = self._user_agent = self._traceparent = b""
        self._cookie = bytearray()  # grows in place: many lines cost no more than their bytes
        self._websocket = False

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"upgrade":
                self._websocket |= b"websocket" in value.lower()
            case b"content-length":
                self._length = int(value)
            case b"transfer-encoding":
                self._chunked = True  # llhttp refuses a request whose last coding is another
            case b"x-forwarded-for":  # several lines are one list (RFC 9110, section 5.3), as with cookies
                value = value[:MAX_TEXT]
                before = self._forwarded_for
                self._forwarded_for = (before + b", " + value)[:MAX_TEXT] if before else value
            case b"user-agent":
                self._user_agent = value[:MAX_TEXT]
            case b"traceparent":
                self._traceparent = value[:MAX_TRACEPARENT]
            case b"cookie":
                if self._cookie:
                    self._cookie += b"; "
                self._cookie += value

    def take(self) -> Request:
        """Return the request whose head is complete; its body comes next."""
        request = Request(
            cast(HttpRequestParser, self._parser).get_method(),
            self._target.decode("latin-1"),
            self._upgrade,
            self._websocket,
            self._forwarded_for.decode("latin-1"),
            self._user_agent.decode("latin-1"),
            self._traceparent.decode("latin-1"),
            self._cookie.decode("latin-1"),
        )
        self._target = self._forwarded_for = self._user_agent = self._traceparent = b""
        self._cookie.clear()
        self._websocket = False
        self._begin_body()
        return request


class ResponseReader(Reader):
    """Responses, as httptools calls back."""

    __slots__ = ("_subprotocol",)

    def __init__(self, max_head: int) -> None:
        super().__init__(HttpResponseParser, max_head)
        self._subprotocol = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-length":
                self._length = int(value)
            case b"transfer-encoding":
                self._chunked = value.lower().rstrip().endswith(b"chunked")
                self._length = _UNTIL_CLOSE  # unless it is chunked
            case b"sec-websocket-protocol":
                self._subprotocol = value[:MAX_TEXT]

    def take(self) -> Response:
        """Return the response whose head is complete; its body comes next, unless :meth:`end_message` follows."""
        status = cast(HttpResponseParser, self._parser).get_status_code()
        response = Response(status, self._subprotocol.decode("latin-1"), self._upgrade)
        self._subprotocol = b""
        if status < 200 or status in (204, 304):
            self._length, self._chunked = 0, False
        elif self._length < 0:
            self._length = _UNTIL_CLOSE
        self._begin_body()
        return response
