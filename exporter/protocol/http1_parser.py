"""Messages of HTTP/1.1 in one direction: heads are parsed by llhttp (through httptools), bodies are skipped.

    HEAD ──── empty line ────► LENGTH ─── n bytes ──────────────────────────────────┐
     ▲ │                       CHUNK_SIZE ◄──► CHUNK_DATA                           │
     │ │                           └─ size 0 ──► TRAILERS ── empty line ────────────┤
     │ └─ no body ─┐           UNTIL_CLOSE                                          │
     └─────────────┴────────────────────────────────────────────────────────────────┘

A reader passes llhttp the bytes of one head and no more, and skips the body itself: so a HEAD's answer has none, a
request to upgrade ends where it ends, and heads and trailers are measured as their bytes come, however they are cut.
Of a head only the texts that :mod:`exporter.protocol.http1` reports are kept, each cut to its limit; of trailers
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from httptools import HttpParserError, HttpRequestParser, HttpResponseParser
from mypy_extensions import mypyc_attr

from exporter.protocol.llhttp import feed

#: Bytes of X-Forwarded-For, User-Agent and Sec-WebSocket-Protocol that are kept.
MAX_TEXT: Final = 1024
#: Bytes of traceparent that are kept: W3C Trace Context's version 00 has 55.
MAX_TRACEPARENT: Final = 128
#: Bytes of a chunk's size line, extensions included (RFC 9112, section 7.1.1: a recipient should limit them).
MAX_CHUNK_LINE: Final = 4096
#: Work that one call may cost: a chunk counts 1, a head :data:`_HEAD_COST`.
MAX_WORK: Final = 4096
_HEAD_COST: Final = 16

#: Readers that are kept for connections to come, of each kind.
MAX_SPARE: Final = 16

_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"
#: Hexadecimal digits of a chunk's size at most: more is no length that exists.
_MAX_DIGITS: Final = 15


class Phase(IntEnum):
    """Where in a message a direction stands; see the diagram."""

    HEAD = 0
    LENGTH = 1
    CHUNK_SIZE = 2
    CHUNK_DATA = 3
    TRAILERS = 4
    UNTIL_CLOSE = 5


_HEAD: Final = Phase.HEAD
_CHUNK_SIZE: Final = Phase.CHUNK_SIZE
_CHUNK_DATA: Final = Phase.CHUNK_DATA
_TRAILERS: Final = Phase.TRAILERS
_UNTIL_CLOSE: Final = Phase.UNTIL_CLOSE
_LENGTH: Final = Phase.LENGTH


# A dataclass's own __init__ is never compiled: these have one of their own.


@mypyc_attr(free_list_len=1, acyclic=True)
@dataclass(slots=True, init=False)
class Request:
    """The head of a request to upgrade. Texts are as sent, decoded as Latin-1; empty if absent.

    :ivar websocket: it asks to switch to WebSocket.
    :ivar answered: its answer has been reported.
    """

    method: str
    target: str
    upgrade: bool
    websocket: bool
    forwarded_for: str
    user_agent: str
    traceparent: str
    cookie: str
    answered: bool

    def __init__(
        self,
        method: str = "",
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
@dataclass(slots=True, init=False)
class Response:
    """A response's head. ``upgrade``: it is a 101 that switches protocols."""

    status: int
    subprotocol: str
    upgrade: bool

    def __init__(self, status: int, subprotocol: str = "", upgrade: bool = False) -> None:
        self.status = status
        self.subprotocol = subprotocol
        self.upgrade = upgrade

    @property
    def is_interim(self) -> bool:
        """1xx, which announces the answer; 101 is an answer."""
        return 100 <= self.status < 200 and self.status != 101


