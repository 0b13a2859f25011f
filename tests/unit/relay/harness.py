"""Hand-written peers for the relay's tests: raw TCP clients and apps on loopback, and an observer that writes down.

Everything waits for a condition with a deadline; nothing sleeps in the hope that it was long enough.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import uvloop

from exporter.address import Address
from exporter.protocol.classify import Ending
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.enums import ConnectError, Peer, Unobserved
from exporter.protocol.frames import new_frame_counts
from exporter.protocol.http1_parser import Request
from exporter.protocol.session import Session
from exporter.relay.client_connection import Limits
from exporter.relay.events import Opening
from exporter.relay.server import Relay
from exporter.relay.transport import Transport
from exporter.relay.tunnel import EarlyData, Engine, PythonEngine, SessionListener, Splice
from exporter.relay.upstream import Upstream
from tests.waiting import PATIENCE, until
from tests.wire import KEY, close

REQUEST = (
    b"GET /chat HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def on_uvloop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on uvloop; it fails if anything was raised where nobody waited for it."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        unexpected: list[dict[str, Any]] = []

        async def guarded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: unexpected.append(context))
            async with asyncio.timeout(2 * PATIENCE):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(guarded())
        assert not unexpected, unexpected

    return run


class Wire:
    """One end of a TCP connection, on a plain non-blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock

    async def send(self, *segments: bytes) -> None:
        """Send each segment by itself."""
        loop = asyncio.get_running_loop()
        for segment in segments:
            if segment:
                async with asyncio.timeout(PATIENCE):
                    await loop.sock_sendall(self.sock, segment)
                await asyncio.sleep(0)

    async def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes; fewer only if TCP ended before."""
        loop = asyncio.get_running_loop()
        parts: list[bytes] = []
        left = size
        async with asyncio.timeout(PATIENCE):
            while left and (data := await loop.sock_recv(self.sock, min(left, 1 << 18))):
                parts.append(data)
                left -= len(data)
        return b"".join(parts)

    async def rest(self) -> bytes:
        """Everything up to the end of TCP; raises ConnectionResetError if it was a reset."""
        return await self.read(1 << 60)

    async def expect(self, data: bytes) -> None:
        """Read ``data``, and fail on anything else."""
        got = await self.read(len(data))
        assert got == data, f"{got[:200]!r} instead of {data[:200]!r}"

    async def head(self) -> bytes:
        """One HTTP head."""
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            byte = await self.read(1)
            assert byte, f"TCP ended after {got!r}"
            got += byte
        return got

    def is_silent(self) -> bool:
        """Whether nothing lies ready to be read: no byte, no end."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def fin(self) -> None:
        """Send no more."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """End with FIN, or RST if something was left unread."""
        self.sock.close()


async def ended(wire: Wire) -> bytes:
    """Everything up to the end of TCP, reset or not."""
    got = b""
    try:
        while data := await wire.read(1):
            got += data
    except ConnectionResetError:
        pass
    return got


class App:
    """A listening socket; the test says what it does with each connection."""

    def __init__(self, port: int = 0) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", port))
        self.sock.listen(128)
        self.sock.setblocking(False)
        self.address = Address("127.0.0.1", self.sock.getsockname()[1])

    async def accept(self) -> Wire:
        """The next connection."""
        async with asyncio.timeout(PATIENCE):
            sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        return Wire(sock)

    def stop(self) -> None:
        """Accept no more, as a process that is gone."""
        self.sock.close()


@dataclass
class Watched:
    """What was told of one session."""

    told: Observed
    opening: Opening
    session: Session
    endings: list[Ending] = field(default_factory=list)
    lost: list[Unobserved] = field(default_factory=list)

    def unobserved(self, reason: Unobserved, why: str) -> None:
        self.lost.append(reason)
        self.told.check("unobserved")

    def ping_answered(self, sender: Peer, seconds: float) -> None:
        """Not looked at here."""

    def closed(self, ending: Ending, now: float) -> None:
        self.endings.append(ending)
        self.told.check("closed")

    @property
    def ending(self) -> Ending:
        """The one ending."""
        (ending,) = self.endings
        return ending


@dataclass
class Observed:
    """An observer that writes everything down. ``failing`` names calls that raise, after they were written down."""

    sessions: list[Watched] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    aborts: int = 0
    lost: list[Unobserved] = field(default_factory=list)
    connect_errors: list[ConnectError] = field(default_factory=list)
    defects: list[Exception] = field(default_factory=list)
    pauses: list[str] = field(default_factory=list)
    tls_failures: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)

    def check(self, call: str) -> None:
        if call in self.failing:
            raise RuntimeError(f"a defect in {call}")

    def opened(self, opening: Opening) -> Watched:
        self.check("opened")
        watched = Watched(self, opening, Session(CloseCodeMap(), new_frame_counts(), new_frame_counts(), monotonic()))
        self.sessions.append(watched)
        return watched

    def refused(self, request: Request, status: int, seconds: float) -> None:
        self.refusals.append(status)
        self.check("refused")

    def aborted(self, request: Request) -> None:
        self.aborts += 1
        self.check("aborted")

    def unobserved(self, reason: Unobserved, why: str) -> None:
        self.lost.append(reason)
        self.check("unobserved")

    def connect_failed(self, error: ConnectError, why: str) -> None:
        self.connect_errors.append(error)
        self.check("connect_failed")

    def accept_paused(self, why: str) -> None:
        self.pauses.append(why)
        self.check("accept_paused")

    def tls_failed(self, why: str) -> None:
        self.tls_failures.append(why)
        self.check("tls_failed")

    def defect(self, error: Exception) -> None:
        self.defects.append(error)
        self.check("defect")

    @property
    def endings(self) -> list[Ending]:
        """Every ending told, in the order of the sessions."""
        return [ending for watched in self.sessions for ending in watched.endings]


class Handed:
    """An engine that hands sessions on to another, and keeps which transports it was handed."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.transports: dict[Peer, Transport] = {}
        self._engine = engine

    def take(
        self, client: Transport, server: Transport, session: Session, early: EarlyData, listener: SessionListener
    ) -> Splice:
        """See :class:`Engine`."""
        self.transports = {Peer.CLIENT: client, Peer.SERVER: server}
        return self._engine.take(client, server, session, early, listener)


