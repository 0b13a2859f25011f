"""The usual heads of an opening handshake, read by regular expressions; llhttp reads all others.

Nearly every session opens with a request and an answer of the plainest form, each whole in one read: printable ASCII,
no body, no header of interest twice. Such a head means the same to every parser, and is read here in a third of the
instructions.
"""

from __future__ import annotations

import re
from typing import Final

from exporter.protocol.http1_parser import MAX_TEXT, MAX_TRACEPARENT, Request, Response

#: Bytes of a usual head at most.
MAX_USUAL: Final = 4096

_HEADERS = rb"(?:[-\w]+: [ -~]*\r\n)+\r\n"
_request: Final = re.compile(rb"GET (/[-\w./?=&%~+,:;@!$'()*]*) HTTP/1\.1\r\n" + _HEADERS).fullmatch
_answer: Final = re.compile(rb"HTTP/1\.1 101 [ -~]*\r\n" + _HEADERS).match
_of_interest: Final = re.compile(
    rb"\n(?i:(connection|upgrade|content-length|transfer-encoding|x-forwarded-for|user-agent|traceparent|cookie|"
    rb"sec-websocket-protocol)): ([ -~]*)"
).findall
_UPGRADE: Final = (b"upgrade", b"keep-alive, upgrade")


def usual_request(data: bytes) -> Request | None:
    """Return the request to upgrade that ``data`` is; None if it is not one of the usual form, to its end."""
    if len(data) > MAX_USUAL or (match := _request(data)) is None or (headers := _upgrade_headers(data)) is None:
        return None
    return Request(
        b"GET",
        match[1].decode(),
        True,
        headers[b"upgrade"].lower().find(b"websocket") >= 0,
        headers.get(b"x-forwarded-for", b"")[:MAX_TEXT].decode(),
        headers.get(b"user-agent", b"")[:MAX_TEXT].decode(),
        headers.get(b"traceparent", b"")[:MAX_TRACEPARENT].decode(),
        headers.get(b"cookie", b"").decode(),
    )


def usual_answer(data: bytes) -> tuple[Response, int] | None:
    """Return the 101 with which ``data`` begins, and where it ends; None if that has not the usual form."""
    match = _answer(data[:MAX_USUAL])
    if match is None or (headers := _upgrade_headers(match[0])) is None:
        return None
    return Response(101, headers.get(b"sec-websocket-protocol", b"")[:MAX_TEXT].decode(), True), match.end()


def _upgrade_headers(head: bytes) -> dict[bytes, bytes] | None:
    """Return the headers of interest of an upgrade without a body, by name; None for any other head."""
    lines = _of_interest(head)
    headers: dict[bytes, bytes] = {name.lower(): value.strip() for name, value in lines}
    if len(headers) != len(lines) or b"content-length" in headers or b"transfer-encoding" in headers:
        return None
    if b"upgrade" not in headers or headers.get(b"connection", b"").lower() not in _UPGRADE:
        return None
    return headers
