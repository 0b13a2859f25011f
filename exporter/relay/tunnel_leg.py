"""The legs of a tunnel: each forwards the bytes that it reads, and feeds them to its direction's scanner.

A scanner parses a bounded number of frames in one call (:class:`~exporter.protocol.frames.FrameScanner`). If it leaves
some for later, the leg is *behind*: it stops reading, the poller calls it again in later turns, and an end of the leg
that is noticed meanwhile takes effect when everything before it has been observed. When too many legs are behind, the
session of the next one goes on unobserved: memory, and the time until an end is counted, stay bounded.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, cast

from mypy_extensions import mypyc_attr

from exporter.protocol.direction import ByteObserver
from exporter.protocol.enums import Peer
from exporter.protocol.frame_header import Events
from exporter.relay.legs import OPEN, WRITING_OPEN, Leg, Writing
from exporter.relay.timeouts import clock
from exporter.relay.transport import Transport

if TYPE_CHECKING:
    from exporter.relay.tunnel import Tunnel


class Passing(Enum):
    """Destination of the bytes that a leg reads."""

    FORWARD = 0  # the other leg
    TO_BOUNDARY = 1  # the other leg, up to the next frame boundary
    DISCARD = 2


FORWARD: Final = Passing.FORWARD
TO_BOUNDARY: Final = Passing.TO_BOUNDARY
DISCARD: Final = Passing.DISCARD


#: Legs that may be behind at a time, each with the bytes of one read; the session of another is not observed any more.
MAX_BEHIND: Final = 64


class Backlog:
    """Frames that a leg has forwarded and its observer has left for later, and how the leg ended meanwhile.

    :ivar at: when their bytes came.
    """

    __slots__ = ("at", "error", "fin", "lost")

    def __init__(self, at: float) -> None:
        self.at = at
        self.fin = False
        self.lost = False
        self.error: Exception | None = None


class TunnelLeg(Leg):
    """A leg whose bytes are forwarded and observed.

    :ivar waiting_since: since when its write buffer is above the high-water mark; 0 while it is not.
    """

    __slots__ = ("_backlog", "observer", "passing", "waiting_since")

    def __init__(self, peer: Peer, tunnel: Tunnel, transport: Transport, observer: ByteObserver) -> None:
        # As Leg.__init__: the interpreter is quick where it meets one class only.
        self.peer = peer
        self.owner = tunnel
        self.state = OPEN
        self.writing = WRITING_OPEN
        self._waiting = False
        self._timer = None
        self._delivery = None
        self.transport = transport
        self.observer = observer
        self.passing = DISCARD  # early data was forwarded
        self.waiting_since = 0.0
        self._backlog: Backlog | None = None

    def set_passing(self, passing: Passing, observer: ByteObserver) -> None:
        """Set the destination and the observer of the bytes that are read from now on."""
        self.passing, self.observer = passing, observer
        self.transport.forward_to(self.other.transport if passing is FORWARD else None, observer)

    def data_received(self, data: bytes) -> None:
        if self.passing is FORWARD:
            self.other.transport.write(data)
        elif self.passing is TO_BOUNDARY:
            self.tunnel.write_to_boundary(data)
            return
        try:
            events = self.observer.feed(data, clock())
        except Exception as error:
            self.observing_failed(error)
        else:
            if events is not None:
                self.events_received(events)

    def events_received(self, events: Events) -> None:
        now = clock()
        self.tunnel.handle(self.peer, events, now)
        if self.observer.backlog and self._backlog is None:
            context = self.tunnel.context
            context.poller.took_long = True
            if context.behind >= MAX_BEHIND:
                self.tunnel.give_up_observing()
                return
            context.behind += 1
            self._backlog = Backlog(now)
            self.transport.pause_reading()
            context.poller.run_later(self.observe_more)

    def observing_failed(self, error: Exception) -> None:
        self.tunnel.fail_open(error)

    @property
    def tunnel(self) -> Tunnel:
        """The session."""
        return cast("Tunnel", self.owner)

    # A backlog: more frames than one turn of the event loop has time for.

    @property
    def is_behind(self) -> bool:
        """Whether bytes were forwarded that have not been observed yet."""
        return self._backlog is not None

    def observe_more(self) -> bool:
        """Observe a part of the backlog. Return whether it is empty."""
        backlog, observer = self._backlog, self.observer
        assert backlog is not None
        try:
            events = observer.resume(backlog.at)
        except Exception as error:
            self.observing_failed(error)
        else:
            if events:
                self.tunnel.handle(self.peer, events, backlog.at)
        if self.observer.backlog:
            return False
        self._backlog = None
        self.tunnel.context.behind -= 1
        if backlog.lost:
            self._lost(backlog.error)
        elif backlog.fin:
            self.eof_received()
        else:
            self.tunnel.caught_up(self)
            if not cast(TunnelLeg, self.other).waiting_since:
                self.transport.resume_reading()
        return True

    def eof_received(self) -> bool:
        if self._backlog is not None:
            self._backlog.fin = True
            return True
        return super().eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._salvage()
        if self._backlog is None:
            self._lost(error)
        else:
            self._backlog.lost, self._backlog.error = True, error

    # Back-pressure, as the metrics on stalled peers have it.

    def pause_writing(self) -> None:
        if not self.waiting_since:
            self.waiting_since = clock()
            self.tunnel.context.stalled[self] = None
        if self.other.state is OPEN:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.end_stall()
        if self.writing is Writing.FLUSHING or not cast(TunnelLeg, self.other).is_behind:
            super().resume_writing()

    def end_stall(self) -> None:
        """Note that the write buffer is below its mark again, or gone."""
        if self.waiting_since:
            tunnel = self.tunnel
            del tunnel.context.stalled[self]
            tunnel.context.reporter.stall_ended(tunnel.session.record.route, self.peer, clock() - self.waiting_since)
            self.waiting_since = 0.0


@mypyc_attr(acyclic=True)
class NullObserver(ByteObserver):
    """Observer of a direction that is not scanned (any more)."""

    __slots__ = ()

    def feed(self, data: bytes, now: float) -> Events | None:
        """Ignore ``data``."""
        return None


NULL_OBSERVER: Final = NullObserver()
