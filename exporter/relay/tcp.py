"""One TCP (or Unix) connection of the relay, with a receiver on it: what asyncio calls a transport.

How it works
============
What an asyncio transport promises its protocol holds here as well: ``connection_made`` first, ``connection_lost`` once
and last, never from inside a call of the protocol's own; ``pause_writing`` above the high-water mark and
``resume_writing`` when a quarter of it is left. It is served by a :class:`~exporter.relay.poller.Poller` instead of the
event loop, and made for what the relay does nearly always: read once, write once, all of it, at once.

    ready ─► read(2) ─► protocol.data_received ─► (the other leg's) write ─► write(2)
    ready ─► read(2) ─► write(2) ─► ear.feed                          with a short cut to the other leg's

What the kernel does not take waits in a queue, copied so that what it did take is not kept along. From then until the
queue is empty writes go behind it (``_held`` is true, the one thing that the quick way looks at), and the poller tells
when there is room. In bulk one ``read`` asks for :data:`READ_BULK` bytes: fewer and larger ones cost least. Whoever has
been told to pause begins again with :data:`READ_SMALL`.

An error of the socket ends the connection with it. Its descriptor stays open until the protocol has been told, which
may still want what the kernel holds (:meth:`TcpTransport.read_remaining`).
"""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Iterator
from os import read, write
from socket import SocketType
from typing import Any, Final

from exporter.protocol.frames import ByteObserver
from exporter.relay.poller import READ, WRITE, Poller
from exporter.relay.transport import Transport, TransportProtocol

#: Bytes that are read at once where many come. In bulk, 256 KiB cost 2.7 times less a byte than 16 KiB, 512 KiB a tenth
#: less again (CPU time of messages of 1 MiB; the receiver's window is told anew half as often).
READ_BULK: Final = 512 * 1024
#: Bytes that are asked for where few come. A result of this size is made by Python's own allocator, which saves a fifth
#: of a read's instructions (callgrind); when as many come, :data:`READ_MEDIUM` are asked for at once.
READ_SMALL: Final = 479
#: Bytes that are asked for next when few had been, and as many came. Bulk begins so, and so it goes on when the other
#: peer could not take it: what waits for a peer that is slow stays in our memory.
READ_MEDIUM: Final = 128 * 1024
#: So many reads in a row must bring fewer than that first, for long messages have short tails.
SHORT_READS: Final = 10

_MANY: Final = READ_BULK - SHORT_READS  # asked for after bulk; one more after each short read since, which counts them

#: The default high-water mark, asyncio's own.
HIGH_WATER: Final = 64 * 1024
#: Bytes that are still read from a peer whose connection broke; the usual size of a kernel's receive buffer.
MAX_SALVAGE = 1024 * 1024

_SALVAGE = 64 * 1024  # bytes at a time

_SHUT_WR: Final = int(socket.SHUT_WR)  # as a plain number

#: Where ``tcpi_last_data_recv`` stands in Linux' struct tcp_info, and its end: milliseconds since bytes last came.
_LAST_DATA_RECEIVED: Final = 52
_END_OF_IT: Final = 56


def raise_mmap_threshold() -> None:
    """Have the C library keep :data:`READ_BULK` bytes at hand, from now on, instead of asking the kernel at every read.

    glibc serves what is above a threshold with mmap(2), and takes the size of such a block, once it is freed, for its
    new threshold (mallopt(3), M_MMAP_THRESHOLD). Elsewhere this does nothing.
    """
    bytes(4 * READ_BULK)


