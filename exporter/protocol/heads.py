"""Heads of requests and responses, read by llhttp (through httptools), one parser a direction.

A reader takes bytes and tells :class:`exporter.protocol.http1.Conversation` of each head, and of each response's end.
Of a head it keeps what we need, and how much it held: one that came in a single segment is complete before anybody
could count its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from httptools import HttpRequestParser, HttpResponseParser

#: Bytes of a head beside what its parser hands out: ": " and the line's end; two spaces, the version and two line ends;
#: the version, a space, the status, a space and two line ends.
_HEADER_LINE, _REQUEST_LINE, _STATUS_LINE = 4, 14, 17

#: A request's headers that tell us something, which most do not.
_TELLING = frozenset({b"upgrade", b"content-length", b"transfer-encoding", b"x-forwarded-for", b"user-agent",
                      b"traceparent", b"cookie"})  # fmt: skip


@dataclass(slots=True)
class Request:
    """A request's head, as far as we need it. Texts are as sent, decoded as Latin-1; empty if absent."""

    method: str = ""
    target: str = ""
    upgrade: bool = False  # asks to switch to any protocol
    websocket: bool = False  # asks to switch to WebSocket
    has_body: bool = False
    forwarded_for: str = ""
    user_agent: str = ""
    traceparent: str = ""
    cookie: str = ""
    answered: bool = False


@dataclass(slots=True)
class Response:
    """A response's head, as far as we need it."""

    status: int = 0
    subprotocol: str = ""
    extensions: str = ""

    @property
    def is_interim(self) -> bool:
        """1xx, which announces the answer; 101 is an answer."""
        return 100 <= self.status < 200 and self.status != 101


class Listening(Protocol):
    """Who is told.

    :ivar max_head: bytes that a head may have.
    """

    @property
    def max_head(self) -> int: ...

    def request_head(self, request: Request) -> None:
        """A request's head is complete."""

    def response_head(self, response: Response) -> bool:
        """A response's head is complete. Returns whether it has no body whatever it says, for it answers a HEAD."""

    def response_done(self, response: Response) -> None:
        """A response is complete, body and all."""

    def head_too_large(self, whose: str) -> None:
        """A head of over ``max_head`` bytes; nothing more will be told of it."""


class Reader:
    """What the two readers share: a parser, and the size of a head.

    ``head_bytes`` counts the bytes fed for an unfinished head (short by those that came in one segment with the message
    before it), ``size`` what the head has held so far; ``begun`` is true inside a message.
    """

    __slots__ = ("begun", "conversation", "head_bytes", "in_head", "parser", "size")

    def __init__(self, conversation: Listening) -> None:
        self.conversation = conversation
        self.renew()

    def start(self) -> None:
        """Nothing of the next message has been read."""
        self.in_head, self.head_bytes, self.size, self.begun = True, 0, 0, False

    def renew(self) -> None:
        """Begin anew, at the start of a message."""
        raise NotImplementedError

    def release(self) -> None:
        """Break the cycle between reader and parser, so that both go at once."""
        self.parser: HttpRequestParser | HttpResponseParser | None = None

    def feed(self, data: bytes) -> None:
        """Parse; raises httptools' errors, HttpParserUpgrade among them."""
        if self.parser is not None:
            if self.in_head:
                self.head_bytes += len(data)
            self.parser.feed_data(data)


class RequestReader(Reader):
    """httptools' callbacks for requests."""

    __slots__ = ("request", "target")

    def renew(self) -> None:
        self.start()
        self.parser = HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.request = Request()
        self.target = b""
        self.in_head = self.begun = True

    def on_url(self, part: bytes) -> None:
        self.target += part
        self.size += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self.request
        self.size += len(name) + len(value) + _HEADER_LINE
        name = name.lower()
        if name not in _TELLING:
            return
        match name:
            case b"upgrade":
                request.websocket |= b"websocket" in value.lower()
            case b"content-length":
                request.has_body |= value.strip() != b"0"
            case b"transfer-encoding":
                request.has_body = True
            case b"x-forwarded-for":
                request.forwarded_for = _joined(request.forwarded_for, ", ", value)  # a proxy may add its own line
            case b"user-agent":
                request.user_agent = value.decode("latin-1")
            case b"traceparent":
                request.traceparent = value.decode("latin-1")
            case b"cookie":
                request.cookie = _joined(request.cookie, "; ", value)

    def on_headers_complete(self) -> None:
        parser, request = self.parser, self.request
        assert isinstance(parser, HttpRequestParser)
        self.in_head, self.head_bytes = False, 0
        request.method = parser.get_method().decode("latin-1")
        if self.size + len(request.method) + _REQUEST_LINE > self.conversation.max_head:
            self.conversation.head_too_large("request")
            return
        request.target = self.target.decode("latin-1")
        request.upgrade = parser.should_upgrade()
        request.websocket &= request.upgrade
        self.conversation.request_head(request)

    def on_message_complete(self) -> None:
        self.start()


class ResponseReader(Reader):
    """httptools' callbacks for responses."""

    __slots__ = ("response", "skip_body")

    def renew(self) -> None:
        self.start()
        self.skip_body = False
        self.parser = HttpResponseParser(self)

    def renew_after_head(self) -> None:
        """If the head just read answers a HEAD, its message ends here."""
        if self.skip_body:
            done = self.response
            self.renew()
            self.conversation.response_done(done)

    def on_message_begin(self) -> None:
        self.response = Response()
        self.in_head = self.begun = True

    def on_status(self, reason: bytes) -> None:
        self.size += len(reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.size += len(name) + len(value) + _HEADER_LINE
        match name.lower():
            case b"sec-websocket-protocol":
                self.response.subprotocol = value.decode("latin-1")
            case b"sec-websocket-extensions":
                self.response.extensions = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert isinstance(self.parser, HttpResponseParser)
        self.in_head, self.head_bytes = False, 0
        if self.size + _STATUS_LINE > self.conversation.max_head:
            self.conversation.head_too_large("response")
            return
        self.response.status = self.parser.get_status_code()
        self.skip_body = self.conversation.response_head(self.response)

    def on_message_complete(self) -> None:
        self.start()
        if not self.skip_body and not self.parser_upgraded():
            self.conversation.response_done(self.response)

    def parser_upgraded(self) -> bool:
        """Whether this is a 101 with the headers of an upgrade: llhttp then stops right behind it."""
        assert isinstance(self.parser, HttpResponseParser)
        return self.response.status == 101 and self.parser.should_upgrade()


def _joined(lines: str, separator: str, line: bytes) -> str:
    """A header of several lines is one with their values in order (RFC 9110, section 5.3)."""
    value = line.decode("latin-1")
    return f"{lines}{separator}{value}" if lines else value
