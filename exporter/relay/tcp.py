"""A connected TCP or Unix socket with a protocol: asyncio's transport, for the relay.

How it works
============
The promises of asyncio's transports hold: ``connection_made`` first, ``connection_lost`` once and last, never from
inside a call of the protocol; ``pause_writing`` above the high-water mark and ``resume_writing`` when a quarter of it
is left. A :class:`~exporter.relay.poller.Poller` serves it, and it is made for the relay's usual work: read once, write
once, all of it, at once.

    ready ─► read(2) ─► protocol.data_received ─► (the other leg's) write ─► write(2)
    ready ─► read(2) ─► write(2) ─► observer.feed                     with forward_to

Bytes that the kernel does not take wait in a queue, copied so that those which it did take are not kept along. Until
the queue is empty, writes go behind it (``_must_buffer`` is true, the one thing that the fast path looks at).

Two ends are different on purpose. ``close`` ends with a FIN behind everything that waits. ``reset`` ends with an RST,
and only when the peer's kernel has acknowledged everything: an RST overtakes bytes that are under way.

The socket is registered edge-triggered (epoll(7)): the kernel reports once that bytes have come. A read that brings
fewer than it asked for has taken them all, unless urgent data cut it short, which is an event of its own. After any
other read it reads on later in the turn, or ``_rearm`` has epoll report what the kernel still holds, as it does when
reading begins again. Bytes that come with a FIN leave with a FIN, in one segment.

The peer's end is reported while reading is paused, too. An RST is taken at once. A FIN is read at once, with the bytes
before it, unless these are more than :data:`MAX_SALVAGE`.

The descriptor stays open until ``connection_lost`` has returned, which may still read bytes that the kernel holds
(:meth:`TcpTransport.read_remaining`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
import termios
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fcntl import ioctl
from socket import SocketType
from typing import Any, Final

from exporter.protocol.direction import ByteObserver
from exporter.relay.poller import EDGE, ERROR, HANGUP, PEER_FIN, READ, URGENT, WRITE, Poller
from exporter.relay.transport import Transport, TransportProtocol

#: Bytes of one read in bulk: large reads cost least a byte.
READ_BULK: Final = 512 * 1024
#: Bytes of one read where few come: the largest result that Python's own allocator makes.
READ_SMALL: Final = 479
#: Bytes that are read next, at once, when a small read was full. A leg that was paused begins so again: bytes that wait
#: for a slow peer stay in our memory.
READ_MEDIUM: Final = 128 * 1024
#: So many reads in a row must bring fewer than READ_SMALL before one asks for few: long messages have short tails.
SHORT_READS: Final = 10

_BULK: Final = READ_BULK - SHORT_READS  # asked for in bulk; one more after each short read since, which counts them

#: The default high-water mark, asyncio's own.
HIGH_WATER: Final = 64 * 1024
#: Bytes that are still read from a peer that has ended, in spite of the other's slowness: a kernel's receive buffer.
MAX_SALVAGE = 1024 * 1024
#: Seconds until the next look at whether the kernel has delivered everything before an RST: the first time, doubled
#: each time, and at most.
RESET_POLL: Final = 0.01
MAX_RESET_POLL: Final = 1.0

_SALVAGE = 64 * 1024  # bytes at a time

# Once compiled, a name that is not final is looked up each time.
read: Final = os.read
write: Final = os.write

# As plain integers, which need no detour over an enum.
_SHUT_WR: Final = int(socket.SHUT_WR)
_UNREGISTERED: Final = -1
_EVENTS: Final = READ | PEER_FIN | URGENT | EDGE
_LAST: Final = READ | PEER_FIN  # the peer's last bytes, if any, and its FIN
_END: Final = ERROR | HANGUP | PEER_FIN
#: Holds bytes back for a FIN that follows at once; the kernel waits for it 0.2 s at most (tcp(7), TCP_CORK).
_MORE: Final = int(socket.MSG_MORE)

_INT: Final = struct.Struct("i")
_ZERO: Final = bytes(_INT.size)
#: SO_LINGER: on, for no time. Closing sends an RST.
_NO_LINGER: Final = struct.pack("ii", 1, 0)

#: Where ``tcpi_last_data_recv`` stands in Linux' struct tcp_info, and its end: milliseconds since bytes last came.
_LAST_DATA_RECEIVED: Final = 52
_LAST_DATA_END: Final = 56


def raise_mmap_threshold() -> None:
    """Keep glibc from calling mmap(2) for each read of :data:`READ_BULK` bytes.

    glibc takes the size of a freed mmap block for its new threshold (mallopt(3), M_MMAP_THRESHOLD). Elsewhere this does
    nothing.
    """
    bytes(4 * READ_BULK)


class TcpTransport(Transport):
    """Owner of a connected, non-blocking socket.

    :param poller: serves it.
    :param sock: an instance of :class:`_socket.socket` or of its subclass in the library.
    :param protocol: gets ``connection_made`` before this returns.
    """

    __slots__ = (
        "_closing",
        "_destination",
        "_ended",
        "_fd",
        "_fin_seen",
        "_high",
        "_must_buffer",
        "_observer",
        "_poller",
        "_protocol",
        "_read_size",
        "_reading",
        "_registered",
        "_resetting",
        "_sock",
        "_waiting",
    )  # fmt: skip

    def __init__(self, poller: Poller, sock: SocketType, protocol: TransportProtocol) -> None:
        self._poller = poller
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._waiting: _Waiting | None = None  # to be written; kept once there has been some
        self._destination: TcpTransport | None = None  # see forward_to()
        self._observer: ByteObserver
        self._high = HIGH_WATER
        self._read_size = READ_SMALL  # bytes of the next read
        self._registered = _UNREGISTERED  # events
        # Side by side they take the room of one.
        self._must_buffer = False  # something waits, or it is closing
        self._reading = True
        self._fin_seen = False  # nothing more is to be learnt from PEER_FIN
        self._closing = False
        self._resetting = False  # closing with an RST
        self._ended = False  # connection_lost was called or is about to be
        protocol.connection_made(self)
        self._register()

    # From the poller.

    def ready(self, events: int) -> None:
        to = self._destination
        if (events != READ and events != _LAST) or to is None or to._must_buffer or not self._reading:
            self._ready(events)
            return
        read_size = self._read_size
        try:  # _read(), to.write(data) and the protocol's data_received, without the calls
            data = read(self._fd, read_size)
        except OSError as error:
            self._read_failed(error)
            return
        size = len(data)
        if size < READ_SMALL:
            if read_size != READ_SMALL:
                self._read_less(read_size)
            if not size:
                self._read_fin()
                return
        elif read_size != _BULK:
            data = self._read_more(data, read_size)
            size = len(data)
        elif size == _BULK:
            self._poller.run_later(self._read_on)
        is_last = events == _LAST and size < read_size
        try:
            sent = to._sock.send(data, _MORE) if is_last else write(to._fd, data)
        except OSError as error:
            to._write_failed(data, error)
        else:
            if sent != size:
                to._buffer(data[sent:])
        try:
            observed = self._observer.feed(data, self._poller.now)
        except Exception as error:
            self._protocol.observing_failed(error)
        else:
            if observed is not None:
                self._protocol.events_received(observed)
        if is_last and self._reading:
            self._read_fin()
        elif events != READ:
            self._ready(events)

    def _read_on(self) -> bool:
        """Read what a full read in bulk may have left; in this turn if there is time."""
        try:
            self.ready(READ)
        except Exception as error:
            self.failed(error)
            raise
        return True

    def _ready(self, events: int) -> None:
        if events != WRITE:  # bytes, or an error or hang-up, which reading brings
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

    def _read(self) -> None:
        """Read, and hand it to the protocol."""
        if not self._reading:
            return
        read_size = self._read_size
        try:
            data = read(self._fd, read_size)
        except OSError as error:
            self._read_failed(error)
            return
        if len(data) < READ_SMALL:
            self._read_less(read_size)
        elif read_size != _BULK:
            data = self._read_more(data, read_size)
        elif len(data) == _BULK:
            self._rearm()
        if data:
            self._protocol.data_received(data)
        else:
            self._read_fin()

    def _read_less(self, read_size: int) -> None:
        """Few bytes came: if that goes on, few will be asked for."""
        self._read_size = read_size + 1 if READ_SMALL < read_size < READ_BULK - 1 else READ_SMALL

    def _read_more(self, data: bytes, read_size: int) -> bytes:
        """Many bytes came: ask for many from now on, and for some at once if few had been asked for."""
        self._read_size = _BULK
        if read_size != READ_SMALL:
            if len(data) == read_size:
                self._rearm()
            return data
        try:
            more = read(self._fd, READ_MEDIUM)
        except BlockingIOError:
            return data
        except OSError as error:  # is reported but once; ``data`` came before it
            self._poller.defer_close(self._fatal_error, error)
            return data
        if not 0 < len(more) < READ_MEDIUM:
            self._rearm()
        return data + more

    def _read_failed(self, error: OSError) -> None:
        if not isinstance(error, BlockingIOError):
            self._fatal_error(error)

    def failed(self, error: Exception) -> None:
        self._fatal_error(error)

    def _read_fin(self) -> None:
        self._reading = False
        self._fin_seen = True
        if not self._protocol.eof_received():
            self.close()

    def _end_while_paused(self, events: int) -> None:
        """Handle an end of the peer, certain or possible, while reading is paused."""
        if self._ended:
            return
        if events & ERROR and (code := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self._fatal_error(OSError(code, os.strerror(code)))
            return
        if not self._closing and not self._fin_seen:
            self._read_to_fin()

    def _read_to_fin(self) -> None:
        """Read the FIN and the bytes before it, although reading is paused, if these are not too many."""
        if self._in_kernel(termios.FIONREAD) > MAX_SALVAGE:
            self._fin_seen = True
            self._protocol.end_pending()
            return
        try:
            while data := read(self._fd, _SALVAGE):
                self._protocol.data_received(data)
                if self._closing:
                    return
        except OSError as error:
            self._read_failed(error)
        else:
            self._read_fin()

    def _in_kernel(self, request: int) -> int:
        """Return the bytes in the kernel's receive or send queue (tcp(7), FIONREAD and TIOCOUTQ); 0 if unknown."""
        try:
            return int(_INT.unpack(ioctl(self._fd, request, _ZERO))[0])
        except OSError:
            return 0

    def _register(self) -> None:
        """Have the poller call for the events that matter now."""
        events = _EVENTS | WRITE if self.get_write_buffer_size() else _EVENTS
        if events == self._registered:
            return
        try:
            if self._registered == _UNREGISTERED:
                self._poller.register(self._fd, self, events)
            else:
                self._poller.modify(self._fd, events)
        except OSError as error:  # the kernel has no more memory, or room
            self._fatal_error(error)
        else:
            self._registered = events

    def _rearm(self) -> None:
        """Have the poller call for bytes and ends that the kernel holds already."""
        if self._registered != _UNREGISTERED:
            try:
                self._poller.modify(self._fd, self._registered)
            except OSError as error:
                self._fatal_error(error)

    def forward_to(self, destination: Transport | None, observer: ByteObserver) -> None:
        self._destination = destination if isinstance(destination, TcpTransport) else None
        self._observer = observer

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._must_buffer:
            try:
                sent = write(self._fd, data)
            except OSError as error:
                self._write_failed(data, error)
            else:
                if sent != len(data):
                    self._buffer(data[sent:])
        elif data and not self._closing:
            self._buffer(data)

    def _write_failed(self, data: bytes | bytearray | memoryview, error: OSError) -> None:
        if isinstance(error, BlockingIOError):
            self._buffer(data)
        else:
            self._fatal_error(error)

    def _buffer(self, data: bytes | bytearray | memoryview) -> None:
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = _Waiting()
        waiting.parts.append(memoryview(bytes(data)))  # the caller may alter a bytearray
        waiting.size += len(data)
        self._must_buffer = True
        self._register()
        if not self._ended:  # it could be registered
            self._check_marks(waiting)

    def _check_marks(self, waiting: _Waiting) -> None:
        if waiting.size > self._high:
            if not waiting.is_much:
                waiting.is_much = True
                self._protocol.pause_writing()
        elif waiting.is_much and waiting.size <= self._high // 4:
            waiting.is_much = False
            if not self._closing:
                self._protocol.resume_writing()

    def _flush(self, waiting: _Waiting) -> None:
        parts = waiting.parts
        try:
            while parts:
                data = parts[0]
                sent = write(self._fd, data)
                waiting.size -= sent
                if sent != len(data):
                    parts[0] = data[sent:]
                    break
                parts.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            self._fatal_error(error)
            return
        if not parts:
            self._must_buffer = self._closing
            self._register()
            if self._closing:
                self._finish()
                return
        self._check_marks(waiting)

    def write_eof(self) -> None:
        try:
            self._sock.shutdown(_SHUT_WR)
        except OSError:
            return  # the connection is gone, which the next read reports

    def get_write_buffer_size(self) -> int:
        waiting = self._waiting
        return 0 if waiting is None else waiting.size

    def undelivered(self) -> int:
        return 0 if self._ended else self.get_write_buffer_size() + self._in_kernel(termios.TIOCOUTQ)

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high
        waiting = self._waiting
        if waiting is not None and waiting.size:
            self._check_marks(waiting)

    # Reading.

    def pause_reading(self) -> None:
        if self._reading and not self._closing:
            self._reading = False
            self._read_size = READ_SMALL

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._rearm()

    def is_reading(self) -> bool:
        return self._reading

    def read_remaining(self) -> Iterator[bytes]:
        left = MAX_SALVAGE
        try:
            while left > 0 and (data := read(self._fd, _SALVAGE)):
                left -= len(data)
                yield data
        except OSError:
            return  # nothing more, or the reset itself

    def idle_seconds(self) -> float:
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_END)
        except (OSError, AttributeError):
            return 0.0
        return int.from_bytes(info[_LAST_DATA_RECEIVED:_LAST_DATA_END], sys.byteorder) / 1000

    # The end.

    def close(self) -> None:
        if not self._closing:
            self._close()

    def reset(self) -> None:
        if not self._ended and not self._resetting:
            self._resetting = True
            if not self._closing:
                self._close()

    def _close(self) -> None:
        self._closing = self._must_buffer = True
        self._reading = False
        if self.get_write_buffer_size():
            self._register()
        else:
            self._finish()

    def _finish(self, poll: float = RESET_POLL) -> None:
        """Everything was written: close now or, with an RST, when everything was delivered."""
        if self._ended:
            return
        if not self._resetting:
            self._end(None)
        elif self._in_kernel(termios.TIOCOUTQ):
            asyncio.get_running_loop().call_later(poll, self._finish, min(2 * poll, MAX_RESET_POLL))
        else:
            self._fatal_error(None)

    def abort(self) -> None:
        self._fatal_error(None)

    def is_closing(self) -> bool:
        return self._closing

    def _fatal_error(self, error: Exception | None) -> None:
        """End it now with an RST, if it has not ended; bytes that wait are lost."""
        if self._ended:
            return
        self._closing = self._must_buffer = True
        self._reading = False
        self._waiting = None
        with suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        self._ended = True
        self._poller.defer_close(self._call_connection_lost, error)

    def _call_connection_lost(self, error: Exception | None) -> None:
        if self._registered != _UNREGISTERED:
            self._poller.drop(self._fd)
            self._registered = _UNREGISTERED
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
            self._protocol = _NO_PROTOCOL  # which leaves no cycle to the garbage collector
            self._destination = None

    # About it.

    def get_protocol(self) -> TransportProtocol:
        return self._protocol

    def set_protocol(self, protocol: TransportProtocol) -> None:
        self._protocol = protocol
        self._destination = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``socket``, ``peername`` or ``sockname`` as asyncio does; ``default`` if the peer has gone."""
        if name == "socket":
            return self._sock
        try:
            if name == "peername":
                return self._sock.getpeername()
            if name == "sockname":
                return self._sock.getsockname()
        except OSError:
            pass
        return default


class _Waiting:
    """Bytes that wait to be written.

    :ivar size: their number.
    :ivar is_much: whether the protocol has been asked to pause writing.
    """

    __slots__ = ("is_much", "parts", "size")

    def __init__(self) -> None:
        self.parts: deque[memoryview] = deque()
        self.size = 0
        self.is_much = False


_NO_PROTOCOL: Final = TransportProtocol()
