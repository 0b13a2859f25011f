"""One session's two TCP connections, from the 101 until both are gone.

How it works
============
Each leg does two things with the bytes that it reads, in this order: write them to the other leg, then feed them to
that direction's scanner. Nothing in between, no copy, no queue. A scanner that raises has a defect: the session goes on
unobserved (:meth:`Tunnel.fail_open`).

The session's record is made once, as soon as both Close frames have passed or one TCP connection has ended; its times
are those of that moment. A peer that ends TCP right behind its Close frame leaves the other
:data:`ANSWER_TIMEOUT` seconds for the answering Close. Bytes that pass after the record are only forwarded.

Closing a session on purpose (a drain, a limit) must not cut a frame in two. :meth:`Tunnel.close` waits for the next
frame boundary of the server's direction, writes one Close to the client there, and from then on discards the
server's bytes. The client's still pass: its answering Close reaches the app, which sees an ordinary close by its
client. If the client does not answer in time, the app gets a masked Close 1001 from us, at a boundary of that
direction. A direction that is inside a frame, or unobserved, gets none.

    OPEN ── close() ─┬─ at a boundary ───────────────► CLOSE_SENT ─┐
                     └─ else ─► CLOSE_PENDING ─ boundary ─┘        │
      │                            │                               │
      └────── close_now() ─────────┴────────── timeout ────────────┴─► FINAL_CLOSE ─ FINAL_CLOSE_TIMEOUT, or app ended
                                                                   └──── no frame can be sent ─┐      │
    any state ── both TCP connections gone ─► CLOSED ◄─────────────────────────────────────────┴──────┘
"""

from __future__ import annotations

import asyncio
import os
from enum import Enum
from typing import TYPE_CHECKING, Final

from exporter.protocol.enums import Cause, Peer, TcpEndKind, Unobserved
from exporter.protocol.frame_header import Events
from exporter.protocol.session import CloseReceived, PingAnswered, Session, WentUnobserved
from exporter.relay.legs import FIN_READ, OPEN, LegOwner, Writing
from exporter.relay.timeouts import clock
from exporter.relay.transport import Transport
from exporter.relay.tunnel_leg import DISCARD, FORWARD, NULL_OBSERVER, TO_BOUNDARY, TunnelLeg

if TYPE_CHECKING:
    from exporter.relay.context import RelayContext

#: Seconds that an app may take to read our Close and to end TCP, once its client has not answered ours.
FINAL_CLOSE_TIMEOUT = 1.0
#: Seconds for an answering Close after the peer that sent the first one has ended TCP.
ANSWER_TIMEOUT = 0.25

_GOING_AWAY: Final = 1001
_CLIENT: Final = Peer.CLIENT
_SERVER: Final = Peer.SERVER


class TunnelState(Enum):
    """State of a tunnel; see the module's diagram."""

    OPEN = 0
    CLOSE_PENDING = 1
    CLOSE_SENT = 2
    FINAL_CLOSE = 3
    CLOSED = 4


# Looked up once: Python 3.11 takes a detour to an enum's members.
_OPEN: Final = TunnelState.OPEN
_CLOSED: Final = TunnelState.CLOSED
_FINAL_CLOSE: Final = TunnelState.FINAL_CLOSE
_CLOSE_PENDING: Final = TunnelState.CLOSE_PENDING
_CLOSE_SENT: Final = TunnelState.CLOSE_SENT
_FIN: Final = TcpEndKind.FIN


