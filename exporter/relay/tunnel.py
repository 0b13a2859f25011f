"""The engine: moves the bytes of one session both ways, and lets the session overhear them.

The seam
========
:meth:`Engine.take` is where the handshake phase ends and an engine begins. It is handed two connected transports, the
session, the bytes of either peer that were read past the 101 (already forwarded, not yet heard), and whose FIN was
already read. It answers with a :class:`Splice`, by which the session can be ended on purpose. Nothing else crosses, so
that another engine can stand in for this one.

How it works
============
Each leg does two things with what it reads, in this order: write it to the other leg, then let that direction's scanner
hear it. Nothing in between, no copy, no queue. A scanner that raises has a defect of ours: listening ends for the
session, traffic goes on.

Ending a session on purpose (a drain, a limit) must not cut a frame in two. :meth:`Splice.finish` therefore waits for
the next frame boundary of what the server sends, writes one Close to the client there, and from then on drops what the
server sends while still listening for its answering Close. What the client sends travels on: its answer reaches the
app, which sees an ordinary close by its client. If the client does not answer in time, the app gets a masked Close 1001
from us, at a boundary of that direction; a direction that is stuck inside a frame, or not understood, gets none.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Final, Protocol, cast

from mypy_extensions import mypyc_attr

from exporter.protocol.enums import Cause, Peer, TcpEndKind
from exporter.protocol.frames import ByteObserver, Events
from exporter.protocol.session import CloseReceived, PingAnswered, Session, WentUnobserved
from exporter.relay.legs import Leg, LegOwner, half_close_timeouts
from exporter.relay.timeouts import TimeoutQueue, clock
from exporter.relay.transport import Transport

#: Seconds that an app may take to read the Close that we sent it and to end TCP, once its client has not answered.
FINAL_CLOSE_TIMEOUT = 1.0

_GOING_AWAY: Final = 1001
_CLIENT: Final = Peer.CLIENT
_SERVER: Final = Peer.SERVER


@mypyc_attr(free_list_len=1, acyclic=True)
@dataclass(slots=True, init=False)
class EarlyData:
    """What the handshake phase leaves behind: bytes read past the 101 and forwarded, and FINs read, of each peer."""

    client: bytes
    server: bytes
    client_fin: bool
    server_fin: bool

    def __init__(
        self, client: bytes = b"", server: bytes = b"", client_fin: bool = False, server_fin: bool = False
    ) -> None:
        self.client = client
        self.server = server
        self.client_fin = client_fin
        self.server_fin = server_fin


class SessionListener(Protocol):
    """Whoever gave the session to the engine."""

    def noted(self, fact: PingAnswered | WentUnobserved) -> None:
        """Something new is known of the session. A Close is not told: it is for :meth:`Session.end` to judge."""

    def defect(self, error: Exception) -> None:
        """Listening failed for a defect of ours. The session goes on unheard."""

    def app_dropped(self) -> None:
        """The app has ended TCP without a Close: whether it still takes connections will matter. Told at most once."""

    def ended(self) -> None:
        """Both TCP connections are gone. Told once."""


class Splice(Protocol):
    """A session in an engine's hands."""

    session: Session

    def finish(self, cause: Cause, code: int, timeout: float) -> None:
        """End the session with one Close of ``code``; after ``timeout`` seconds at the latest without its answer."""

    def abort(self, cause: Cause) -> None:
        """End the session now: a Close to the app if it can be told at a boundary, then TCP."""

    def abort_now(self, cause: Cause) -> None:
        """End the session at once, without a word."""


class Engine(Protocol):
    """What can take over a session at the seam."""

    name: str

    def take(
        self, client: Transport, server: Transport, session: Session, early: EarlyData, listener: SessionListener
    ) -> Splice:
        """Own the two transports from here on."""


class Sink(Protocol):
    """Where a leg's bytes go: the other leg's transport, but for a session that we end."""

    def write(self, data: bytes) -> None:
        """Take ``data``."""


