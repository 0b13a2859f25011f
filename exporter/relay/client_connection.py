"""One client's connection, from accept to its end or its 101: forwarded, and parsed as HTTP/1.1.

How it works
============
A client is accepted, the app is connected to, and from then on bytes pass both ways at once; a
:class:`~exporter.protocol.http1.HandshakeTracker` parses them. There are three outcomes:

- a 101 to a request for WebSocket: both TCP connections become those of a :class:`~exporter.relay.tunnel.Tunnel`,
  which outlives this one;
- plain HTTP, request after request, until one side closes;
- anything else (TLS, HTTP/2, garbage): it is forwarded as well, and counted once as unobserved.

If there is no app to talk to, the first request gets a 502 from us, and over ``--max-connections`` a 503.
"""

from __future__ import annotations

import asyncio
import re
from sys import intern
from typing import Final, cast

from exporter.protocol.enums import Peer, TcpEndKind
from exporter.protocol.http1 import (
    Event,
    HandshakeTracker,
    ParseFailed,
    UpgradeAborted,
    Upgraded,
    UpgradeRejected,
    UpgradeRequested,
)
from exporter.protocol.http1_parser import Request, Response
from exporter.protocol.record import MAX_FORWARDED_FOR, MAX_PATH, PeerRecord, SessionRecord
from exporter.protocol.session import Session
from exporter.relay.context import RelayContext
from exporter.relay.kernel import READ_SMALL
from exporter.relay.legs import FIN_READ, GONE, OPEN, UNCONNECTED, Leg, LegOwner
from exporter.relay.timeouts import clock
from exporter.relay.transport import Transport, TransportProtocol
from exporter.relay.tunnel import Tunnel
from exporter.relay.upstream import Failure, proxy_header

#: Seconds for a client to read our 502 or 503 and to close, before we do.
REFUSAL_CLOSE_TIMEOUT = 2.0

_CLIENT: Final = Peer.CLIENT
_SERVER: Final = Peer.SERVER

#: W3C Trace Context, section 3.2.
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
#: Of a peer in an open session, whose scanner has the rest.
_NOTHING_YET: Final = PeerRecord()

_ANSWERS = {
    502: ("Bad Gateway", "websocket-exporter: the app behind this sidecar does not accept connections\n"),
    503: ("Service Unavailable", "websocket-exporter: the configured number of connections is reached\n"),
}


class HttpLeg(Leg):
    """A leg before the 101."""

    __slots__ = ()

    def connection_made(self, transport: Transport) -> None:
        self.transport = transport
        cast(Connection, self.owner).connected(self)

    def data_received(self, data: bytes) -> None:
        cast(Connection, self.owner).received(self, data)


