"""The connections of the admin port, bounded in number and time.

    accepted ──► TLS handshake ──► first request ──► answers, keep-alive ──► closed
       │             10 s, together with the head          │
       └─ over the limit: another is closed for it         └─ an answer that is not read for 10 s: closed

At the limit the connection that is closed belongs to the address with the most connections: the oldest idle one, else
the oldest. So an address that opens many loses its own, and a health check always gets one. aiohttp serves each
connection; this module owns the sockets around it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from time import monotonic
from typing import cast

from exporter.admin.responses import web

#: Connections at a time unless configured.
MAX_CONNECTIONS = 64
#: Seconds from accept to the end of the first request's head.
HEAD_TIME = 10.0
#: Seconds without a request after which aiohttp closes a connection.
KEEP_ALIVE = 15.0
#: Seconds for which a peer may leave an answer unread.
UNREAD_TIME = 10.0
#: Seconds without a request after which a connection is idle: a new one has a moment to send its own.
IDLE = 1.0
#: Bytes that the kernel may hold for one reader; its default grows to megabytes.
SEND_BUFFER = 65536
#: Seconds between checks of the times above.
_INTERVAL = 1.0
#: Seconds to wait when descriptors have run out.
_PAUSE = 0.1

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Connections:
    """Accept connections and close those that are over a bound.

    :param limit: connections at a time.
    :param tls: returns the TLS context for a new connection; None for plain HTTP.
    """

    def __init__(self, limit: int, tls: Callable[[], ssl.SSLContext | None]) -> None:
        self._limit = limit
        self._tls = tls
        self._factory: Callable[[], asyncio.Protocol] = asyncio.Protocol
        self._open: set[_Connection] = set()
        self._by_protocol: dict[asyncio.BaseProtocol, _Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[socket.socket] = []

    def __len__(self) -> int:
        return len(self._open)

    def serve(self, listeners: Sequence[socket.socket], factory: Callable[[], asyncio.Protocol]) -> None:
        """Accept on sockets that listen; ``factory`` makes the protocol of each connection, an aiohttp server."""
        self._factory = factory
        self._listeners = list(listeners)
        for listener in self._listeners:
            listener.setblocking(False)
            self._spawn(self._accept(listener))
        self._spawn(self._watch())

    def stop_accepting(self) -> None:
        """Accept no more connections."""
        for task in tuple(self._tasks):
            task.cancel()
        for listener in self._listeners:
            listener.close()

    @web.middleware
    async def track(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that a connection is being answered."""
        connection = self._by_protocol.get(request.protocol)
        if connection is None:  # of another server, as in tests
            return await handler(request)
        connection.requested = connection.busy = True
        try:
            return await handler(request)
        finally:
            connection.busy = False
            connection.rested = monotonic()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError:  # the client has gone already, or descriptors have run out
                await asyncio.sleep(_PAUSE)
                continue
            self._make_room()
            with suppress(OSError):
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            host = str(address[0]) if isinstance(address, tuple) else ""
            connection = _Connection(self._factory(), accepted, host, self._closed)
            self._open.add(connection)
            self._by_protocol[connection.inner] = connection
            connection.starting = self._spawn(self._start(connection))

    async def _start(self, connection: _Connection) -> None:
        """Make a transport of the socket, with a TLS handshake if there is TLS."""
        context = self._tls()
        try:
            async with asyncio.timeout(HEAD_TIME):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: connection,
                    connection.socket,
                    ssl=context,
                    ssl_handshake_timeout=HEAD_TIME if context is not None else None,
                )
        except (OSError, TimeoutError, asyncio.CancelledError):  # no TLS, gone, or closed for another
            connection.socket.close()
            self._closed(connection)

    def _make_room(self) -> None:
        """Close the connection that is the least needed, if the limit is reached."""
        if len(self._open) < self._limit:
            return
        now = monotonic()
        per_host = Counter(connection.host for connection in self._open)
        victim = max(self._open, key=lambda one: (per_host[one.host], one.is_idle(now), -one.accepted))
        victim.abort()
        self._closed(victim)

    async def _watch(self) -> None:
        """Close connections that have had their time."""
        while True:
            await asyncio.sleep(_INTERVAL)
            now = monotonic()
            for connection in tuple(self._open):
                if connection.is_late(now):
                    connection.abort()

    def _closed(self, connection: _Connection) -> None:
        self._open.discard(connection)
        self._by_protocol.pop(connection.inner, None)


class _Connection(asyncio.Protocol):
    """One connection: passes everything on to aiohttp's protocol, and notes times.

    :ivar rested: since when no request is being answered.
    :ivar requested: a request's head was complete.
    :ivar busy: a request is being answered.
    :ivar starting: makes the transport.
    """

    def __init__(
        self, inner: asyncio.Protocol, accepted: socket.socket, host: str, closed: Callable[[_Connection], None]
    ) -> None:
        self.inner = inner
        self.socket = accepted
        self.host = host
        self.accepted = monotonic()
        self.rested = self.accepted
        self.requested = False
        self.busy = False
        self.starting: asyncio.Task[None] | None = None
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._unread_since: float | None = None

    def is_idle(self, now: float) -> bool:
        """Return whether no request has come for a moment."""
        return not self.busy and now - self.rested > IDLE

    def is_late(self, now: float) -> bool:
        """Return whether the connection is over one of its times."""
        if not self.requested:
            return now - self.accepted > HEAD_TIME
        return self._unread_since is not None and now - self._unread_since > UNREAD_TIME

    def abort(self) -> None:
        """Close the connection at once, with unsent data."""
        if self._transport is not None:
            self._transport.abort()
        elif self.starting is not None:
            self.starting.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed(self)
        self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._unread_since = monotonic()
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self._unread_since = None
        self.inner.resume_writing()
