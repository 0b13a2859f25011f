"""Hand-written peers for the relay's tests: raw TCP clients and apps on loopback, and the observer's end.

Everything waits for a condition with a deadline; nothing sleeps in the hope that it was long enough.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from exporter.address import Address
from exporter.protocol.classify import classify
from exporter.protocol.client_identity import KEY_SIZE, identity_source
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.counters import STATUSES, RelayLayout
from exporter.protocol.enums import Cause, ConnectError, Peer, Unobserved
from exporter.protocol.evidence import Circumstances
from exporter.protocol.labels import Router
from exporter.protocol.messages import MAX_MESSAGE, Kind, Notice, Opened, decode
from exporter.protocol.record import SessionRecord
from exporter.protocol.session import Session
from exporter.relay.context import Limits, RelayContext
from exporter.relay.reporter import Reporter
from exporter.relay.server import Relay
from exporter.relay.tunnel import Tunnel
from exporter.relay.upstream import Upstream
from tests.waiting import WAIT_LIMIT, until
from tests.wire import KEY, close

REQUEST = (
    b"GET /chat HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


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
                async with asyncio.timeout(WAIT_LIMIT):
                    await loop.sock_sendall(self.sock, segment)
                await asyncio.sleep(0)

    async def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes; fewer only if TCP ended before."""
        loop = asyncio.get_running_loop()
        parts: list[bytes] = []
        left = size
        async with asyncio.timeout(WAIT_LIMIT):
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
        async with asyncio.timeout(WAIT_LIMIT):
            sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        return Wire(sock)

    def stop(self) -> None:
        """Accept no more, as a process that is gone."""
        self.sock.close()


class Ended(NamedTuple):
    """How a session ended, as far as the relay's tests look at it."""

    code: str
    cause: Cause
    initiator: Peer
    clean: bool
    reason: str = ""
    close_unanswered: bool = False


class Watched:
    """One session: itself while it is open, and its records."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self.records: list[SessionRecord] = []
        self.tunnel: Tunnel

    @property
    def session(self) -> Session:
        """The session's state."""
        return self.tunnel.session

    @property
    def endings(self) -> list[Ended]:
        """How it ended, for an app that still accepts connections: one at most, or something is wrong."""
        self._observed.receive()
        found = [classify(record, Circumstances(app_accepts=True), CloseCodeMap()) for record in self.records]
        return [Ended(e.code, e.cause, e.initiator, e.clean, e.reason, e.close_unanswered) for e in found]

    @property
    def ending(self) -> Ended:
        """The one ending."""
        (ending,) = self.endings
        return ending


class Observed:
    """The observer's end: what the cells say and the messages bring."""

    def __init__(self, identity_key: bytes = bytes(KEY_SIZE), routes: Sequence[str] = ()) -> None:
        router = Router(routes)
        self.layout = RelayLayout(len(router.names))
        self.cells = memoryview(array("q", bytes(8 * self.layout.size)))
        relays, self.messages = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (relays, self.messages):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.relays = relays
        self.blocks = [self.cells]
        self.reporter = Reporter(
            0, relays, self.cells, self.layout, self.blocks, router, identity_source("address"), identity_key
        )
        self.context: RelayContext
        self.notices: list[Notice] = []
        self.opened: list[Opened] = []
        self.flushed = 0
        self._watched: dict[int, Watched] = {}

    def receive(self) -> None:
        """Take in every message, and every session that is open."""
        for tunnel in self.context.sessions:
            self._watch(tunnel.session.record.number).tunnel = tunnel
        with suppress(BlockingIOError):
            while message := self.messages.recv(MAX_MESSAGE):
                match decode(message):
                    case SessionRecord() as record:
                        self._watch(record.number).records.append(record)
                    case Notice() as notice:
                        self.notices.append(notice)
                    case Kind.FLUSHED:
                        self.flushed += 1
                    case list() as opened:
                        self.opened += opened

    def _watch(self, number: int) -> Watched:
        return self._watched.setdefault(number, Watched(self))

    @property
    def sessions(self) -> list[Watched]:
        """Every session so far, in the order in which they opened."""
        self.receive()
        return [self._watched[number] for number in sorted(self._watched)]

    def forget(self) -> None:
        """Keep nothing of the sessions so far."""
        self.receive()
        self._watched.clear()

    @property
    def endings(self) -> list[Ended]:
        """Every ending, in the order of the sessions."""
        return [ending for watched in self.sessions for ending in watched.endings]

    def _handshakes(self, status: str) -> int:
        return sum(self.cells[route.handshakes + STATUSES.index(status)] for route in self.layout.routes)

    @property
    def accepted(self) -> int:
        """Handshakes that were answered with 101."""
        return self._handshakes("101")

    @property
    def refusals(self) -> list[int]:
        """Statuses of handshakes that were answered otherwise."""
        return [int(s) for s in STATUSES if s.isdigit() and s != "101" for _ in range(self._handshakes(s))]

    @property
    def aborts(self) -> int:
        """Handshakes without an answer."""
        return self._handshakes("aborted")

    @property
    def lost(self) -> list[Unobserved]:
        """Why connections are not observed, but for defects."""
        cells = self.layout.unobserved
        return [why for why in Unobserved if why is not Unobserved.INTERNAL for _ in range(self.cells[cells[why]])]

    @property
    def connect_errors(self) -> list[ConnectError]:
        """Why connections to the app failed."""
        return [error for error, cell in self.layout.connect_errors.items() for _ in range(self.cells[cell])]

    def noticed(self, event: str) -> list[dict[str, object]]:
        """The fields of the notices of one event."""
        self.receive()
        return [notice.fields for notice in self.notices if notice.event == event]

    @property
    def defects(self) -> list[str]:
        """Names of the errors that were kept from the traffic; notices of one name are rate-limited."""
        names = [str(fields["reason"]) for fields in self.noticed("exporter.defect")]
        assert len(names) <= self.cells[self.layout.unobserved[Unobserved.INTERNAL]]
        return names


