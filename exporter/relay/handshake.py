"""The record of a session as it opens: what its opening handshake shows."""

from __future__ import annotations

import re
from sys import intern
from typing import Final

from exporter.protocol.http1_parser import Request, Response
from exporter.protocol.record import MAX_FORWARDED_FOR, MAX_PATH, PeerRecord, SessionRecord

#: W3C Trace Context, section 3.2.
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
#: Of a peer in an open session, whose scanner has the rest.
_NOTHING_YET: Final = PeerRecord()


def open_record(
    request: Request, response: Response, host: str, port: int, requested_at: float, now: float
) -> SessionRecord:
    """Return the record of a session that opens now, with its handshake.

    There is one for each session: texts that sessions have in common are interned.

    :param host: the client's address, empty on a Unix socket; ``port`` is its port.
    """
    path, _, query = request.target.partition("?")
    return SessionRecord(
        opened_at=now,
        handshake_seconds=now - requested_at,
        client=_NOTHING_YET,
        server=_NOTHING_YET,
        engine_io="EIO=" in query,
        path=intern(path[:MAX_PATH]),
        peer_address=host,
        peer_port=port,
        forwarded_for=request.forwarded_for[:MAX_FORWARDED_FOR],
        subprotocol=response.subprotocol and intern(response.subprotocol),
        trace_id=request.traceparent and trace_id(request.traceparent),
    )


def trace_id(traceparent: str) -> str:
    """Return the trace id of a ``traceparent`` header; empty if it is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    found = match.group(1) if match else ""
    return "" if found == "0" * 32 else found
