"""The app under load: ``python -m tests.load.app PORT``. See :mod:`tests.load.wire`."""

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


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.opened = False
        self.pending = b""
        self.received = 0
        self.sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self.pending + data
        if not self.opened:
            head, found, data = data.partition(b"\r\n\r\n")
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
