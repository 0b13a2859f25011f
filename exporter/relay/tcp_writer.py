"""The writing half of a TCP or Unix socket: at once as far as the kernel takes it; the rest waits."""

from __future__ import annotations

import os
import socket
from collections import deque
from socket import SocketType
from typing import Final

from mypy_extensions import mypyc_attr

from exporter.relay.kernel import unacknowledged
from exporter.relay.transport import Transport, TransportProtocol

#: The default high-water mark, asyncio's own.
HIGH_WATER: Final = 64 * 1024

# Once compiled, a name that is not final is looked up each time.
write: Final = os.write

# As plain integers, which need no detour over an enum.
_SHUT_WR: Final = int(socket.SHUT_WR)
#: Holds bytes back for a FIN that follows at once; the kernel waits for it 0.2 s at most (tcp(7), TCP_CORK).
_MORE: Final = int(socket.MSG_MORE)


@mypyc_attr(acyclic=True)
class WriteBuffer:
    """A queue of bytes, and whether it has been above its high-water mark.

    :ivar size: the number of bytes.
    :ivar is_much: they have been above the mark, and more than a quarter of it is left.
    """

    __slots__ = ("_parts", "is_much", "size")

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()
        self.size = 0
        self.is_much = False

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Queue a copy of ``data``: the caller may alter it, and a slice would keep the whole."""
        self._parts.append(memoryview(bytes(data)))
        self.size += len(data)

    def write_to(self, fd: int) -> None:
        """Write as much as the kernel takes. Raises OSError if the connection is gone."""
        parts = self._parts
        try:
            while parts:
                data = parts[0]
                sent = write(fd, data)
                self.size -= sent
                if sent != len(data):
                    parts[0] = data[sent:]
                    return
                parts.popleft()
        except BlockingIOError:
            return

    def passed(self, high: int) -> bool:
        """Return whether ``is_much`` has just changed, with the high-water mark at ``high`` bytes."""
        was_much = self.is_much
        self.is_much = self.size > high or (was_much and self.size > high // 4)
        return self.is_much != was_much


class TcpWriter(Transport):
    """A transport without its reading half."""

    __slots__ = (
        "_closing", "_ended", "_fd", "_fin_follows", "_high", "_must_buffer", "_protocol", "_sock", "_waiting"
    )  # fmt: skip

    def __init__(self, sock: SocketType, protocol: TransportProtocol) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._waiting: WriteBuffer | None = None  # to be written; kept once there has been some
        self._high = HIGH_WATER
        self._must_buffer = False  # something waits, or it is closing
        self._fin_follows = False  # behind the bytes written
        self._closing = False
        self._ended = False  # connection_lost was called or is about to be

    def _register(self) -> None:
        """Have the poller call for the events that matter now."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Close: everything was written."""
        raise NotImplementedError

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._must_buffer:
            try:
                sent = self._sock.send(data, _MORE) if self._fin_follows else write(self._fd, data)
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
            self.failed(error)

    def _buffer(self, data: bytes | bytearray | memoryview) -> None:
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = WriteBuffer()
        is_first = not waiting.size
        waiting.append(data)
        self._must_buffer = True
        if is_first:
            self._register()
        if not self._ended:  # it could be registered
            self._check_marks(waiting)

    def _check_marks(self, waiting: WriteBuffer) -> None:
        if not waiting.passed(self._high):
            return
        if waiting.is_much:
            self._protocol.pause_writing()
        elif not self._closing:
            self._protocol.resume_writing()

    def _flush(self, waiting: WriteBuffer) -> None:
        try:
            waiting.write_to(self._fd)
        except OSError as error:
            self.failed(error)
            return
        if not waiting.size:
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
        return 0 if self._ended else self.get_write_buffer_size() + unacknowledged(self._fd)

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high
        waiting = self._waiting
        if waiting is not None and waiting.size:
            self._check_marks(waiting)
