"""The connections of an HTTP server (admin port, webhook), bounded in number, time and bytes.

    accepted ──► TLS handshake ──► first request ──► answers, keep-alive ──► closed
       │             10 s, together with the head          │
       │                                                   ├─ an answer that is not read for 10 s: closed
       └─ over the limit: another is closed, or this one   └─ a request of too many bytes: closed

A pipelined request waits until most of the answers before it have been read.

At the limit a connection of the address with the most is closed: an idle one, else the oldest, if the new client's
address has fewer or the oldest has been served for :data:`PROTECTED_TIME`. Otherwise the new connection is closed. So
an address that opens many connections closes its own, and a health check from elsewhere is always served. aiohttp
serves each connection; this module owns the sockets around it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import cast

#: Connections at a time unless configured.
MAX_CONNECTIONS = 64
#: Seconds from accept to the end of the first request's head.
HEAD_TIME = 10.0
#: Seconds without a request after which aiohttp closes a connection.
KEEP_ALIVE = 15.0
#: Seconds for which a peer may leave an answer unread.
UNREAD_TIME = 10.0
#: Seconds without a request after which a connection is idle, and for which a new one keeps its place at the limit.
PROTECTED_TIME = 1.0
#: Connections that are accepted before others get their turn.
BATCH = 64
#: Bytes that may come while no request is being answered, unless configured.
MAX_REQUEST = 65536
#: Bytes that the kernel may hold for one reader; its default grows to megabytes.
SEND_BUFFER = 65536
#: Seconds between checks of the times above.
_INTERVAL = 1.0
#: Seconds to wait when descriptors have run out.
_PAUSE = 0.1
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Connections:
    """Accept connections and close those that are over a bound.

    :param limit: connections at a time.
    :param tls: returns the TLS context for a new connection; None for plain HTTP.
    :param max_request: bytes that may come while no request is being answered.
    """

    def __init__(self, limit: int, tls: Callable[[], ssl.SSLContext | None], max_request: int = MAX_REQUEST) -> None:
        self._limit = limit
        self._max_request = max_request
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
            self._accept_from(listener)
        self._spawn(self._watch())

    def stop_accepting(self) -> None:
        """Accept no more connections."""
        for task in tuple(self._tasks):
            task.cancel()
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._listeners = []

    @asynccontextmanager
    async def answering(self, protocol: asyncio.BaseProtocol) -> AsyncIterator[None]:
        """Note that a request is answered meanwhile; wait first until the answers before it have been read."""
        connection = self._by_protocol.get(protocol)
        if connection is None:
            yield
            return
        await connection.begin_request()
        try:
            yield
        finally:
            connection.end_request()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _accept_from(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                accepted, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    loop = asyncio.get_running_loop()
                    loop.remove_reader(listener)
                    loop.call_later(_PAUSE, self._accept_from, listener)
                    return
                continue  # the client has gone already
            self._serve(accepted, str(address[0]) if isinstance(address, tuple) else "")

    def _serve(self, accepted: socket.socket, host: str) -> None:
        """Serve a new connection, if there is room or another can be closed for it."""
        if not self._make_room(host):
            accepted.close()
            return
        accepted.setblocking(False)
        with suppress(OSError):
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        connection = _Connection(self._factory(), accepted, host, self._max_request, self._closed)
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

    def _make_room(self, host: str) -> bool:
        """Return whether there is room for a connection from ``host``; close another for it if need be."""
        if len(self._open) < self._limit:
            return True
        now = monotonic()
        per_host = Counter(connection.host for connection in self._open)
        victim = max(self._open, key=lambda one: (per_host[one.host], one.is_idle(now), -one.accepted))
        replaceable = victim.is_idle(now) or now - victim.accepted > PROTECTED_TIME
        if per_host[host] >= per_host[victim.host] and not replaceable:
            return False
        victim.abort()
        self._closed(victim)
        return True

    async def _watch(self) -> None:
        """Close connections that are over one of their times."""
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

    :ivar idle_since: since when no request is being answered.
    :ivar requested: a request's head was complete.
    :ivar busy: a request is being answered.
    :ivar starting: makes the transport.
    """

    def __init__(
        self,
        inner: asyncio.Protocol,
        accepted: socket.socket,
        host: str,
        max_request: int,
        closed: Callable[[_Connection], None],
    ) -> None:
        self.inner = inner
        self.socket = accepted
        self.host = host
        self.accepted = monotonic()
        self.idle_since = self.accepted
        self.requested = False
        self.busy = False
        self.starting: asyncio.Task[None] | None = None
        self._max_request = max_request
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._unread_since: float | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._received = 0  # bytes since a request ended

    async def begin_request(self) -> None:
        """Note that a request is answered from now on, once the answers before it have been read."""
        self.requested = self.busy = True
        self._received = 0
        await self._writable.wait()

    def end_request(self) -> None:
        """Note that no request is being answered any more."""
        self.busy = False
        self.idle_since = monotonic()
        self._received = 0

    def is_idle(self, now: float) -> bool:
        """Return whether no request has come for :data:`PROTECTED_TIME`."""
        return not self.busy and now - self.idle_since > PROTECTED_TIME

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
        if not self.busy:
            self._received += len(data)
        if self._received > self._max_request:
            self.abort()
        else:
            self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed(self)
        self._writable.set()
        self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._unread_since = monotonic()
        self._writable.clear()
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self._unread_since = None
        self._writable.set()
        self.inner.resume_writing()
