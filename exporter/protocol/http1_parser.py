"""Heads of requests and responses, read by llhttp (through httptools), one parser a direction.

A reader takes bytes and tells :class:`exporter.protocol.http1.HandshakeTracker` of each head, and of each response's
end. Of a head it keeps what we need, and how much it held: one that came in a single segment is complete before anybody
could count its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from httptools import HttpParserUpgrade, HttpRequestParser, HttpResponseParser
from mypy_extensions import mypyc_attr

#: Bytes of a head beside what its parser hands out: ": " and the line's end; two spaces, the version and two line ends;
#: the version, a space, the status, a space and two line ends.
_HEADER_LINE: Final = 4
_REQUEST_LINE: Final = 14
_STATUS_LINE: Final = 17

#: A request's headers that tell us something, which most do not.
_TELLING: Final = frozenset({b"upgrade", b"content-length", b"transfer-encoding", b"x-forwarded-for", b"user-agent",
                      b"traceparent", b"cookie"})  # fmt: skip
#: How long their names are: most of the others are seen by that, without a copy of the name in lower case.
_LENGTHS: Final = frozenset(map(len, _TELLING))
#: A response tells us by two headers only: the length of the shorter name.
_SHORTEST: Final = len(b"sec-websocket-protocol")


# What a dataclass makes for __init__ is never compiled: where a connection would feel it there is one of ours.


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Request:
    """A request's head, as far as we need it. Texts are as sent, decoded as Latin-1; empty if absent."""

    method: str
    target: str
    upgrade: bool  # asks to switch to any protocol
    websocket: bool  # asks to switch to WebSocket
    has_body: bool
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
        self.has_body = self.answered = False
        self.forwarded_for = forwarded_for
        self.user_agent = user_agent
        self.traceparent = traceparent
        self.cookie = cookie


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Response:
    """A response's head, as far as we need it."""

    status: int
    subprotocol: str
    extensions: str

    def __init__(self, status: int, subprotocol: str = "", extensions: str = "") -> None:
        self.status = status
        self.subprotocol = subprotocol
        self.extensions = extensions

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
    before it), ``size`` what the head has held so far; ``in_head`` is false inside a body. A conversation that is over
    deletes ``parser``, which breaks the cycle between the two; nothing can be fed then.

    Both readers have a ``renew`` and a ``feed`` of their own: the interpreter is quick where it meets objects of one
    class only. ``feed`` is short because what an exception costs grows with the function that it passes through.
    """

    __slots__ = ("conversation", "head_bytes", "in_head", "parser", "size")

    #: What httptools would call as well; it is quicker to find None than to find nothing.
    on_body = None
    on_chunk_header = None
    on_chunk_complete = None

    __deletable__ = ("parser",)

    parser: HttpRequestParser | HttpResponseParser


class RequestReader(Reader):
    """httptools' callbacks for requests. ``begun`` is true inside a message."""

    __slots__ = ("begun", "request", "target")

    parser: HttpRequestParser

    def __init__(self, conversation: Listening) -> None:
        self.conversation = conversation
        self.renew()

    def renew(self) -> None:
        """Begin anew, at the start of a message."""
        self.head_bytes = 0
        self.in_head = True
        self.begun = False
        self.parser = HttpRequestParser(self)

    def feed(self, data: bytes) -> int:
        """Parse. Returns where a request to upgrade ends, with which llhttp stops, or -1. Raises HttpParserError."""
        if self.in_head:
            self.head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as switch:
            end: int = switch.args[0]
            return end
        return -1

    def on_message_begin(self) -> None:
        self.request = Request()
        self.target = b""
        self.size = 0
        self.begun = True

    def on_url(self, unlink: bytes) -> None:
        self.target += unlink

    def on_header(self, name: bytes, value: bytes) -> None:
        self.size += len(name) + len(value) + _HEADER_LINE
        if len(name) not in _LENGTHS or (name := name.lower()) not in _TELLING:
            return
        request = self.request
        match name:
            case b"upgrade":
                # Not by `in`, which takes bytes for a number first, and makes an exception of it: 1,600 instructions.
                request.websocket |= value.lower().find(b"websocket") >= 0
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
        parser, request, target = self.parser, self.request, self.target
        self.in_head, self.head_bytes = False, 0
        method = parser.get_method()
        if self.size + len(method) + len(target) + _REQUEST_LINE > self.conversation.max_head:
            self.conversation.head_too_large("request")
            return
        request.method = method.decode()
        request.target = target.decode("latin-1")
        request.upgrade = upgrade = parser.should_upgrade()
        request.websocket &= upgrade
        self.conversation.request_head(request)

    def on_message_complete(self) -> None:
        self.in_head, self.begun = True, False


class ResponseReader(Reader):
    """httptools' callbacks for responses."""

    __slots__ = ("extensions", "response", "skip_body", "subprotocol")

    parser: HttpResponseParser
    on_message_begin = None

    def __init__(self, conversation: Listening) -> None:
        self.conversation = conversation
        self.renew()

    def renew(self) -> None:
        """Begin anew, at the start of a message."""
        self.head_bytes = 0
        self.skip_body = False
        self.in_head = True
        self.size = 0
        self.subprotocol = self.extensions = ""
        self.parser = HttpResponseParser(self)

    def renew_after_head(self) -> None:
        """If the head just read answers a HEAD, its message ends here."""
        if self.skip_body:
            done = self.response
            self.renew()
            self.conversation.response_done(done)

    def feed(self, data: bytes) -> int:
        """Parse. Returns where a 101 ends, with which llhttp stops, or -1. Raises HttpParserError."""
        if self.in_head:
            self.head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as switch:
            end: int = switch.args[0]
            return end
        return -1

    def on_status(self, reason: bytes) -> None:
        self.size += len(reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.size += len(name) + len(value) + _HEADER_LINE
        if len(name) < _SHORTEST:
            return
        name = name.lower()
        if name == b"sec-websocket-protocol":
            self.subprotocol = value.decode("latin-1")
        elif name == b"sec-websocket-extensions":
            self.extensions = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.in_head, self.head_bytes = False, 0
        if self.size + _STATUS_LINE > self.conversation.max_head:
            self.conversation.head_too_large("response")
            return
        self.response = Response(self.parser.get_status_code(), self.subprotocol, self.extensions)
        self.skip_body = self.conversation.response_head(self.response)

    def on_message_complete(self) -> None:
        self.in_head = True
        self.size = 0
        self.subprotocol = self.extensions = ""
        if not self.skip_body and (self.response.status != 101 or not self.parser.should_upgrade()):
            self.conversation.response_done(self.response)


def _joined(lines: str, separator: str, line: bytes) -> str:
    """A header of several lines is one with their values in order (RFC 9110, section 5.3)."""
    value = line.decode("latin-1")
    return f"{lines}{separator}{value}" if lines else value