@dataclass
class Bench:
    """A relay with an app behind it."""

    relay: Relay
    app: App
    told: Observed
    port: int

    async def client(self, receive_buffer: int = 0) -> Wire:
        """A connected client."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return Wire(sock)

    async def pair(self, receive_buffer: int = 0) -> tuple[Wire, Wire]:
        """A client, and the app's end of its connection."""
        client = await self.client(receive_buffer)
        return client, await self.app.accept()

    async def session(self, receive_buffer: int = 0) -> tuple[Wire, Wire, Watched]:
        """A session that is open."""
        client, server = await self.pair(receive_buffer)
        already = len(self.told.sessions)
        await client.send(REQUEST)
        await server.expect(REQUEST)
        await server.send(SWITCH)
        await client.expect(SWITCH)
        await until(lambda: len(self.told.sessions) > already, "the session is opened")
        return client, server, self.told.sessions[already]

    async def quiet(self) -> None:
        """Wait until nobody is connected and everything has been told."""
        await until(lambda: self.relay.is_quiet, "the relay is quiet")

    async def ending(self, watched: Watched) -> Ending:
        """The ending of a session, once it is told."""
        await until(lambda: watched.endings, "the ending is told")
        return watched.ending


@asynccontextmanager
async def bench(
    engine: Engine | None = None,
    limits: Limits | None = None,
    close_timeout: float = PATIENCE,
    app: App | None = None,
    upstream: Upstream | None = None,
) -> AsyncIterator[Bench]:
    """A relay between this test's clients and its app; at its end everything is closed and nothing is left."""
    app = app or App()
    told = Observed()
    upstream = upstream or Upstream(app.address)
    relay = Relay(upstream, told, engine or PythonEngine(), limits or Limits(), close_timeout)
    port = await relay.listen("127.0.0.1", 0)
    made = Bench(relay, app, told, port)
    try:
        yield made
    finally:
        relay.close_all()
        await upstream.close()
        with suppress(OSError):
            app.stop()
        await made.quiet()


async def closes(client: Wire, server: Wire, code: int = 1001) -> float:
    """A client and an app that behave: the Close is answered by both, the app ends TCP, then the client.

    Returns when the client read the Close, in the loop's time.
    """
    await client.expect(close(code))
    told = asyncio.get_running_loop().time()
    await client.send(close(code, mask=KEY))
    await server.expect(close(code, mask=KEY))
    await server.send(close(code))
    server.close()
    assert await client.rest() == b""
    client.close()
    return told
