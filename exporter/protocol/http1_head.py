"""Heads of HTTP/1.1 messages: their parts that are kept, and a quick reader of the usual ones of an upgrade.

Nearly every opening handshake has a request and a response of one shape: whole, in one chunk, without a body. Such a
head is split into lines here, and the few headers that matter are read. A head of another shape is left to llhttp
(:mod:`exporter.protocol.http1_parser`); of one that llhttp accepts both return the same. Of the others llhttp refuses
those with a byte or a line that is no HTTP, the quick reader only those whose length could be read in two ways: the app
decides, which gets the bytes in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mypy_extensions import i64, mypyc_attr

#: Bytes of X-Forwarded-For, User-Agent and Sec-WebSocket-Protocol that are kept.
MAX_TEXT: Final = 1024
#: Bytes of traceparent that are kept: W3C Trace Context's version 00 has 55.
MAX_TRACEPARENT: Final = 128


# A dataclass's own __init__ is never compiled: these have one of their own.


@mypyc_attr(acyclic=True)
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


@mypyc_attr(acyclic=True)
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


_CR: Final = ord("\r")
_LF: Final = ord("\n")
_SPACE: Final = ord(" ")
_TAB: Final = ord("\t")
_COLON: Final = ord(":")
#: By the first byte of a line: 1 for headers that are read, 2 for the continuation of the line before.
_FIRST: Final = bytes(1 if byte in b"CcPpSsTtUuXx" else 2 if byte in b" \t\r\n" else 0 for byte in range(256))
#: Lengths of the names that are read.
_LENGTHS: Final = bytes(length in {6, 7, 10, 11, 14, 15, 16, 17, 22} for length in range(64))
_GET: Final = b"GET /"
#: Bytes of a head that is split into lines at once: as objects, lines of two bytes take thirty times as much.
_MAX_SIZE: Final = 4096
_VERSION: Final = b" HTTP/1.1\r\n"
_SWITCH: Final = b"HTTP/1.1 101"


def read_upgrade(head: bytes) -> Request | None:
    """Return the request to upgrade that ``head`` is, as a whole; None if it is another one, or of unusual shape."""
    if head[:5] != _GET or len(head) > _MAX_SIZE:
        return None
    headers = _Headers()
    line = headers.read(head)
    size = len(line)
    if size < 16 or line[size - 11 :] != _VERSION:
        return None
    target = line[4 : size - 11].decode("latin-1")
    if " " in target or "#" in target or not target.isascii() or not target.isprintable():
        return None
    upgrade = headers.upgrade
    websocket = upgrade == b"websocket" or upgrade.lower().find(b"websocket") >= 0
    return Request(
        "GET", target, True, websocket, to_text(headers.forwarded_for),
        to_text(headers.user_agent), to_text(headers.traceparent), to_text(headers.cookie),
    )  # fmt: skip


def read_switch(head: bytes) -> Response | None:
    """Return the 101 that ``head`` is, as a whole; None if it is another response, or of unusual shape."""
    if head[:12] != _SWITCH or len(head) > _MAX_SIZE:
        return None
    headers = _Headers()
    line = headers.read(head)
    if not line or (line[12] != _SPACE and line[12] != _CR):
        return None
    return Response(101, to_text(headers.subprotocol), True)


@mypyc_attr(free_list_len=1, acyclic=True)
class _Headers:
    """The headers of a message that upgrades."""

    __slots__ = ("connection", "cookie", "forwarded_for", "subprotocol", "traceparent", "upgrade", "user_agent")

    def __init__(self) -> None:
        self.connection = self.upgrade = self.forwarded_for = self.user_agent = b""
        self.traceparent = self.cookie = self.subprotocol = b""

    def read(self, head: bytes) -> bytes:
        """Read a head as a whole. Returns its first line; an empty one if the head is of unusual shape."""
        lines = head.splitlines(True)
        last = len(lines) - 1
        if last < 1 or lines[last] != b"\r\n":
            return b""
        for index in range(last):
            line = lines[index]
            size: i64 = len(line)
            if size < 2 or line[size - 2] != _CR or line[size - 1] != _LF:
                return b""
            if (kind := _FIRST[line[0]]) and (kind > 1 or (index and not self._read_line(line))):
                return b""
        connection = self.connection
        usual = connection == b"Upgrade" or connection.lower() in _USUAL_CONNECTIONS
        return lines[0] if usual and self.upgrade else b""

    def _read_line(self, line: bytes) -> bool:
        """Read one header. Return whether it is a usual one."""
        size: i64 = 0
        end: i64 = len(line) - 2
        while size < end and line[size] != _COLON:
            size += 1
        if size == end or size >= len(_LENGTHS) or not _LENGTHS[size]:
            return True
        start: i64 = size + 1
        while start < end and (line[start] == _SPACE or line[start] == _TAB):
            start += 1
        value = line[start:end]
        name = line[:size].lower()
        if name == b"upgrade":
            known, self.upgrade = self.upgrade, value
            return not known and bool(value)
        if name == b"connection":
            known, self.connection = self.connection, value
            return not known
        if name == b"user-agent":
            self.user_agent = value[:MAX_TEXT]
        elif name == b"cookie":
            known, self.cookie = self.cookie, value
            return not known  # several lines are slow to join
        elif name == b"x-forwarded-for":
            self.forwarded_for = add_line(self.forwarded_for, value)
        elif name == b"traceparent":
            self.traceparent = value[:MAX_TRACEPARENT]
        elif name == b"sec-websocket-protocol":
            self.subprotocol = value[:MAX_TEXT]
        else:
            return name not in _UNUSUAL
        return True


#: Headers that announce a body, or are as good as Connection to llhttp.
_USUAL_CONNECTIONS: Final = frozenset((b"upgrade", b"keep-alive, upgrade"))
_UNUSUAL: Final = frozenset((b"content-length", b"transfer-encoding", b"proxy-connection"))


def to_text(value: bytes | bytearray) -> str:
    """Return a header's value as text."""
    return value.decode("latin-1") if value else ""  # most are absent


def add_line(value: bytes, line: bytes) -> bytes:
    """Return the value of a header with another line, cut to its limit (RFC 9110, section 5.3)."""
    return (value + b", " + line if value else line)[:MAX_TEXT]
