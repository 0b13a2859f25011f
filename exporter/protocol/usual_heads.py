"""The usual heads of an opening handshake, read line by line; llhttp reads all others.

Nearly every session opens with a request and an answer of the plainest form, each whole in one read: ASCII, no body, no
header of interest twice. With llhttp, whose callbacks get each header, such a head takes three times the instructions.
Lines that begin no header of interest are not examined.
"""

from __future__ import annotations

from typing import Final

from exporter.protocol.http1_parser import MAX_TEXT, MAX_TRACEPARENT, Request, Response

#: Bytes of a usual head at most.
MAX_USUAL: Final = 4096

_END: Final = b"\r\n\r\n"
#: Headers of a head with a body, or of one that asks for more than WebSocket.
_UNUSUAL: Final = frozenset((b"connection", b"upgrade", b"content-length", b"transfer-encoding"))


def _begins(letters: bytes) -> bytes:
    return bytes(letter in letters for letter in range(256))


# By a line's first byte, whether it may be a header of interest.
_OF_REQUEST: Final = _begins(b"CcTtUuXx")
_OF_ANSWER: Final = _begins(b"CcSsTtUu")


def usual_request(data: bytes) -> Request | None:
    """Return the request for WebSocket that ``data`` is; None if it is not one of the usual form, to its end."""
    if not data.startswith(b"GET /") or (headers := _upgrade(data, _OF_REQUEST)) is None:
        return None
    end = data.find(b" ", 4)
    if not data.startswith(b" HTTP/1.1\r\n", end):
        return None
    request = Request(b"GET", data[4:end].decode(), True, True)
    if headers:
        request.forwarded_for = headers.get(b"x-forwarded-for", b"")[:MAX_TEXT].decode()
        request.user_agent = headers.get(b"user-agent", b"")[:MAX_TEXT].decode()
        request.traceparent = headers.get(b"traceparent", b"")[:MAX_TRACEPARENT].decode()
        request.cookie = headers.get(b"cookie", b"").decode()
    return request


def usual_answer(data: bytes) -> tuple[Response, int] | None:
    """Return the 101 with which ``data`` begins, and where it ends; None if that has not the usual form."""
    if not data.startswith(b"HTTP/1.1 101 "):
        return None
    end = len(data) if data.endswith(_END) else data.find(_END) + len(_END)
    headers = _upgrade(data[:end], _OF_ANSWER)
    if headers is None:
        return None
    return Response(101, headers.get(b"sec-websocket-protocol", b"")[:MAX_TEXT].decode(), True), end


def _upgrade(head: bytes, of_interest: bytes) -> dict[bytes, bytes] | None:
    """Return other headers of interest, by name, of an upgrade to WebSocket; None for any other head."""
    if len(head) > MAX_USUAL or not head.isascii() or not head.endswith(_END):
        return None
    lines: list[bytes] = head.split(b"\r\n")
    headers: dict[bytes, bytes] = {}
    upgrade = connection = False
    for at in range(1, len(lines) - 2):
        line = lines[at]
        if not line or line[0] <= 32:  # another head follows, or the line continues the one before
            return None
        if not of_interest[line[0]]:
            continue
        lower = line.lower()
        if lower == b"upgrade: websocket":
            upgrade = True
        elif lower == b"connection: upgrade" or lower == b"connection: keep-alive, upgrade":
            connection = True
        elif not lower.startswith(b"sec-websocket-accept:"):
            name = lower[: line.find(b":")]
            if name in headers:
                return None
            headers[name] = line[len(name) + 1 :].strip(b" \t")
    if not upgrade or not connection or (headers and not _UNUSUAL.isdisjoint(headers)):
        return None
    return headers
