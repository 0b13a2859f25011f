"""What both phases of a connection share: two TCP connections, and what the end of one means for the other.

How it works
============
A client's connection through us has two *legs*, one to the client and one to the app. What is read on one is written to
the other. Three things cross over beside bytes:

- **Back-pressure.** When a leg's write buffer is above its high-water mark, the other leg stops reading, so the
  kernel's window closes and the sender feels it. Buffered at most: the mark plus one read (:data:`HIGH_WATER`).
- **Half-close.** A FIN read on one leg becomes a FIN on the other, after everything read before it was written. It is
  sent with shutdown(2) on the borrowed descriptor: uvloop's own ``write_eof`` aborts the process under churn when it is
  called for the peer from ``eof_received``. Both connections are closed when both FINs have been read, never on the
  first: data may still be under way in the other direction.
- **Reset.** A leg that fails ends the other, after what was read before it was written.

A write that fails (the peer is gone) must not lose what that peer sent before it went, often the very Close frame that
explains it: the kernel still holds those bytes, and :meth:`Leg._salvage` reads them before the leg is given up.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Protocol, cast

from exporter.protocol.words import How, Peer

#: Write buffer above which the other leg stops reading. uvloop reads up to 256,000 bytes at once, so a peer that stops
#: reading costs at most about 320 KB of ours.
HIGH_WATER = 64 * 1024
#: Seconds that a closed leg may take to hand over what is still buffered for a peer that does not read.
LINGER = 10.0
#: Bytes that are still read from a peer whose connection broke; the usual size of a kernel's receive buffer.
MAX_SALVAGE = 1024 * 1024

_READ_SIZE = 64 * 1024


class Owner(Protocol):
    """Whoever opened the two legs."""

    def cut(self, peer: Peer, how: How) -> None:
        """The TCP connection of ``peer`` has ended, or will send no more. Told once a leg, not for ends of our own."""

    def over(self) -> None:
        """Both TCP connections are gone. Told once."""


class Leg(asyncio.Protocol):
    """One of the two TCP connections. Subclasses say what happens with the bytes that are read.

    :param peer: who is at the far end.
    """

    __slots__ = ("_flushing", "fin", "gone", "other", "owner", "peer", "transport")

    transport: asyncio.Transport
    other: Leg

    def __init__(self, peer: Peer, owner: Owner) -> None:
        self.peer = peer
        self.owner = owner
        self.fin = False  # read: the peer sends no more
        self.gone = False
        self._flushing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)

    def pause_writing(self) -> None:
        if not self.other.gone:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._flushing:
            self._flushing = False
            send_fin(self.transport)
        elif not self.other.gone and not self.other.fin:
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        self.fin = True
        self.owner.cut(self.peer, How.FIN)
        if self.other.fin:
            self.close()
            self.other.close()
        else:
            self.other.finish_writing()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._salvage()
            if not self.fin:
                self.owner.cut(self.peer, How.RESET)
        self.gone = True
        if self.other.gone:
            self.owner.over()
        else:
            self.other.close()

    def finish_writing(self) -> None:
        """Send a FIN once everything that is buffered has been sent."""
        if self.gone or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():
            self._flushing = True
            self.transport.set_write_buffer_limits(0)
        else:
            send_fin(self.transport)

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

    def part(self) -> None:
        """Let go of the other leg and the owner: both are gone, and no cycle is left to the garbage collector."""
        del self.other, self.owner

    def _salvage(self) -> None:
        if not self.fin and not self.other.gone:
            for data in leftover(self.transport):
                self.data_received(data)


def send_fin(transport: asyncio.Transport) -> None:
    """End our direction of a connection (RFC 9293, section 3.6) without libuv's knowledge."""
    sock = _borrow(transport)
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the connection is gone, which its own callback tells
    finally:
        sock.detach()


def leftover(transport: asyncio.Transport) -> Iterator[bytes]:
    """What the kernel still holds of a connection that broke, up to :data:`MAX_SALVAGE` bytes."""
    try:
        sock = _borrow(transport)
    except (OSError, RuntimeError):
        return
    read = 0
    try:
        while read < MAX_SALVAGE and (data := sock.recv(_READ_SIZE)):
            read += len(data)
            yield data
    except OSError:
        return  # nothing more, or the reset itself
    finally:
        sock.detach()


def _borrow(transport: asyncio.Transport) -> socket.socket:
    """A socket object for the transport's descriptor; to be detached, never closed."""
    theirs = transport.get_extra_info("socket")
    return socket.socket(theirs.family, theirs.type, theirs.proto, fileno=theirs.fileno())
