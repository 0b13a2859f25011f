"""The part of an opening handshake that the session's record carries."""

from __future__ import annotations

import re
from sys import intern
from typing import Final

from mypy_extensions import mypyc_attr

from exporter.protocol.http1_parser import Request, Response
from exporter.protocol.record import MAX_FORWARDED_FOR, MAX_PATH, SessionRecord

#: W3C Trace Context, section 3.2.
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


@mypyc_attr(acyclic=True)
class Handshake:
    """An opening handshake that was answered with 101.

    There is one for each session: texts that sessions have in common are interned.

    :ivar number: the session's number in its relay, from 1.
    :ivar route: index into the names of the routes.
    """

    __slots__ = (
        "_forwarded_for", "_host", "_identity", "_path", "_port", "_seconds", "_subprotocol", "_trace_id", "number",
        "route",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        route: int,
        seconds: float,
        identity: int,
        request: Request,
        response: Response,
        host: str,
        port: int,
    ) -> None:
        self.number = number
        self.route = route
        self._seconds = seconds
        self._identity = identity
        self._path = intern(request.target.partition("?")[0][:MAX_PATH])
        self._host = host
        self._port = port
        self._forwarded_for = request.forwarded_for[:MAX_FORWARDED_FOR]
        self._subprotocol = response.subprotocol and intern(response.subprotocol)
        self._trace_id = request.traceparent and trace_id(request.traceparent)

    def fill(self, record: SessionRecord) -> None:
        """Write it into the session's record, but for the relay's number."""
        record.number = self.number
        record.route = self.route
        record.handshake_seconds = self._seconds
        record.identity = self._identity
        record.path = self._path
        record.peer_address = self._host
        record.peer_port = self._port
        record.forwarded_for = self._forwarded_for
        record.subprotocol = self._subprotocol
        record.trace_id = self._trace_id


def names_engine_io(target: str) -> bool:
    """Return whether the query of a request's target names Engine.IO."""
    return "EIO=" in target and "EIO=" in target.partition("?")[2]


def trace_id(traceparent: str) -> str:
    """Return the trace id of a ``traceparent`` header; empty if it is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    found = match.group(1) if match else ""
    return "" if found == "0" * 32 else found