class Connection(LegOwner):
    """A client's connection through the relay.

    :param host: the client's address, empty on a Unix socket; ``port`` is its port.
    :param refusal: status of our own answer, if the client is not to reach the app; else 0.
    """

    __slots__ = (
        "_arriving", "_client", "_closed", "_context", "_held", "_host", "_port", "_refusal", "_refused",
        "_requested_at", "_server", "_task", "_timer", "_tracker",
    )  # fmt: skip

    def __init__(self, context: RelayContext, host: str = "", port: int = 0, refusal: int = 0) -> None:
        self._context = context
        self.half_close_timeouts = context.half_close_timeouts
        self._host = host
        self._port = port
        self._refusal = refusal  # 0 while the client may reach the app
        self._refused = bool(refusal)
        self._client = HttpLeg(_CLIENT, self)
        self._server = HttpLeg(_SERVER, self, UNCONNECTED)
        self._client.other, self._server.other = self._server, self._client
        self._tracker = HandshakeTracker(context.limits.max_head)
        self._held = b""  # bytes of the client from before the app was connected
        self._requested_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._arriving = False  # accepted, and its first request's head is not complete
        self._closed = False
        context.refused += self._refused

    @property
    def protocol(self) -> TransportProtocol:
        """The protocol for the accepted transport."""
        return self._client

    @property
    def is_idle(self) -> bool:
        """Whether closing this connection would interrupt nothing: plain HTTP with no request under way."""
        return not self._tracker.finished and self._tracker.is_idle and not self._held

    # From the legs.

    def connected(self, leg: HttpLeg) -> None:
        """Note that a leg has its transport; connect to the app once the client's has."""
        if leg is self._server:
            return
        self._arriving = True
        self._context.arriving.add(self)
        if not self._refusal:
            self._task = self._context.upstream.connect(self._context.poller, self._server, self._upstream_connected)

    def _upstream_connected(self, failure: Failure | None) -> None:
        if failure is None:
            self._server.state = OPEN
        if self._client.state is GONE:
            self._server.abort()
            return
        if failure is not None:
            reporter = self._context.reporter
            reporter.connect_failed(failure.error, failure.why)
            self._refusal = 502
        elif self._context.limits.proxy_protocol:
            self._server.transport.write(proxy_header(*self._client.transport.addresses()))
        if self._client.state is OPEN:
            self._client.transport.resume_reading()
        held, self._held = self._held, b""
        if held:
            self.received(self._client, held)
        if self._client.state is FIN_READ:
            if failure is None:
                self._server.finish_writing()
            else:
                self._client.close()

    def received(self, leg: HttpLeg, data: bytes) -> None:
        """Forward bytes to the other leg, then parse them."""
        other, tracker = leg.other, self._tracker
        if other.state is OPEN or other.state is FIN_READ:
            other.transport.write(data)
        elif not self._refusal and other.state is UNCONNECTED:
            self._held += data
            leg.transport.pause_reading()
            return
        if tracker.finished:
            return
        if len(data) > READ_SMALL:  # a head of many headers
            self._context.poller.took_long = True
        try:
            for event in tracker.request(data) if leg is self._client else tracker.response(data):
                self._handle(event)
        except Exception as error:
            tracker.finished = True
            self._context.reporter.defect(error)
        if self._arriving and (tracker.started or tracker.finished):
            self._arrived()
            if self._refusal:
                self._answer(self._refusal)

    def _arrived(self) -> None:
        self._arriving = False
        self._context.arriving.remove(self)

    def on_leg_end(self, peer: Peer, kind: TcpEndKind) -> None:
        """See :class:`~exporter.relay.legs.LegOwner`. A refused client has no other leg that would close it."""
        if self._refusal:
            self._client.close()

    def on_closed(self) -> None:
        """Both TCP connections are gone without a session."""
        if self._closed:
            return
        self._closed = True
        if self._arriving:
            self._arrived()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        try:
            for event in self._tracker.eof():
                self._handle(event)
        except Exception as error:
            self._context.reporter.defect(error)
        self._context.refused -= self._refused
        self._context.connection_closed(self)

    # From the tracker.

    def _handle(self, event: Event) -> None:
        if type(event) is Upgraded:  # first: nearly every client comes for it
            self._open_session(event)
            return
        reporter = self._context.reporter
        match event:
            case UpgradeRequested():
                self._requested_at = clock()
                if self._refusal:
                    reporter.handshake_rejected(event.request, self._refusal, 0.0)
                    event.request.answered = True
            case UpgradeRejected():
                reporter.handshake_rejected(event.request, event.status, clock() - self._requested_at)
            case UpgradeAborted():
                reporter.handshake_aborted(event.request)
            case ParseFailed():
                reporter.unobserved(event.reason, event.why)

    def _open_session(self, event: Upgraded) -> None:
        context = self._context
        record = open_record(event.request, event.response, self._host, self._port, self._requested_at, clock())
        client_counts, server_counts = context.reporter.session_opened(record, event.request)
        session = Session(client_counts, server_counts, record, context.sample)
        tunnel = Tunnel(context, session, self._client.transport, self._server.transport)
        client_fin, server_fin = self._client.state is FIN_READ, self._server.state is FIN_READ
        self._client.wait_no_more()
        self._server.wait_no_more()
        context.session_opened(self, tunnel)
        tunnel.begin(event.client, event.server, client_fin, server_fin)
        self._client.unlink()  # the legs refer to each other: nothing is left to the garbage collector
        self._server.unlink()

    # The sidecar's own answers and closes.

    def _answer(self, status: int) -> None:
        """Answer in the app's place, if the client speaks HTTP, and close."""
        if not self._tracker.started:
            self._client.abort()
            return
        reason, text = _ANSWERS[status]
        head = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        )
        self._client.transport.write((head + text).encode("ascii"))
        self._tracker.finished = True
        self._client.finish_writing()
        self._timer = asyncio.get_running_loop().call_later(REFUSAL_CLOSE_TIMEOUT, self._client.abort)

    def close(self) -> None:
        """Close both TCP connections at once: with a FIN if nothing is under way, else with a reset."""
        if self._closed:
            return
        if self._task is not None:
            self._task.cancel()
        if self.is_idle:
            self._client.close()
            self._server.close()
        else:
            self._client.abort()
            self._server.abort()


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
        peer_address=intern(host),
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