class Tracker:
    """Gets the messages of both readers.

    :ivar max_head: bytes that a head, or a body's trailers, may have.
    """

    __slots__ = ("max_head",)

    max_head: int

    def request_head(self, is_head: bool, upgrade: Request | None) -> None:
        """Handle a request's head: whether its method is HEAD, and the request if it asks to upgrade."""
        raise NotImplementedError

    def response_head(self, response: Response) -> bool:
        """Handle a response's head. Returns whether it answers a HEAD, and so has no body."""
        raise NotImplementedError

    def response_done(self) -> None:
        """Handle the end of a response."""
        raise NotImplementedError

    def head_too_large(self, message: str) -> None:
        """Handle a head, or trailers, of over ``max_head`` bytes; nothing more comes of it."""
        raise NotImplementedError


class Reader:
    """Messages of one direction: see :class:`RequestReader` and :class:`ResponseReader`.

    :ivar phase: where in a message the direction stands.
    :ivar head_bytes: bytes of the head, or of the trailers, that is being read.
    :ivar begun: a message has begun.
    :ivar work: the cost of the current call so far.
    """

    __slots__ = ("_chunked", "_complete", "_left", "_line", "_reusable", "_tail", "begun", "head_bytes", "phase",
                 "tracker", "work")  # fmt: skip

    #: Other callbacks of httptools; it finds None faster than no attribute.
    on_body = None
    on_chunk_header = None
    on_chunk_complete = None
    on_message_complete = None

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.phase = _HEAD
        self.head_bytes = 0
        self.begun = False
        self.work = 0
        self._left = 0  # bytes of the body, or of the chunk and its line end
        self._line = b""  # the beginning of a chunk's size line
        self._tail = b""  # the last bytes of an incomplete head
        self._chunked = False
        self._complete = False  # llhttp saw the end of the head
        self._reusable = False  # the parser can begin another head

    def release(self) -> None:
        """Let go of the parser, so that no cycle is left to the garbage collector."""
        raise NotImplementedError

    @property
    def is_reusable(self) -> bool:
        """Whether a head has been read to its end, and the parser can begin another one."""
        return self._reusable and self.phase is _HEAD and not self.head_bytes

    def _feed_parser(self, data: bytes) -> None:
        raise NotImplementedError

    def _head_complete(self) -> None:
        """Report the head that is complete, and set the phase of its body."""
        raise NotImplementedError

    def _message_complete(self) -> None:
        raise NotImplementedError

    def on_headers_complete(self) -> None:
        self._complete = True

    def feed(self, data: bytes, at: int) -> int:
        """Read ``data`` from ``at`` on, to the end of a head, of a body, or of ``data``. Returns where that is.

        Raises HttpParserError for bytes that are no HTTP/1.1.
        """
        phase = self.phase
        if phase is _HEAD:
            return self._read_head(data, at)
        if phase is _LENGTH:
            return self._skip(data, at)
        return len(data) if phase is _UNTIL_CLOSE else self._read_chunks(data, at)

    def _read_head(self, data: bytes, at: int) -> int:
        end = self._find_end(data, at)
        stop = min(len(data) if end < 0 else end, at + self.tracker.max_head - self.head_bytes + 1)
        part = data[at:stop]
        self.head_bytes += stop - at
        self._feed_parser(part)
        if self.head_bytes > self.tracker.max_head:
            self.tracker.head_too_large(f"a {self.name}'s head")
        elif self._complete:
            self._spend(_HEAD_COST)
            self._begin_message()
            self._head_complete()
        elif end < 0:
            self._tail = (self._tail + part[-3:])[-3:]
        else:
            self._tail = b""  # empty lines before a message (RFC 9112, section 2.2)
            self._spend(1)
        return stop

    @property
    def name(self) -> str:
        """The kind of message: request or response."""
        raise NotImplementedError

    def _begin_message(self) -> None:
        self.head_bytes = 0
        self._tail = b""
        self._complete = False

    def _find_end(self, data: bytes, at: int) -> int:
        """Return where the head, or the trailers, end in ``data``; -1 if not in there."""
        tail = self._tail
        if tail:
            found = (tail + data[at : at + 3]).find(b"\r\n\r\n")
            if found >= 0:
                return at + found + 4 - len(tail)
        found = data.find(b"\r\n\r\n", at)
        return found + 4 if found >= 0 else -1

    def _begin_body(self, length: int) -> None:
        """Set the phase after a head: a chunked body, or one of ``length`` bytes."""
        if self._chunked:
            self.phase = _CHUNK_SIZE
        elif length:
            self.phase = _LENGTH
            self._left = length
        else:
            self._end_body()

    def _end_body(self) -> None:
        self.phase = _HEAD
        self.begun = False
        self._message_complete()

    def _skip(self, data: bytes, at: int) -> int:
        size = len(data) - at
        if size < self._left:
            self._left -= size
            return len(data)
        at += self._left
        self._end_body()
        return at

    def _read_chunks(self, data: bytes, at: int) -> int:
        """Read the chunks of a body (RFC 9112, section 7.1), as far as its end."""
        size = len(data)
        while at < size:
            if self.phase is _TRAILERS:
                return self._read_trailers(data, at)
            if self.phase is _CHUNK_DATA:
                left = self._left
                if size - at < left:
                    self._left = left - (size - at)
                    return size
                at += left
                self.phase = _CHUNK_SIZE
                continue
            end = data.find(b"\n", at)
            line = data[at : end if end >= 0 else min(size, at + MAX_CHUNK_LINE + 1)]
            if self._line:
                line = self._line + line
            if len(line) > MAX_CHUNK_LINE:
                raise HttpParserError("a chunk's size line that is too long")
            if end < 0:
                self._line = line
                return size
            self._line = b""
            self._spend(1)
            digits = line.partition(b";")[0].strip()
            if not digits or len(digits) > _MAX_DIGITS or digits.strip(_HEX_DIGITS):
                raise HttpParserError("a chunk's size that is no number")
            at = end + 1
            length = int(digits, 16)
            if length:
                self._left = length + 2
                self.phase = _CHUNK_DATA
            else:
                self._tail = b"\r\n"
                self.phase = _TRAILERS
        return at

    def _read_trailers(self, data: bytes, at: int) -> int:
        end = self._find_end(data, at)
        stop = len(data) if end < 0 else end
        self.head_bytes += stop - at
        if self.head_bytes > self.tracker.max_head:
            self.tracker.head_too_large(f"a {self.name}'s trailers")
        elif end < 0:
            self._tail = (self._tail + data[max(at, stop - 3) : stop])[-3:]
        else:
            self._begin_message()
            self._end_body()
        return stop

    def _spend(self, cost: int) -> None:
        self.work += cost
        if self.work > MAX_WORK:
            raise HttpParserError("too many small parts at once")


