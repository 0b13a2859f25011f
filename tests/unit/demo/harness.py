"""Processes under test, connections to the chat, and a WebSocket server that records how its sessions end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.utils import accept_key

from tests.waiting import WAIT_LIMIT, eventually

ROOT = Path(__file__).parents[3]
CLOSE = 0x8


class Running:
    """A process that writes to a file."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        """Stdout and stderr until now."""
        return self._output.read_text()

    def prints(self, text: str, times: int = 1) -> None:
        """Wait until it has printed ``text`` that often."""
        eventually(
            lambda: self.output.count(text) >= times or self.process.poll() is not None,
            f"{text!r} in\n{self.output}",
        )
        assert self.output.count(text) >= times, self.output

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def status(self) -> int:
        """Wait for its end; return its exit status."""
        return self.process.wait(WAIT_LIMIT)

    def descendants(self) -> list[int]:
        """Return the process ids of its children, their children and so on."""
        found = [self.process.pid]
        for pid in found:
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found[1:]


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def running(output: Path, *command: str) -> Iterator[Running]:
    """Run ``python *command`` at the root of the project; on exit it has ended."""
    env = os.environ | {"TMPDIR": str(output.parent)}  # pytest removes files that a killed process leaves
    with output.open("wb") as sink:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=env, stdout=sink, stderr=subprocess.STDOUT)
    try:
        yield Running(process, output)
    finally:
        process.terminate()
        try:
            process.wait(WAIT_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


async def connect_to(port: int, path: str = "/chat") -> ClientConnection:
    """Open a session with the chat."""
    return await connect(f"ws://127.0.0.1:{port}{path}", proxy=None)


async def close_code(connection: ClientConnection) -> int:
    """Read until the session ends; return the close code, 1006 without a Close frame."""
    async with asyncio.timeout(WAIT_LIMIT):
        try:
            async for _ in connection:
                pass
        except ConnectionClosed:
            pass
        await connection.wait_closed()
    assert connection.close_code is not None
    return connection.close_code


@dataclass
class RecordingServer:
    """A WebSocket server that answers handshakes and Close frames.

    :ivar endings: for each session, the payload of the Close frame (None without one), and "fin" or "reset".
    :ivar may_answer: while it is not set, opening handshakes wait.
    :ivar requests: opening handshakes received.
    """

    port: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    requests: int = 0
    sessions: int = 0
    endings: list[tuple[bytes | None, str]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests += 1
        await self.may_answer.wait()
        lines = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept_key(lines['Sec-WebSocket-Key'])}\r\n\r\n".encode()
        )
        self.sessions += 1
        close: bytes | None = None
        try:
            while close is None:
                opcode, payload = await _read_frame(reader)
                if opcode == CLOSE:
                    close = payload
                    writer.write(bytes([0x80 | CLOSE, len(close)]) + close)
                    writer.write_eof()
            await reader.read()
            end = "fin"
        except asyncio.IncompleteReadError:
            end = "fin"
        except ConnectionResetError:
            end = "reset"
        self.endings.append((close, end))
        writer.close()


async def _read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return opcode and unmasked payload of a client's frame (RFC 6455, section 5.2)."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length > 125:
        length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8))
    mask = await reader.readexactly(4)
    payload = await reader.readexactly(length)
    return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


@asynccontextmanager
async def recording_server() -> AsyncIterator[RecordingServer]:
    """Run a recording server on a free loopback port."""
    recording = RecordingServer()
    recording.may_answer.set()
    server = await asyncio.start_server(recording.serve, "127.0.0.1", 0)
    recording.port = server.sockets[0].getsockname()[1]
    try:
        yield recording
    finally:
        server.close()
        await server.wait_closed()
