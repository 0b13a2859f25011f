"""What both phases of a connection share: two TCP connections, and what the end of one means for the other.

How it works
============
A client's connection through us has two *legs*, one to the client and one to the app. What is read on one is written to
the other. Three things cross over beside bytes:

- **Back-pressure.** When a leg's write buffer is above its high-water mark, the other leg stops reading, so the
  kernel's window closes and the sender feels it. Buffered at most: the mark, 64 KiB, plus one read, 512 KiB.
- **Half-close.** A FIN read on one leg becomes a FIN on the other, after everything read before it was written. Both
  connections are closed when both FINs have been read, never on the first: data may still be under way in the other
  direction.
- **Silence.** A peer that has been told the other's FIN and sends nothing for :data:`HALF_CLOSED` seconds is given up.
  Without us the kernel would forget such a connection as soon as the app had closed it (FIN_WAIT2); with us in between
  the app has only told us, so the forgetting is ours. What the peer sends in time is passed on, however long it takes.
- **Reset.** A leg that fails ends the other, after what was read before it was written.

A write that fails (the peer is gone) must not lose what that peer sent before it went, often the very Close frame that
explains it: the kernel still holds those bytes, and :meth:`Leg._salvage` reads them before the leg is given up. A 101
may be among them; then the leg has an heir by the end, which is told instead.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Final

from mypy_extensions import mypyc_attr

from exporter.protocol.enums import Peer, TcpEndKind
from exporter.relay.timeouts import TimeoutQueue
from exporter.relay.transport import Transport, TransportProtocol

#: Seconds that a closed leg may take to hand over what is still buffered for a peer that does not read.
LINGER = 10.0
#: Seconds for which a peer may be silent once the other one has sent its FIN; Linux' net.ipv4.tcp_fin_timeout.
HALF_CLOSED = 60.0
#: Looked up once: Python 3.11 takes a detour to an enum's members, and every connection ends with this one.
_FIN: Final = TcpEndKind.FIN
#: Errors by which the kernel says that a peer has not been heard of.
_SILENT: Final = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}


@mypyc_attr(allow_interpreted_subclasses=True)
class LegOwner:
    """Whoever opened the two legs.

    :ivar half_close_timeouts: see :func:`half_close_timeouts`.
    """

    __slots__ = ("half_close_timeouts",)

    half_close_timeouts: TimeoutQueue[Leg]

    def cut(self, peer: Peer, how: TcpEndKind) -> None:
        """The TCP connection of ``peer`` has ended, or will send no more. Told once a leg, not for ends of our own."""
        raise NotImplementedError

    def over(self) -> None:
        """Both TCP connections are gone. Told once."""
        raise NotImplementedError


def half_close_timeouts() -> TimeoutQueue[Leg]:
    """For legs whose peer has ended: after :data:`HALF_CLOSED` seconds each looks at the other."""
    return TimeoutQueue(HALF_CLOSED, Leg.look_at_other)


@mypyc_attr(allow_interpreted_subclasses=True)
class Leg(TransportProtocol):
    """One of the two TCP connections. Subclasses say what happens with the bytes that are read.

    :param peer: who is at the far end.
    """

    __slots__ = ("_look", "fin", "flushing", "gone", "other", "owner", "peer", "transport", "waiting")

    transport: Transport
    other: Leg

    def __init__(self, peer: Peer, owner: LegOwner) -> None:
        self.peer = peer
        self.owner = owner
        self.fin = False  # read: the peer sends no more
        self.gone = False
        self.flushing = False  # a FIN of ours waits for what is buffered
        self.waiting = False  # for the other peer, since this one's FIN was read
        self._look: asyncio.TimerHandle | None = None  # another one at the other peer, some time after its FIN

    def connection_made(self, stream: Transport) -> None:
        self.transport = stream

    def pause_writing(self) -> None:
        if not self.other.gone:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.flushing:
            self.flushing = False
            self.transport.write_eof()
        elif not self.other.gone and not self.other.fin:
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        self.fin = True
        self.owner.cut(self.peer, _FIN)
        if self.other.fin:
            self.close()
            self.other.close()
        else:
            self.other.finish_writing()
            self.wait_for_other()
        return True

    def wait_for_other(self) -> None:
        """Be patient with the other peer, now that this one has ended."""
        self.waiting = True
        self.owner.half_close_timeouts.add(self)

    def look_at_other(self) -> None:
        """This peer has ended: give the other one up if nothing comes from it any more."""
        other = self.other
        if other.gone or other.fin or self.transport.get_protocol() is not self:
            return
        silent = HALF_CLOSED if self.transport.get_write_buffer_size() else HALF_CLOSED - other.transport.idle_seconds()
        if silent > 0:  # it still sends, or what it sent has not been taken yet
            self._look = asyncio.get_running_loop().call_later(max(silent, 0.1), self.look_at_other)
        else:
            other.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._salvage()
            if (new_protocol := self.transport.get_protocol()) is not self:
                new_protocol.connection_lost(error)
                return
            if not self.fin:
                silent = isinstance(error, OSError) and error.errno in _SILENT
                self.owner.cut(self.peer, TcpEndKind.SILENCE if silent else TcpEndKind.RESET)
        self.gone = True
        other = self.other
        if self.waiting or other.waiting:
            self.wait_no_more()
            other.wait_no_more()
        if other.gone:
            self.owner.over()
        else:
            other.close()

    def wait_no_more(self) -> None:
        """Be patient no more: one of the two connections is gone, or has become somebody else's."""
        if self.waiting:
            self.waiting = False
            self.owner.half_close_timeouts.remove(self)
            if self._look is not None:
                self._look.cancel()

    def finish_writing(self) -> None:
        """Send a FIN once everything that is buffered has been sent."""
        if self.gone or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():
            self.flushing = True
            self.transport.set_write_buffer_limits(0)
        else:
            self.transport.write_eof()

    def close(self) -> None:
        """Close, after what is buffered was sent or :data:`LINGER` has passed."""
        if self.gone:
            return
        self.transport.close()
        if self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(LINGER, self.transport.abort)

    def abort(self) -> None:
        """Close at once; what is buffered is lost."""
        if not self.gone:
            self.transport.abort()

    def unlink(self) -> None:
        """Let go of the other leg and the owner: both are gone, and no cycle is left to the garbage collector."""
        self.other, self.owner = _NOBODY, _NOBODYS

    def _salvage(self) -> None:
        if not self.fin and not self.other.gone:
            for data in self.transport.read_remaining():
                self.transport.get_protocol().data_received(data)


# In place of what was let go, with nothing to do anything with: deleting an attribute costs ten times as much.
_NOBODYS: Final = LegOwner()
_NOBODY: Final = Leg(Peer.PROXY, _NOBODYS)
