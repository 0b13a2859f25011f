"""Raw peers: sockets that do exactly what a test says, and the few bytes of RFC 6455 that they need."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator

from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from tests.waiting import WAIT_LIMIT

KEY = base64.b64encode(bytes(range(16))).decode()
"""Sec-WebSocket-Key of every raw client."""


def upgrade_request(path: str = "/", extra: str = "") -> bytes:
    """The client's opening handshake (RFC 6455, section 4.1); `extra` are whole header lines."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: app.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    ).encode()


def switching_protocols(extra: str = "") -> bytes:
    """The server's answer (RFC 6455, section 4.2.2); `extra` are whole header lines."""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(KEY)}\r\n{extra}\r\n"
    ).encode()


def frame(opcode: Opcode, payload: bytes, *, masked: bool, fin: bool = True) -> bytes:
    """One frame on the wire; clients mask (RFC 6455, section 5.3)."""
    return Frame(opcode, payload, fin=fin).serialize(mask=masked)


def close_frame(code: int, reason: str = "", *, masked: bool) -> bytes:
    """A Close frame with a status code (RFC 6455, section 5.5.1)."""
    return frame(Opcode.CLOSE, struct.pack("!H", code) + reason.encode(), masked=masked)


def server_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split unmasked frames into (opcode, payload); an unfinished one at the end is left out."""
    at = 0
    while len(data) - at >= 2:
        opcode, size, head = data[at] & 0x0F, data[at + 1] & 0x7F, 2
        if size == 126:
            size, head = int.from_bytes(data[at + 2 : at + 4]), 4
        elif size == 127:
            size, head = int.from_bytes(data[at + 2 : at + 10]), 10
        if at + head + size > len(data):
            return
        yield opcode, data[at + head : at + head + size]
        at += head + size


class Peer:
    """One end of a TCP connection, used as the test says. Every wait has a deadline (TimeoutError)."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        self.socket = sock
        self.socket.settimeout(WAIT_LIMIT)
        if sock.family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ahead = b""

    @classmethod
    def connect(cls, port: int, *, receive_buffer: int | None = None) -> Peer:
        """Connect to a loopback port; a small `receive_buffer` (bytes) makes a slow reader felt soon."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(WAIT_LIMIT)
        sock.connect(("127.0.0.1", port))
        return cls(sock)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def some(self) -> bytes:
        """The next bytes; b"" at the end of the peer's data. ConnectionResetError on a reset."""
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        return self.socket.recv(1 << 18)

    def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`; what lies behind it stays for the next call."""
        data = b""
        while mark not in data:
            more = self.some()
            if not more:
                raise AssertionError(f"the peer ended before {mark!r}; it sent {data[:200]!r}")
            data += more
        end = data.index(mark) + len(mark)
        self._ahead = data[end:]
        return data[:end]

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        data = bytearray()
        while len(data) < count:
            more = self.some()
            if not more:
                raise AssertionError(f"the peer ended after {len(data)} of {count} bytes")
            data += more
        self._ahead = bytes(data[count:])
        return bytes(data[:count])

    def rest(self) -> bytes:
        """Everything up to the end of the peer's data, by FIN or by reset."""
        data = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while more := self.some():
                data += more
        return bytes(data)

    def handshake(self, path: str = "/", extra: str = "") -> bytes:
        """Open a WebSocket; return the head of the answer, which must be a 101."""
        self.send(upgrade_request(path, extra))
        head = self.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return head

    def accept_handshake(self, extra: str = "") -> bytes:
        """Be the app: read one request's head, answer 101, return the head."""
        head = self.until(b"\r\n\r\n")
        self.send(switching_protocols(extra))
        return head

    def half_close(self) -> None:
        """Say that nothing more will be sent (FIN); reading goes on."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """End the connection with FIN (or RST, if unread bytes are left)."""
        self.socket.close()


class RawApp:
    """An app that is the test itself: it listens, and the test plays the server's part on each connection."""

    def __init__(self, port: int, *, path: str | None = None) -> None:
        """Listen on a loopback port or, with a `path`, on a Unix socket.

        `silent` counts the connections on which nobody said anything.
        """
        self.port = port
        self.silent = 0
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", port))
        else:
            self._listener = socket.create_server(path, family=socket.AF_UNIX)
        self._listener.settimeout(WAIT_LIMIT)

    def accept(self) -> Peer:
        """The next connection on which a client said something; those that end in silence are probes."""
        while True:
            sock, _ = self._listener.accept()
            sock.settimeout(WAIT_LIMIT)
            if sock.recv(1, socket.MSG_PEEK):
                return Peer(sock)
            self.silent += 1
            sock.close()

    def accept_silent(self) -> Peer:
        """The next connection that stays while nobody says anything; probes and clients long gone do not."""
        while True:
            sock, _ = self._listener.accept()
            sock.settimeout(0.5)
            try:
                assert not sock.recv(1), "a client that speaks first"
            except TimeoutError:
                return Peer(sock)
            sock.close()

    def close(self) -> None:
        """Stop listening; connections live on."""
        self._listener.close()


class Sender(threading.Thread):
    """Sends from a thread of its own, counting what the kernel took."""

    def __init__(self, peer: Peer, data: bytes, times: int = 1) -> None:
        """Offer `data`, `times` over, to the peer's socket; start() begins."""
        super().__init__(daemon=True)
        self.taken = 0
        self.offered = len(data) * times
        self._peer, self._data, self._times = peer, data, times

    def run(self) -> None:
        """Send until done or until the connection ends."""
        with contextlib.suppress(OSError):
            for _ in range(self._times):
                view = memoryview(self._data)
                while view:
                    count = self._peer.socket.send(view)
                    self.taken += count
                    view = view[count:]


def random_segments(data: bytes) -> Iterator[bytes]:
    """Cut `data` into odd pieces: 1, 3, 7, ... bytes up to large primes, over and over."""
    sizes = (1, 3, 7, 125, 1449, 16_381, 65_537, 131_071)
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at += size
        turn += 1


def noise(count: int) -> bytes:
    """Bytes that no compressor and no luck can shorten."""
    return os.urandom(count)