class RequestReader(Reader):
    """Requests, as httptools calls back."""

    __slots__ = ("_cookie", "_forwarded_for", "_length", "_parser", "_target", "_traceparent", "_user_agent",
                 "_websocket")  # fmt: skip

    def __init__(self, tracker: Tracker) -> None:
        super().__init__(tracker)
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
        self._target = b""
        self._cookie: bytes | bytearray = b""
        self._forwarded_for = self._user_agent = self._traceparent = b""
        self._websocket = False
        self._length = 0

    @property
    def name(self) -> str:
        """The kind of message."""
        return "request"

    def release(self) -> None:
        self._parser = None
        self._target = self._cookie = self._line = b""

    def _feed_parser(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = HttpRequestParser(self)
        self._reusable = feed(parser, data)

    def on_message_begin(self) -> None:
        self.begun = True

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) not in (6, 7, 10, 11, 14, 15, 17):  # of those below: most others need no copy in lower case
            return
        match name.lower():
            case b"upgrade":
                # Not by `in`, which takes bytes for a number first, and makes an exception of it.
                self._websocket |= value.lower().find(b"websocket") >= 0
            case b"content-length":
                self._length = int(value)
            case b"transfer-encoding":
                self._chunked = True  # llhttp refuses a request whose last coding is another
            case b"x-forwarded-for":
                self._forwarded_for = _join(self._forwarded_for, b", ", value[:MAX_TEXT])[:MAX_TEXT]
            case b"user-agent":
                self._user_agent = value[:MAX_TEXT]
            case b"traceparent":
                self._traceparent = value[:MAX_TRACEPARENT]
            case b"cookie":
                self._add_cookie(value)

    def _add_cookie(self, value: bytes) -> None:
        """Add a line of cookies; several lines are one list (RFC 9110, section 5.3)."""
        cookie = self._cookie
        if not cookie:
            self._cookie = value
            return
        if not isinstance(cookie, bytearray):
            cookie = self._cookie = bytearray(cookie)  # grows in place: many lines cost no more than their bytes
        cookie += b"; "
        cookie += value

    def _head_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        method = parser.get_method()
        upgrade = None
        if parser.should_upgrade():
            upgrade = Request(
                method.decode(),
                self._target.decode("latin-1"),
                True,
                self._websocket,
                _text(self._forwarded_for),
                _text(self._user_agent),
                _text(self._traceparent),
                _text(self._cookie),
            )
        length = self._length
        if not self._reusable:
            self._parser = None
        self._target = self._cookie = self._forwarded_for = self._user_agent = self._traceparent = b""
        self._websocket = False
        self._length = 0
        self._begin_body(length)
        self._chunked = False
        self.tracker.request_head(method == b"HEAD", upgrade)

    def _message_complete(self) -> None:
        return