class TunnelLeg(Leg):
    """A leg whose bytes are forwarded and heard."""

    __slots__ = ("ear", "sink")

    ear: ByteObserver
    sink: Sink

    def __init__(self, peer: Peer, owner: Tunnel, transport: Transport, sink: Sink, ear: ByteObserver) -> None:
        # What Leg.__init__ does: the interpreter is quick where it meets one class only (4,000 instructions in all).
        self.peer = peer
        self.owner = owner
        self.fin = self.gone = self.flushing = self.waiting = False
        self._look = None
        self.transport = transport
        self.sink = sink
        self.ear = ear

    def set(self, sink: Sink, ear: ByteObserver) -> None:
        """From now on what is read goes to ``sink`` and is heard by ``ear``."""
        self.sink, self.ear = sink, ear
        to = self.other.transport
        self.transport.forward_to(to if sink is to else None, ear)

    def data_received(self, data: bytes) -> None:
        self.sink.write(data)
        try:
            heard = self.ear.feed(data, clock())
        except Exception as error:
            self.observing_failed(error)
        else:
            if heard is not None:
                self.heard(heard)

    def heard(self, heard: Events) -> None:
        cast(Tunnel, self.owner).hear(self.peer, heard, clock())

    def observing_failed(self, error: Exception) -> None:
        cast(Tunnel, self.owner).stop_observing(error)


class Tunnel(LegOwner):
    """One session in this engine."""

    __slots__ = ("_cause", "_client", "_code", "_final_close", "_listener", "_server", "_timer", "session")

    def __init__(
        self,
        client: Transport,
        server: Transport,
        session: Session,
        listener: SessionListener,
        half_close_timeouts: TimeoutQueue[Leg],
    ) -> None:
        self.session = session
        self.half_close_timeouts = half_close_timeouts
        self._listener = listener
        self._client = TunnelLeg(_CLIENT, self, client, _NOWHERE, session.client)  # what came early was forwarded
        self._server = TunnelLeg(_SERVER, self, server, _NOWHERE, session.server)
        self._client.other, self._server.other = self._server, self._client
        self._timer: asyncio.TimerHandle | None = None
        self._cause: Cause | None = None
        self._code = _GOING_AWAY
        self._final_close = False

    def begin(self, early: EarlyData) -> None:
        """Take the transports over, and hear what was read before."""
        ours, theirs = self._client, self._server
        client, server = ours.transport, theirs.transport
        client.set_protocol(ours)
        if early.client or early.client_fin:
            self._catch_up(ours, early.client, early.client_fin)
        server.set_protocol(theirs)
        if early.server or early.server_fin:
            self._catch_up(theirs, early.server, early.server_fin)
        ours.set(server, ours.ear)
        theirs.set(client, theirs.ear)

    def _catch_up(self, leg: TunnelLeg, data: bytes, fin: bool) -> None:
        """Hear what came early."""
        if data:
            leg.data_received(data)
        if fin:
            leg.fin = True
            self.session.eof(leg.peer, TcpEndKind.FIN, clock())
            leg.other.finish_writing()
            leg.wait_for_other()

    # From the legs.

    def hear(self, peer: Peer, heard: Events, now: float) -> None:
        """A scanner has something to tell."""
        scanner = self.session.scanner(peer)
        try:
            facts = self.session.handle(peer, heard, now)
            while scanner.backlog:
                facts += self.session.handle(peer, scanner.resume(now) or [], now)
        except Exception as error:
            self.stop_observing(error)
            return
        for fact in facts:
            if not isinstance(fact, CloseReceived):
                self._listener.noted(fact)

    def stop_observing(self, error: Exception) -> None:
        """Listening failed for a defect of ours: go on without it."""
        for leg in (self._client, self._server):
            leg.set(leg.sink, _NULL_OBSERVER)
        self.session.stop_observing()
        self._listener.defect(error)

    def cut(self, peer: Peer, how: TcpEndKind) -> None:
        if self.session.cut is None:
            self.session.eof(peer, how, clock())
            if self.session.needs_app_check:
                self._listener.app_dropped()
        if self._final_close and peer is _SERVER:
            asyncio.get_running_loop().call_soon(self._hang_up)

    def over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._listener.ended()
        self._client.unlink()
        self._server.unlink()

    # Ending on purpose.

    def finish(self, cause: Cause, code: int, timeout: float) -> None:
        """See :class:`Splice`. A second call has no effect."""
        if self._cause is not None:
            return
        self._cause, self._code = cause, code
        self._timer = asyncio.get_running_loop().call_later(timeout, self._expire)
        if self.session.is_closing:
            return
        if self.session.server.at_boundary:
            self._close_client()
        elif not self.session.server.unobserved:
            self._server.set(_ToBoundary(self), _NULL_OBSERVER)

    def write_to_boundary(self, data: bytes) -> None:
        """Forward and hear ``data`` up to the next frame boundary, say Close there, drop the rest."""
        scanner = self.session.server
        at = 0
        while at < len(data):
            step = data[at : at + max(scanner.remaining, 1)]
            at += len(step)
            self._client.transport.write(step)
            try:
                heard = scanner.feed(step, clock())
            except Exception as error:
                self.stop_observing(error)
                heard = None
            if heard:
                self.hear(Peer.SERVER, heard, clock())
            if self.session.is_closing or scanner.unobserved:
                self._resume_forwarding(data[at:])
                return
            if scanner.at_boundary:
                self._close_client()
                self._server.data_received(data[at:])
                return

    def _resume_forwarding(self, rest: bytes) -> None:
        self._server.set(self._client.transport, self.session.server)
        if rest:
            self._server.data_received(rest)

    def _close_client(self) -> None:
        assert self._cause is not None
        self.session.end_by_proxy(self._cause, self._code)
        self._client.transport.write(close_frame(self._code))
        self._server.set(_NOWHERE, self.session.server)
        if not self._server.fin:
            self._server.transport.resume_reading()

    def _expire(self) -> None:
        self.abort(self._cause or Cause.DRAIN)

    def abort(self, cause: Cause) -> None:
        """See :class:`Splice`. While the app has its last words a further call has no effect: they are short."""
        if self._final_close:
            return
        session = self.session
        if not session.is_closing:
            session.end_by_proxy(cause, None)
        if self._timer is not None:
            self._timer.cancel()
        if session.ended_by_proxy and self._app_can_be_told():
            self._close_server()
        else:
            self._hang_up()

    def _app_can_be_told(self) -> bool:
        """Whether its client has sent it neither Close nor FIN nor half a frame, and it still listens."""
        told = self.session.has_closed(Peer.CLIENT) or (self._client.fin and not self._server.flushing)
        return not told and self.session.client.at_boundary and not (self._server.gone or self._server.fin)

    def abort_now(self, cause: Cause) -> None:
        """See :class:`Splice`."""
        if not self.session.is_closing:
            self.session.end_by_proxy(cause, None)
        self._hang_up()

    def _close_server(self) -> None:
        """Tell the app what its client did not, and give it a moment to go. Nothing else passes any more."""
        self._final_close = True
        self._client.set(_NOWHERE, _NULL_OBSERVER)
        self._server.set(_NOWHERE, self._server.ear)
        self._server.transport.write(close_frame(_GOING_AWAY, mask=os.urandom(4)))
        self._server.finish_writing()
        self._server.transport.resume_reading()
        self._timer = asyncio.get_running_loop().call_later(FINAL_CLOSE_TIMEOUT, self._hang_up)

    def _hang_up(self) -> None:
        self._server.abort()
        self._client.abort()