class TcpTransport(Transport):
    """A connected, non-blocking socket of which this is the owner from here on.

    :param poller: tells when it is ready.
    :param sock: the interpreter's own type of a socket, or the library's that stands on it, which does more.
    :param protocol: is told that the connection is made before this returns.
    """

    __slots__ = (
        "_asks",
        "_closing",
        "_dead",
        "_destination",
        "_ear",
        "_fd",
        "_held",
        "_high",
        "_poller",
        "_protocol",
        "_reading",
        "_sock",
        "_waiting",
        "_watched",
    )  # fmt: skip

    def __init__(self, poller: Poller, sock: SocketType, protocol: TransportProtocol) -> None:
        self._poller = poller
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._waiting: _Waiting | None = None  # to be written; kept once there has been some
        self._destination: TcpTransport | None = None  # a short cut for what is read, and who hears it then
        self._ear: ByteObserver
        self._held = False  # writes are not for the socket: something waits, or it is closing
        self._high = HIGH_WATER
        self._reading = True
        self._asks = READ_SMALL  # bytes, of the next read
        self._watched = 0  # what the poller tells us of
        self._closing = False
        self._dead = False  # the protocol has been told of the end, or is about to be
        protocol.connection_made(self)
        if self._reading:
            self._watch()

    # From the poller.

    def ready(self, events: int) -> None:
        """See :class:`~exporter.relay.poller.Pollable`."""
        if events != READ:
            self._ready(events)
            return
        onto = self._destination
        if onto is None or onto._held or not self._reading:
            self._hand_over()
            return
        asks = self._asks
        try:  # it is _hand_over(), onto.write(data) and what data_received would do, without the calls
            data = read(self._fd, asks)
        except OSError as error:
            self._not_read(error)
            return
        size = len(data)
        if size < READ_SMALL:
            if asks != READ_SMALL:
                self._ask_for_less(asks)
            if not size:
                self._read_fin()
                return
        elif asks != _MANY:
            data = self._read_on(data, asks)
            size = len(data)
        try:
            sent = write(onto._fd, data)
        except OSError as error:
            onto._not_written(data, error)
        else:
            if sent != size:
                onto._wait(data[sent:])
        try:
            heard = self._ear.feed(data, self._poller.now)
        except Exception as error:
            self._protocol.observing_failed(error)
        else:
            if heard is not None:
                self._protocol.heard(heard)

    def _ready(self, events: int) -> None:
        if events != WRITE:  # bytes, or an error or hang-up, which reading tells
            self._hand_over()
        waiting = self._waiting
        if events != READ and waiting is not None and waiting.size:
            self._flush(waiting)

    def _hand_over(self) -> None:
        """Read, and have the protocol take it."""
        if not self._reading:
            return
        asks = self._asks
        try:
            data = read(self._fd, asks)
        except OSError as error:
            self._not_read(error)
            return
        if len(data) < READ_SMALL:
            self._ask_for_less(asks)
        elif asks != _MANY:
            data = self._read_on(data, asks)
        if data:
            self._protocol.data_received(data)
        else:
            self._read_fin()

    def _ask_for_less(self, asks: int) -> None:
        """Few bytes came: if that goes on, few will be asked for."""
        self._asks = asks + 1 if READ_SMALL < asks < READ_BULK - 1 else READ_SMALL

    def _read_on(self, data: bytes, asked: int) -> bytes:
        """Many bytes came: ask for many from now on, and for some at once if few had been asked for."""
        self._asks = _MANY
        if asked != READ_SMALL:
            return data
        try:
            return data + read(self._fd, READ_MEDIUM)
        except BlockingIOError:
            pass
        except OSError as error:  # is told but once; ``data`` came before it
            self._poller.defer_close(self._fatal_error, error)
        return data

    def _not_read(self, error: OSError) -> None:
        if not isinstance(error, BlockingIOError):
            self._fatal_error(error)

    def failed(self, error: Exception) -> None:
        """See :class:`~exporter.relay.poller.Pollable`."""
        self._fatal_error(error)

    def _read_fin(self) -> None:
        self._reading = False
        if not self._protocol.eof_received():
            self.close()
        elif not self._closing:
            self._watch()

    def _watch(self) -> None:
        """Be told of what matters now."""
        events = READ if self._reading else 0
        if self.get_write_buffer_size():
            events |= WRITE
        if events == self._watched:
            return
        try:
            if not self._watched:
                self._poller.watch(self._fd, self, events)
            elif events:
                self._poller.change(self._fd, events)
            else:
                self._poller.forget(self._fd)
        except OSError as error:  # the kernel has no more memory, or room, for what is watched
            self._fatal_error(error)
        else:
            self._watched = events

    def forward_to(self, to: Transport | None, ear: ByteObserver) -> None:
        self._destination = to if isinstance(to, TcpTransport) else None
        self._ear = ear

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._held:
            try:
                sent = write(self._fd, data)
            except OSError as error:
                self._not_written(data, error)
            else:
                if sent != len(data):
                    self._wait(data[sent:])
        elif data and not self._closing:
            self._wait(data)

    def _not_written(self, data: bytes | bytearray | memoryview, error: OSError) -> None:
        if isinstance(error, BlockingIOError):
            self._wait(data)
        else:
            self._fatal_error(error)

    def _wait(self, data: bytes | bytearray | memoryview) -> None:
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = _Waiting()
        waiting.parts.append(memoryview(bytes(data)))  # whoever wrote it may alter it
        waiting.size += len(data)
        self._held = True
        self._watch()
        if not self._dead:  # it could be watched
            self._look_at_size(waiting)

    def _look_at_size(self, waiting: _Waiting) -> None:
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
            self._held = self._closing
            self._watch()
            if self._closing:
                self._end(None)
                return
        self._look_at_size(waiting)

    def write_eof(self) -> None:
        try:
            self._sock.shutdown(_SHUT_WR)
        except OSError:
            return  # the connection is gone, which the next read tells

    def get_write_buffer_size(self) -> int:
        waiting = self._waiting
        return 0 if waiting is None else waiting.size

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high
        waiting = self._waiting
        if waiting is not None and waiting.size:
            self._look_at_size(waiting)

    # Reading.

    def pause_reading(self) -> None:
        if self._reading and not self._closing:
            self._reading = False
            self._asks = READ_SMALL
            self._watch()

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._watch()

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
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _END_OF_IT)
        except (OSError, AttributeError):
            return 0.0
        return int.from_bytes(info[_LAST_DATA_RECEIVED:_END_OF_IT], sys.byteorder) / 1000

    # The end.

    def close(self) -> None:
        if not self._closing:
            self._closing = self._held = True
            self._reading = False
            if self.get_write_buffer_size():
                self._watch()
            else:
                self._end(None)

    def abort(self) -> None:
        self._fatal_error(None)

    def is_closing(self) -> bool:
        return self._closing

    def _fatal_error(self, error: Exception | None) -> None:
        """End it now; what waits is lost."""
        self._closing = self._held = True
        self._reading = False
        self._waiting = None
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        if not self._dead:
            self._dead = True
            self._poller.defer_close(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        if self._watched:
            self._poller.drop(self._fd)
            self._watched = 0
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
            self._protocol = _NOBODY  # which leaves no cycle to the garbage collector
            self._destination = None

    # About it.

    def get_protocol(self) -> TransportProtocol:
        return self._protocol

    def set_protocol(self, protocol: TransportProtocol) -> None:
        self._protocol = protocol
        self._destination = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``socket``, ``peername`` and ``sockname``, as asyncio has them; ``default`` if the peer has gone already."""
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
    """What waits to be written.

    :ivar size: its bytes.
    :ivar is_much: whether the protocol has been asked to pause writing.
    """

    __slots__ = ("is_much", "parts", "size")

    def __init__(self) -> None:
        self.parts: deque[memoryview] = deque()
        self.size = 0
        self.is_much = False


_NOBODY: Final = TransportProtocol()