class ResponseReader(Reader):
    """Responses, as httptools calls back."""

    __slots__ = ("_length", "_parser", "_subprotocol", "_until_close")

    on_message_begin = None
    on_status = None

    def __init__(self, tracker: Tracker) -> None:
        super().__init__(tracker)
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._subprotocol = b""
        self._length = -1
        self._until_close = False

    @property
    def name(self) -> str:
        """The kind of message."""
        return "response"

    def release(self) -> None:
        self._parser = None
        self._line = b""

    def _feed_parser(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = HttpResponseParser(self)
        self._reusable = feed(parser, data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) not in (14, 17, 22):
            return
        match name.lower():
            case b"content-length":
                self._length = int(value)
            case b"transfer-encoding":
                self._chunked = value.lower().rstrip().endswith(b"chunked")
                self._until_close = not self._chunked
            case b"sec-websocket-protocol":
                self._subprotocol = value[:MAX_TEXT]

    def _head_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        response = Response(status, _text(self._subprotocol), status == 101 and parser.should_upgrade())
        length, until_close, chunked = self._length, self._until_close, self._chunked
        if not self._reusable:
            self._parser = None
        self._subprotocol = b""
        self._length = -1
        self._until_close = self._chunked = False
        if self.tracker.response_head(response) or status < 200 or status in (204, 304):
            self._end_body()
        elif until_close or (length < 0 and not chunked):
            self.phase = _UNTIL_CLOSE
        else:
            self._chunked = chunked
            self._begin_body(length)
            self._chunked = False

    def _message_complete(self) -> None:
        self.tracker.response_done()


# A parser costs as much as it takes to read a head: those that stand before another head go from one connection to the
# next, with their readers.
_spare_requests: Final[list[RequestReader]] = []
_spare_responses: Final[list[ResponseReader]] = []
_NO_TRACKER: Final = Tracker()


def take_readers(tracker: Tracker) -> tuple[RequestReader, ResponseReader]:
    """Return the readers for a new connection."""
    requests = _spare_requests.pop() if _spare_requests else RequestReader(_NO_TRACKER)
    responses = _spare_responses.pop() if _spare_responses else ResponseReader(_NO_TRACKER)
    requests.tracker = responses.tracker = tracker
    return requests, responses


def put_back(requests: RequestReader, responses: ResponseReader) -> None:
    """Keep the readers of a connection that is upgraded for another one."""
    requests.tracker = responses.tracker = _NO_TRACKER
    if requests.is_reusable and len(_spare_requests) < MAX_SPARE:
        _spare_requests.append(requests)
    if responses.is_reusable and len(_spare_responses) < MAX_SPARE:
        _spare_responses.append(responses)


def _text(value: bytes | bytearray) -> str:
    return value.decode("latin-1") if value else ""  # most are absent


def _join(lines: bytes, separator: bytes, line: bytes) -> bytes:
    """Return the value of a header with several lines (RFC 9110, section 5.3)."""
    return lines + separator + line if lines else line