class Tunnel(LegOwner):
    """One session in the relay.

    :ivar context: the relay's.
    :ivar client: the leg to the client; ``server`` that to the app.
    """

    __slots__ = (
        "_cause", "_code", "_ended_at", "_record_timer", "_recorded", "_timer", "client", "context", "server",
        "session", "state",
    )  # fmt: skip

    def __init__(self, context: RelayContext, session: Session, client: Transport, server: Transport) -> None:
        self.context = context
        self.session = session
        self.half_close_timeouts = context.half_close_timeouts
        self.state = _OPEN
        self.client = TunnelLeg(_CLIENT, self, client, session.client)
        self.server = TunnelLeg(_SERVER, self, server, session.server)
        self.client.other, self.server.other = self.server, self.client
        self._timer: asyncio.TimerHandle | None = None
        self._record_timer: asyncio.TimerHandle | None = None
        self._recorded = False
        self._ended_at = 0.0  # when the first TCP connection ended
        self._cause: Cause | None = None
        self._code = _GOING_AWAY

    def begin(
        self, client: bytes = b"", server: bytes = b"", client_fin: bool = False, server_fin: bool = False
    ) -> None:
        """Become the protocol of both transports; observe the bytes and FINs forwarded since the 101."""
        for leg, data, fin in ((self.client, client, client_fin), (self.server, server, server_fin)):
            leg.transport.set_protocol(leg)
            if data:
                leg.data_received(data)
            if fin:
                leg.eof_received()
        self.client.set_passing(FORWARD, self.client.observer)
        self.server.set_passing(FORWARD, self.server.observer)

    # From the legs.

    def handle(self, peer: Peer, events: Events, now: float) -> None:
        """Handle the events of a scanner."""
        try:
            for event in self.session.handle(peer, events, now):
                if isinstance(event, CloseReceived):
                    answers_ours = peer is _CLIENT and self.state is _CLOSE_SENT
                    if answers_ours or self.session.both_closed:
                        self._make_record(self._ended_at or now)
                elif isinstance(event, PingAnswered):
                    self.context.reporter.ping_answered(self.session.record.route, event.sender, event.seconds)
                elif isinstance(event, WentUnobserved):
                    self._report_unobserved(Unobserved.FRAME, event.why)
        except Exception as error:
            self.fail_open(error)

    def fail_open(self, error: Exception) -> None:
        """Go on unobserved after a defect."""
        self._stop_observing()
        self.context.reporter.defect(error)

    def give_up_observing(self) -> None:
        """Go on unobserved: the relay has too many frames to parse."""
        self._stop_observing()
        self._report_unobserved(Unobserved.OVERLOAD, "too many sessions send more frames than can be parsed in time")

    def _report_unobserved(self, reason: Unobserved, why: str) -> None:
        self.context.reporter.unobserved(reason, why, self.session.record)

    def _stop_observing(self) -> None:
        for leg in (self.client, self.server):
            passing = FORWARD if leg.passing is TO_BOUNDARY else leg.passing
            leg.set_passing(passing, NULL_OBSERVER)
        self.session.stop_observing()

    def on_leg_end(self, peer: Peer, kind: TcpEndKind) -> None:
        session = self.session
        if not self._ended_at:
            now = self._ended_at = clock()
            session.eof(peer, kind, now)
            if kind is _FIN and session.has_closed(peer) and not session.both_closed:
                self._await_answer()
            else:
                self._make_record(now)
        if self.state is _FINAL_CLOSE and peer is _SERVER:
            asyncio.get_running_loop().call_soon(self.abort)

    def _await_answer(self) -> None:
        if not self._recorded:
            loop = asyncio.get_running_loop()
            self._record_timer = loop.call_later(ANSWER_TIMEOUT, self._make_record, self._ended_at)

    def on_closed(self) -> None:
        self.state = _CLOSED
        if self._timer is not None:
            self._timer.cancel()
        self._make_record(self._ended_at or clock())
        self.client.end_stall()
        self.server.end_stall()
        self.context.session_closed(self)
        self.client.unlink()
        self.server.unlink()

    def _make_record(self, closed_at: float) -> None:
        """Report the session as closed, once."""
        if self._recorded:
            return
        self._recorded = True
        if self._record_timer is not None:
            self._record_timer.cancel()
        try:
            record = self.session.finish(closed_at)
            record.client.waiting_since = self.client.waiting_since or None
            record.server.waiting_since = self.server.waiting_since or None
            self.context.reporter.session_closed(record)
        except Exception as error:
            self.context.reporter.record_lost(self.session.record.route, error)

    # Closing on purpose.

    def close(self, cause: Cause, code: int, timeout: float) -> None:
        """Close the session with one Close of ``code``; after ``timeout`` seconds at the latest without its answer.

        A second call has no effect.
        """
        if self._cause is not None or self.state is _CLOSED:
            return
        self._cause, self._code = cause, code
        self.state = _CLOSE_PENDING
        self._timer = asyncio.get_running_loop().call_later(timeout, self.close_now, cause)
        self._close_at_boundary()

    def _close_at_boundary(self) -> None:
        """Send our Close now or at the next frame boundary of the server's direction, if there is to be one."""
        scanner = self.session.server
        if self.session.is_closing or self.server.is_behind:
            return
        if scanner.at_boundary:
            self._send_close()
        elif not scanner.unobserved:
            self.server.set_passing(TO_BOUNDARY, NULL_OBSERVER)

    def caught_up(self, leg: TunnelLeg) -> None:
        """Note that a leg has observed all that it forwarded."""
        if leg is self.server and self.state is _CLOSE_PENDING:
            self._close_at_boundary()

    def write_to_boundary(self, data: bytes) -> None:
        """Forward and observe ``data`` up to the next frame boundary, send Close there, discard the rest."""
        scanner = self.session.server
        at = 0
        while at < len(data):
            step = data[at : at + max(scanner.remaining, 1)]
            at += len(step)
            self.client.transport.write(step)
            try:
                events = scanner.feed(step, clock())
            except Exception as error:
                self.fail_open(error)
                events = None
            if events:
                self.handle(_SERVER, events, clock())
            if self.session.is_closing or scanner.unobserved:
                self._resume_forwarding(data[at:])
                return
            if scanner.at_boundary:
                self._send_close()
                self.server.data_received(data[at:])
                return

    def _resume_forwarding(self, rest: bytes) -> None:
        observer = self.server.observer if self.session.server.unobserved else self.session.server
        self.server.set_passing(FORWARD, observer)
        if rest:
            self.server.data_received(rest)

    def _send_close(self) -> None:
        assert self._cause is not None
        self.state = _CLOSE_SENT
        self.session.end_by_proxy(self._cause, self._code)
        self.client.transport.write(close_frame(self._code))
        self.server.set_passing(DISCARD, self.session.server)
        if self.server.state is OPEN:
            self.server.transport.resume_reading()

    def close_now(self, cause: Cause) -> None:
        """Close the session: send the app a Close if that can be done at a boundary, then reset both connections.

        While the app has its final Close a further call has no effect.
        """
        if self.state is _FINAL_CLOSE or self.state is _CLOSED:
            return
        session = self.session
        if not session.is_closing:
            session.end_by_proxy(cause, None)
        if self._timer is not None:
            self._timer.cancel()
        final_close = session.ended_by_proxy and self._can_close_server()
        self._make_record(self._ended_at or clock())
        if final_close:
            self._send_final_close()
        else:
            self.abort()

    def _can_close_server(self) -> bool:
        """Return whether the app reads on, and its client has sent it neither Close nor FIN nor half a frame."""
        writing = self.server.writing
        client_ended = writing is Writing.FIN_SENT or (self.client.state is FIN_READ and writing is Writing.OPEN)
        if client_ended or self.session.has_closed(_CLIENT) or self.client.is_behind:
            return False
        return self.session.client.at_boundary and self.server.state is OPEN

    def _send_final_close(self) -> None:
        """Send the app a Close in its client's place, and reset after a timeout. Nothing else is forwarded any more."""
        self.state = _FINAL_CLOSE
        self.client.set_passing(DISCARD, NULL_OBSERVER)
        self.server.set_passing(DISCARD, self.server.observer)
        self.server.transport.write(close_frame(_GOING_AWAY, mask=os.urandom(4)))
        self.server.finish_writing()
        if not self.server.is_behind:
            self.server.transport.resume_reading()
        self._timer = asyncio.get_running_loop().call_later(FINAL_CLOSE_TIMEOUT, self.abort)

    def close_at_once(self, cause: Cause) -> None:
        """Close the session without a frame."""
        if self.state is not _CLOSED:
            if not self.session.is_closing:
                self.session.end_by_proxy(cause, None)
            self._make_record(self._ended_at or clock())
            self.abort()

    def abort(self) -> None:
        """Reset both connections."""
        self.server.abort()
        self.client.abort()


def close_frame(code: int, mask: bytes = b"") -> bytes:
    """Return a Close frame with ``code`` (RFC 6455, section 5.5.1), masked if ``mask``, four bytes, is given."""
    body = code.to_bytes(2, "big")
    if not mask:
        return bytes((0x88, len(body))) + body
    return bytes((0x88, 0x80 | len(body))) + mask + bytes(a ^ b for a, b in zip(body, mask, strict=False))
