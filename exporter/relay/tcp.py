"""A connected TCP or Unix socket with a protocol: asyncio's transport, for the relay.

How it works
============
The promises of asyncio's transports hold, and ``connection_lost`` is never called from inside a call of the protocol. A
:class:`~exporter.relay.poller.Poller` serves it, and it is made for the relay's usual work: read once, write once, all
of it, at once.

    ready ─► read(2) ─► protocol.data_received ─► (the other leg's) write ─► write(2)
    ready ─► read(2) ─► write(2) ─► observer.feed                     with forward_to

Bytes that the kernel does not take wait in a queue. Until that is empty, writes go behind it (``_must_buffer`` is true,
the one thing that the fast path looks at).

Two ends are different on purpose. ``close`` ends with a FIN behind everything that waits. ``reset`` ends with an RST,
and only when the peer's kernel has acknowledged everything: an RST overtakes bytes that are under way.

The socket is registered edge-triggered (epoll(7)): the kernel reports once that bytes have come. A read that brings
fewer than it asked for has taken them all, unless urgent data cut it short, which is an event of its own. After any
other read, and when reading begins again, ``_register`` has epoll report bytes still in the kernel. Bytes that come
with a FIN leave with a FIN, in one segment.

The peer's end is reported while reading is paused, too. An RST is taken at once. A FIN is read at once, with the bytes
before it, unless these are more than :data:`MAX_SALVAGE`.

The descriptor stays open until ``connection_lost`` has returned, which may still read bytes that the kernel holds
(:meth:`TcpTransport.read_remaining`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from socket import SocketType
from typing import Final

from exporter.protocol.direction import ByteObserver
from exporter.relay.kernel import (
    CHUNK,
    MAX_SALVAGE,
    READ_BULK,
    READ_MEDIUM,
    READ_SMALL,
    idle_seconds,
    pending_error,
    read_up_to,
    reset_at_close,
    unacknowledged,
    unread,
)
from exporter.relay.poller import EDGE, ERROR, HANGUP, PEER_FIN, READ, URGENT, WRITE, Poller
from exporter.relay.tcp_writer import TcpWriter
from exporter.relay.transport import Transport, TransportProtocol

#: So many reads in a row must bring fewer than READ_SMALL before one asks for few: long messages have short tails.
SHORT_READS: Final = 10

#: Seconds until the first look at whether the kernel has delivered everything before an RST; doubled up to the most.
RESET_POLL: Final = 0.01
MAX_RESET_POLL: Final = 1.0

# Once compiled, a name that is not final is looked up each time.
read: Final = os.read
write: Final = os.write

# As plain integers, which need no detour over an enum.
_EVENTS: Final = READ | PEER_FIN | URGENT | EDGE
_LAST: Final = READ | PEER_FIN  # the peer's last bytes, if any, and its FIN
_END: Final = ERROR | HANGUP | PEER_FIN


class TcpTransport(TcpWriter):
    """Owner of a connected, non-blocking socket.

    :param protocol: gets ``connection_made`` before this returns.
    """

    __slots__ = (
        "_destination", "_fin_seen", "_observer", "_poller", "_read_size", "_reading", "_registered", "_resetting",
        "_short_reads",
    )  # fmt: skip

    def __init__(self, poller: Poller, sock: SocketType, protocol: TransportProtocol) -> None:
        super().__init__(sock, protocol)
        self._poller = poller
        self._destination: TcpTransport | None = None  # see forward_to()
        self._observer: ByteObserver
        self._read_size = READ_SMALL  # bytes of the next read; or READ_BULK
        self._short_reads = 0  # in a row, while it is
        # Booleans side by side take the room of one.
        self._registered = False
        self._reading = True
        self._fin_seen = False  # nothing more is to be learnt from PEER_FIN
        self._resetting = False  # closing with an RST
        protocol.connection_made(self)
        self._register()

    def ready(self, events: int) -> None:
        if events != READ:
            self._ready(events)
            return
        to = self._destination
        if to is None or to._must_buffer or not self._reading:
            self._read()
            return
        size = self._read_size
        try:  # _read(), the protocol's data_received and to.write(data), without the calls
            data = read(self._fd, size)
        except OSError as error:
            self._read_failed(error)
            return
        if size != READ_SMALL or len(data) >= READ_SMALL:
            data = self._choose_size(data, size)
        if not data:
            self._read_fin()
            return
        try:
            sent = write(to._fd, data)
        except OSError as error:
            to._write_failed(data, error)
        else:
            if sent != len(data):
                to._buffer(data[sent:])
        try:
            observed = self._observer.feed(data, self._poller.now)
        except Exception as error:
            self._protocol.observing_failed(error)
        else:
            if observed is not None:
                self._protocol.events_received(observed)

    def _ready(self, events: int) -> None:
        to = self._destination
        if events == _LAST and to is not None:
            to._fin_follows = True
            try:
                is_last = self._read()
            finally:
                to._fin_follows = False
            if is_last:
                self._read_fin()
                return
        elif events != WRITE:  # bytes, or an error or hang-up, which reading brings
            self._read()
        if events & URGENT:  # which cut that read short
            self._read()
        if events & _END:  # is behind the bytes
            self._read()
            if not self._reading:
                self._end_while_paused(events)
        waiting = self._waiting
        if events & ~READ and waiting is not None and waiting.size:
            self._flush(waiting)

    def _read(self) -> bool:
        """Read, unless that is paused, and hand it to the protocol. Return whether a FIN alone can be left."""
        if not self._reading:
            return False
        size = self._read_size
        try:
            data = read(self._fd, size)
        except OSError as error:
            self._read_failed(error)
            return False
        data = self._choose_size(data, size)
        if not data:
            self._read_fin()
            return False
        self._protocol.data_received(data)
        return len(data) < size and self._reading

    def _choose_size(self, data: bytes, size: int) -> bytes:
        """Choose the size of the next read by ``data``, which one of ``size`` bytes brought.

        Return it, with the bytes behind it if few bytes had been asked for and many have come.
        """
        if len(data) < READ_SMALL:
            self._short_reads += 1
            if self._short_reads >= SHORT_READS:
                self._read_size = READ_SMALL
            return data
        self._short_reads = 0
        self._read_size = READ_BULK
        if size == READ_SMALL:
            return self._read_more(data)
        if len(data) == size:
            self._register()
        return data

    def _read_more(self, data: bytes) -> bytes:
        try:
            more = read(self._fd, READ_MEDIUM)
        except BlockingIOError:
            return data
        except OSError as error:  # is reported but once; ``data`` came before it
            self._poller.defer_close(self.failed, error)
            return data
        if not 0 < len(more) < READ_MEDIUM:
            self._register()
        return data + more

    def _read_failed(self, error: OSError) -> None:
        if not isinstance(error, BlockingIOError):
            self.failed(error)

    def _read_fin(self) -> None:
        self._reading = False
        self._fin_seen = True
        if not self._protocol.eof_received():
            self.close()

    def _end_while_paused(self, events: int) -> None:
        """Handle an end of the peer, certain or possible, while reading is paused."""
        if self._ended:
            return
        if events & ERROR and (error := pending_error(self._sock)) is not None:
            self.failed(error)
        elif not self._closing and not self._fin_seen:
            if unread(self._fd) <= MAX_SALVAGE:
                self._read_to_fin()
            else:
                self._fin_seen = True
                self._protocol.end_pending()

    def _read_to_fin(self) -> None:
        """Read the FIN and the bytes before it, although reading is paused."""
        try:
            while data := read(self._fd, CHUNK):
                self._protocol.data_received(data)
                if self._closing:
                    return
        except OSError as error:
            self._read_failed(error)
        else:
            self._read_fin()

    def _register(self) -> None:
        """Have the poller call for the events that matter now, for those that the kernel has reported before, too."""
        events = _EVENTS | WRITE if self.get_write_buffer_size() else _EVENTS
        try:
            if self._registered:
                self._poller.modify(self._fd, events)
            else:
                self._poller.register(self._fd, self, events)
                self._registered = True
        except OSError as error:  # the kernel has no more memory, or room
            self.failed(error)

    def forward_to(self, destination: Transport | None, observer: ByteObserver) -> None:
        self._destination = destination if isinstance(destination, TcpTransport) else None
        self._observer = observer

    # Reading.

    def pause_reading(self) -> None:
        if self._reading and not self._closing:
            self._reading = False
            self._read_size = READ_SMALL

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._register()

    def read_remaining(self) -> Iterator[bytes]:
        return read_up_to(self._fd, MAX_SALVAGE)

    def idle_seconds(self) -> float:
        return idle_seconds(self._sock)

    # The end.

    def close(self) -> None:
        if self._closing:
            return
        self._closing = self._must_buffer = True
        self._reading = False
        if not self.get_write_buffer_size():
            self._finish()

    def reset(self) -> None:
        if not self._ended:
            self._resetting = True
            self.close()

    def _finish(self, poll: float = RESET_POLL) -> None:
        """Everything was written: close now or, with an RST, when everything was delivered."""
        if self._ended:
            return
        if not self._resetting:
            self._end(None)
        elif unacknowledged(self._fd):
            asyncio.get_running_loop().call_later(poll, self._finish, min(2 * poll, MAX_RESET_POLL))
        else:
            self.failed(None)

    def abort(self) -> None:
        self.failed(None)

    def is_closing(self) -> bool:
        return self._closing

    def failed(self, error: Exception | None) -> None:
        """End it now with an RST, if it has not ended; bytes that wait are lost."""
        if self._ended:
            return
        self._closing = self._must_buffer = True
        self._reading = False
        self._waiting = None
        reset_at_close(self._sock)
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        self._ended = True
        self._poller.defer_close(self._call_connection_lost, error)

    def _call_connection_lost(self, error: Exception | None) -> None:
        if self._registered:
            self._poller.drop(self._fd)
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
            self._protocol = _NO_PROTOCOL  # which leaves no cycle to the garbage collector
            self._destination = None

    def get_protocol(self) -> TransportProtocol:
        return self._protocol

    def set_protocol(self, protocol: TransportProtocol) -> None:
        self._protocol = protocol
        self._destination = None

    def addresses(self) -> tuple[object, object]:
        try:
            return self._sock.getpeername(), self._sock.getsockname()
        except OSError:
            return None, None


_NO_PROTOCOL: Final = TransportProtocol()