class PythonEngine:
    """Legs on the relay's own streams, scanners in Python, compiled or not (docs/performance.md)."""

    name = "python" if hasattr(half_close_timeouts, "__code__") else "compiled"  # of a compiled function there is none

    def __init__(self) -> None:
        self._half_close_timeouts = half_close_timeouts()

    def take(
        self, client: Transport, server: Transport, session: Session, early: EarlyData, listener: SessionListener
    ) -> Splice:
        """See :class:`Engine`."""
        splice = Tunnel(client, server, session, listener, self._half_close_timeouts)
        splice.begin(early)
        return splice


def close_frame(code: int, mask: bytes = b"") -> bytes:
    """A Close frame with ``code`` (RFC 6455, section 5.5.1); masked if ``mask``, four bytes, is given."""
    body = code.to_bytes(2, "big")
    if not mask:
        return bytes((0x88, len(body))) + body
    return bytes((0x88, 0x80 | len(body))) + mask + bytes(a ^ b for a, b in zip(body, mask, strict=False))


class _Nowhere:
    """Where bytes go that nobody is to get any more."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Drop ``data``."""


class _ToBoundary:
    """Where the server's bytes go once it is to be cut off: to the client, up to the next frame boundary."""

    __slots__ = ("_splice",)

    def __init__(self, splice: Tunnel) -> None:
        self._splice = splice

    def write(self, data: bytes) -> None:
        """See :meth:`Tunnel.write_to_boundary`."""
        self._splice.write_to_boundary(data)


@mypyc_attr(acyclic=True)
class NullObserver(ByteObserver):
    """How a direction is heard that is not listened to any more."""

    __slots__ = ()

    def feed(self, data: bytes, now: float) -> Events | None:
        """Hear nothing."""
        return None


_NOWHERE: Final = _Nowhere()
_NULL_OBSERVER: Final = NullObserver()
