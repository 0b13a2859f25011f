"""The two TCP connections of one client, and how the end of one ends the other.

How it works
============
A connection through the relay has two *legs*, one to the client and one to the app. Bytes that are read on one are
written to the other. Beside bytes, these cross over:

- **Back-pressure.** While a leg's write buffer is above its high-water mark, the other leg does not read, so that the
  sender's window closes. Buffered at most: the mark, one read, and the bytes that an ended peer left in the kernel.
- **Half-close.** A FIN read on one leg becomes a FIN on the other, after everything read before it was written. Both
  connections are closed when both FINs have been read: data may still be under way in the other direction.
- **Reset.** An RST, or a peer that TCP has given up, resets the other leg after everything read before it was
  delivered.

    leg       UNCONNECTED ─► OPEN ─ FIN read ─► FIN_READ
                               └──────┬────────────┘
                                      └─ connection lost ─► GONE

    writing   OPEN ─ finish_writing() ─► FLUSHING ─ buffer empty ─► FIN_SENT

A peer whose other peer has ended is given up, with a reset of both, in two cases: it sends nothing for
:data:`HALF_CLOSED` seconds while nothing is on its way to it; or of the bytes that are on their way to it, it takes
none for :data:`NO_PROGRESS` seconds, or not all within :data:`MAX_DELIVERY`.

A write that fails must not lose bytes that the peer sent before it disconnected, often the very Close frame that
explains it: the kernel still holds them, and the leg reads them first. A 101 may be among them; then the transport has
a new protocol by the end, which gets ``connection_lost`` instead.
"""

from __future__ import annotations

import asyncio
import errno
from enum import Enum
from typing import Final

from mypy_extensions import mypyc_attr

from exporter.protocol.enums import Peer, TcpEndKind
from exporter.relay.timeouts import TimeoutQueue, clock
from exporter.relay.transport import Transport, TransportProtocol

#: Seconds without a byte from a peer whose other peer has sent its FIN; Linux' net.ipv4.tcp_fin_timeout.
HALF_CLOSED = 60.0
#: Seconds in which a peer must take some of the bytes on their way to it after the other peer's end.
NO_PROGRESS = 120.0
#: Seconds in which it must take all of them.
MAX_DELIVERY = 600.0
#: Seconds between looks at that.
DELIVERY_INTERVAL = 1.0


class LegState(Enum):
    """State of a leg; see the module's diagram."""

    UNCONNECTED = 0
    OPEN = 1
    FIN_READ = 2
    GONE = 3


class Writing(Enum):
    """State of a leg's own direction."""

    OPEN = 0
    FLUSHING = 1
    FIN_SENT = 2


# Looked up once: Python 3.11 takes a detour to an enum's members.
UNCONNECTED: Final = LegState.UNCONNECTED
OPEN: Final = LegState.OPEN
FIN_READ: Final = LegState.FIN_READ
GONE: Final = LegState.GONE
_FLUSHING: Final = Writing.FLUSHING
_FIN_SENT: Final = Writing.FIN_SENT
WRITING_OPEN: Final = Writing.OPEN
_FIN: Final = TcpEndKind.FIN
#: Errors by which the kernel says that a peer does not answer.
_SILENT: Final = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}


@mypyc_attr(allow_interpreted_subclasses=True)
class LegOwner:
    """Owner of two legs.

    :ivar half_close_timeouts: see :func:`half_close_timeouts`.
    """

    __slots__ = ("half_close_timeouts",)

    half_close_timeouts: TimeoutQueue[Leg]

    def on_leg_end(self, peer: Peer, kind: TcpEndKind) -> None:
        """Handle the end of ``peer``'s TCP connection, or its FIN. Called once a leg, not for ends by the sidecar."""
        raise NotImplementedError

    def on_closed(self) -> None:
        """Both TCP connections are gone. Called once."""
        raise NotImplementedError


def half_close_timeouts() -> TimeoutQueue[Leg]:
    """Return the queue of legs whose peer has ended: after :data:`HALF_CLOSED` seconds each checks the other one."""
    return TimeoutQueue(HALF_CLOSED, Leg.check_other)


