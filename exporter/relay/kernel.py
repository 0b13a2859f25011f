"""A socket in the kernel: its queues, its state, and the way it ends."""

from __future__ import annotations

import os
import socket
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from fcntl import ioctl
from socket import SocketType
from typing import Final

#: Bytes of one read in bulk: large reads cost least a byte.
READ_BULK: Final = 512 * 1024
#: Bytes of one read where few come: the largest result that Python's own allocator makes.
READ_SMALL: Final = 479
#: Bytes that are read next, at once, when a small read was full. A leg that was paused begins so again: bytes that wait
#: for a slow peer stay in our memory.
READ_MEDIUM: Final = 128 * 1024
#: Bytes that are still read from a peer that has ended, in spite of the other's slowness: a kernel's receive buffer.
MAX_SALVAGE = 1024 * 1024
#: Bytes of one read of a broken connection's receive queue.
CHUNK = 64 * 1024

_INT: Final = struct.Struct("i")
_ZERO: Final = bytes(_INT.size)
#: SO_LINGER: on, for no time. Closing sends an RST.
_NO_LINGER: Final = struct.pack("ii", 1, 0)

#: Where ``tcpi_last_data_recv`` stands in Linux' struct tcp_info, and its end: milliseconds since bytes last came.
_LAST_DATA_RECEIVED: Final = 52
_LAST_DATA_END: Final = 56


def unread(fd: int) -> int:
    """Return the bytes in the receive queue (tcp(7), FIONREAD); 0 if unknown."""
    return _queued(fd, termios.FIONREAD)


def unacknowledged(fd: int) -> int:
    """Return the bytes in the send queue (tcp(7), TIOCOUTQ); 0 if unknown."""
    return _queued(fd, termios.TIOCOUTQ)


def _queued(fd: int, request: int) -> int:
    try:
        return int(_INT.unpack(ioctl(fd, request, _ZERO))[0])
    except OSError:
        return 0


def read_up_to(fd: int, limit: int) -> Iterator[bytes]:
    """Read the receive queue, up to about ``limit`` bytes. Raises nothing."""
    left = limit
    try:
        while left > 0 and (data := os.read(fd, CHUNK)):
            left -= len(data)
            yield data
    except OSError:
        return  # nothing more, or the reset itself


def idle_seconds(sock: SocketType) -> float:
    """Return the seconds since bytes last came; 0 where the kernel does not say (a Unix socket, not Linux)."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_END)
    except (OSError, AttributeError):
        return 0.0
    return int.from_bytes(info[_LAST_DATA_RECEIVED:_LAST_DATA_END], sys.byteorder) / 1000


def pending_error(sock: SocketType) -> OSError | None:
    """Take the error that the kernel holds for the next call (socket(7), SO_ERROR)."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return OSError(code, os.strerror(code)) if code else None


def reset_at_close(sock: SocketType) -> None:
    """Have close(2) send an RST."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def raise_mmap_threshold(size: int) -> None:
    """Keep glibc from calling mmap(2) for each block of up to ``size`` bytes.

    glibc takes the size of a freed mmap block for its new threshold (mallopt(3), M_MMAP_THRESHOLD). Elsewhere this does
    nothing.
    """
    bytes(4 * size)
