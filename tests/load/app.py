"""The app under load: ``python -m tests.load.app PORT``. See :mod:`tests.load.wire`.

For hostile clients (:mod:`tests.load.hostile`) it behaves by the path of the first request:

    /mute       reads on and answers nothing           /drop, /reset  end TCP at the first frame
    /sink       answers 101, reads on                  /page          HTTP 500 at the first frame
    /unread     answers 101, reads nothing             /leave         answers a Close, leaves TCP open
    /flood      answers 101, sends 8 MiB               /twice, /body  101 twice, or with a body
                                                       /trailers      a body with endless trailers
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast
from zlib import crc32

import uvloop

from tests.e2e.harness.wire import switching_protocols
from tests.load.wire import BAD, CLIENT_FRAME, GOOD, SERVER_HEAD, SIZE, checksum, server_close

_ANSWER = switching_protocols()
_FILLER = bytes(SIZE - 4)
#: Bytes of a head that is read.
_MAX_HEAD = 128 * 1024

_PAGE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops"
#: Sent in answer to the first request's head, by path; the rest of the bytes are ignored.
_ANSWERS = {
    b"/mute": b"",
    b"/sink": _ANSWER,
    b"/unread": _ANSWER,
    b"/flood": _ANSWER + b"\x82\x7f" + (8 << 20).to_bytes(8) + bytes(8 << 20),
    b"/drop": _ANSWER,
    b"/reset": _ANSWER,
    b"/page": _ANSWER,
    b"/leave": _ANSWER,
    b"/twice": _ANSWER * 2,
    b"/body": _ANSWER.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"),
    b"/trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 100_000,
}


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.opened = False
        self.path = b""  # of a hostile client
        self.pending = b""
        self.received = 0
        self.sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.path:
            self._misbehave(data)
            return
        data = self.pending + data
        if not self.opened:
            head, found, data = data.partition(b"\r\n\r\n")
            path = head.partition(b" ")[2].partition(b" ")[0]
            if path in _ANSWERS or len(head) > _MAX_HEAD:
                self._begin(path if path in _ANSWERS else b"/mute", data)
                return
            if not found:
                self.pending = head
                return
            self.opened = True
            self.transport.write(_ANSWER)
        while len(data) > 6:
            if data[0] == 0x88:
                if len(data) >= 6 + (data[1] & 0x7F):
                    self._close(data)
                break
            if len(data) < CLIENT_FRAME:
                break
            self.received = crc32(data[:CLIENT_FRAME], self.received)
            data = data[CLIENT_FRAME:]
            answer = SERVER_HEAD + checksum(self.received) + _FILLER
            self.sent = crc32(answer, self.sent)
            self.transport.write(answer)
        self.pending = data

    def _begin(self, path: bytes, data: bytes) -> None:
        """Answer a hostile client."""
        self.path, self.pending = path, b""
        self.transport.write(_ANSWERS[path])
        if path == b"/unread":
            self.transport.pause_reading()
        elif data:
            self._misbehave(data)

    def _misbehave(self, data: bytes) -> None:
        if self.path == b"/drop":
            self.transport.close()
        elif self.path == b"/reset":
            self.transport.abort()
        elif self.path == b"/page":
            self.transport.write(_PAGE)
            self.transport.close()
        elif self.path == b"/leave":
            self.transport.write(server_close(GOOD))

    def eof_received(self) -> bool:
        return self.path in (b"/leave", b"/unread")

    def _close(self, data: bytes) -> None:
        reason = data[8 : 6 + (data[1] & 0x7F)]
        good = len(reason) != 4 or reason == checksum(self.sent)  # other reasons are for the sidecar to see
        self.transport.write(server_close(GOOD if good else BAD))
        self.transport.close()


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Session, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