@mypyc_attr(allow_interpreted_subclasses=True)
class Leg(TransportProtocol):
    """One of the two TCP connections. Subclasses decide where bytes go.

    :param peer: the peer at the far end.
    """

    __slots__ = ("_delivery", "_timer", "_waiting", "other", "owner", "peer", "state", "transport", "writing")

    transport: Transport
    other: Leg

    def __init__(self, peer: Peer, owner: LegOwner, state: LegState = OPEN) -> None:
        self.peer = peer
        self.owner = owner
        self.state = state
        self.writing = WRITING_OPEN
        self._waiting = False  # for the other peer, since this one's FIN was read
        self._timer: asyncio.TimerHandle | None = None  # the next check of the other peer
        self._delivery: _Delivery | None = None

    def connection_made(self, transport: Transport) -> None:
        self.transport = transport

    def pause_writing(self) -> None:
        if self.other.state is OPEN:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.writing is _FLUSHING:
            self.writing = _FIN_SENT
            self.transport.write_eof()
        elif self.other.state is OPEN:
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        self.state = FIN_READ
        self.owner.on_leg_end(self.peer, _FIN)
        other = self.other
        if other.state is FIN_READ:
            self.close()
            other.close()
        else:
            other.finish_writing()
            self.wait_for_other()
        return True

    def end_pending(self) -> None:
        if self.other.state is OPEN or self.other.state is FIN_READ:
            self.other.bound_delivery()

    def wait_for_other(self) -> None:
        """Begin to time the other peer, now that this one has ended."""
        self._waiting = True
        self.owner.half_close_timeouts.add(self)

    def check_other(self) -> None:
        """Give the other peer up if it is silent since this one has ended."""
        other = self.other
        if other.state is not OPEN or self.transport.get_protocol() is not self:
            return
        left = HALF_CLOSED
        if other.transport.undelivered() or self.transport.get_write_buffer_size():
            other.bound_delivery()
            self.bound_delivery()
        else:
            left -= other.transport.idle_seconds()
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(max(left, 0.1), self.check_other)
        else:
            self.abort()
            other.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._salvage()
            if (new_protocol := self.transport.get_protocol()) is not self:
                new_protocol.connection_lost(error)
                return
        self._lost(error)

    def _lost(self, error: Exception | None) -> None:
        if error is not None and self.state is OPEN:
            silent = isinstance(error, OSError) and error.errno in _SILENT
            self.owner.on_leg_end(self.peer, TcpEndKind.SILENCE if silent else TcpEndKind.RESET)
        self.state = GONE
        other = self.other
        if self._waiting or other._waiting:
            self.wait_no_more()
            other.wait_no_more()
        if other.state is GONE or other.state is UNCONNECTED:
            self.owner.on_closed()
        elif error is None:
            other.close()
        else:
            other.reset()

    def wait_no_more(self) -> None:
        """Stop timing the other peer: one of the two connections is gone, or has another protocol."""
        if self._waiting:
            self._waiting = False
            self.owner.half_close_timeouts.remove(self)
            if self._timer is not None:
                self._timer.cancel()

    def finish_writing(self) -> None:
        """Send a FIN once everything that is buffered has been sent."""
        if self.state is GONE or self.state is UNCONNECTED or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():
            self.writing = _FLUSHING
            self.transport.set_write_buffer_limits(0)
            self.bound_delivery()
        else:
            self.writing = _FIN_SENT
            self.transport.write_eof()

    def close(self) -> None:
        """Close with a FIN after everything that is buffered was sent."""
        if self.state is OPEN or self.state is FIN_READ:
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self.bound_delivery()

    def reset(self) -> None:
        """Close with an RST after everything that is buffered was delivered."""
        if self.state is OPEN or self.state is FIN_READ:
            self.transport.reset()
            if self.transport.undelivered():
                self.bound_delivery()

    def abort(self) -> None:
        """Close with an RST at once."""
        if self.state is OPEN or self.state is FIN_READ:
            self.transport.abort()

    def bound_delivery(self) -> None:
        """Give this peer up if it does not take the bytes that are on their way to it."""
        if self._delivery is None:
            self._delivery = _Delivery(self)

    def unlink(self) -> None:
        """Forget the other leg and the owner: both are gone, and no cycle is left to the garbage collector."""
        self.other, self.owner = _NO_LEG, _NO_OWNER

    def _salvage(self) -> None:
        if self.state is OPEN and (self.other.state is OPEN or self.other.state is FIN_READ):
            for data in self.transport.read_remaining():
                self.transport.get_protocol().data_received(data)


class _Delivery:
    """Bytes on their way to a peer whose other peer has ended."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg
        self._left = leg.transport.undelivered()
        self._began = self._progress = clock()
        self._wait()

    def _wait(self) -> None:
        asyncio.get_running_loop().call_later(DELIVERY_INTERVAL, self._check)

    def _check(self) -> None:
        leg = self._leg
        left = 0 if leg.state is GONE else leg.transport.undelivered()
        if not left:
            leg._delivery = None
            return
        now = clock()
        if left < self._left:
            self._progress = now
        self._left = left
        if now - self._progress > NO_PROGRESS or now - self._began > MAX_DELIVERY:
            leg.other.abort()
            leg.abort()
        else:
            self._wait()


# In place of unlinked objects: deleting an attribute is slower.
_NO_OWNER: Final = LegOwner()
_NO_LEG: Final = Leg(Peer.PROXY, _NO_OWNER, GONE)