@dataclass
class Bench:
    """A relay with an app behind it."""

    relay: Relay
    app: App
    observed: Observed
    port: int

    async def client(self, receive_buffer: int = 0) -> Wire:
        """A connected client."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        async with asyncio.timeout(WAIT_LIMIT):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return Wire(sock)

    async def pair(self, receive_buffer: int = 0) -> tuple[Wire, Wire]:
        """A client, and the app's end of its connection."""
        client = await self.client(receive_buffer)
        return client, await self.app.accept()

    async def session(self, receive_buffer: int = 0) -> tuple[Wire, Wire, Watched]:
        """A session that is open."""
        client, server = await self.pair(receive_buffer)
        already = len(self.observed.sessions)
        await client.send(REQUEST)
        await server.expect(REQUEST)
        await server.send(SWITCH)
        await client.expect(SWITCH)
        await until(lambda: len(self.observed.sessions) > already, "the session is opened")
        return client, server, self.observed.sessions[already]

    async def quiet(self) -> None:
        """Wait until nobody is connected and everything has been told."""
        await until(lambda: self.relay.context.is_quiet, "the relay is quiet")

    async def ending(self, watched: Watched) -> Ended:
        """The ending of a session, once it is told."""
        await until(lambda: watched.endings, "the ending is told")
        return watched.ending


@asynccontextmanager
async def bench(
    limits: Limits | None = None,
    close_timeout: float = WAIT_LIMIT,
    app: App | None = None,
    upstream: Upstream | None = None,
) -> AsyncIterator[Bench]:
    """A relay between this test's clients and its app; at its end everything is closed and nothing is left."""
    app = app or App()
    observed = Observed()
    upstream = upstream or Upstream(app.address)
    relay = Relay(upstream, observed.reporter, limits or Limits(), close_timeout)
    observed.context = relay.context
    observed.reporter.start(relay.context)
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = listening.getsockname()[1]
    relay.listen([listening])
    made = Bench(relay, app, observed, port)
    try:
        yield made
    finally:
        relay.close_all()
        with suppress(OSError):
            app.stop()
        await made.quiet()
        observed.reporter.stop()
        observed.relays.close()
        observed.messages.close()
        assert sum(observed.cells[route.active] for route in observed.layout.routes) == 0


async def closes(client: Wire, server: Wire, code: int = 1001) -> float:
    """A client and an app that behave: the Close is answered by both, the app ends TCP, then the client.

    Returns when the client read the Close, in the loop's time.
    """
    await client.expect(close(code))
    observed = asyncio.get_running_loop().time()
    await client.send(close(code, mask=KEY))
    await server.expect(close(code, mask=KEY))
    await server.send(close(code))
    server.close()
    assert await client.rest() == b""
    client.close()
    return observed
