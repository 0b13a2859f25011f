"""A WebSocket server of a page: it answers handshakes and Close frames, and remembers how visits ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.utils import accept_key

CLOSE = 0x8


@dataclass
class Listener:
    """``endings``: per visit that ended, the Close frame's body (None for none) and how TCP ended.

    While ``door`` is not set, who asks to come in is left waiting; ``asked`` counts them.
    """

    port: int = 0
    door: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0
    visits: int = 0
    endings: list[tuple[bytes | None, str]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked += 1
        await self.door.wait()
        lines = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept_key(lines['Sec-WebSocket-Key'])}\r\n\r\n".encode()
        )
        self.visits += 1
        close: bytes | None = None
        try:
            while close is None:
                opcode, payload = await read_frame(reader)
                if opcode == CLOSE:
                    close = payload
                    writer.write(bytes([0x80 | CLOSE, len(close)]) + close)
                    writer.write_eof()
            await reader.read()
            how = "fin"
        except asyncio.IncompleteReadError:
            how = "fin"
        except ConnectionResetError:
            how = "reset"
        self.endings.append((close, how))
        writer.close()


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Opcode and unmasked payload of one client's frame (RFC 6455, section 5.2)."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length > 125:
        length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8))
    mask = await reader.readexactly(4)
    payload = await reader.readexactly(length)
    return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    """A listener on a free port of loopback, its door open."""
    listener = Listener()
    listener.door.set()
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()
        await server.wait_closed()
