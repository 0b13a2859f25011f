"""The connections of an HTTP server (admin port, webhook), bounded in number, time and bytes.

    accepted ──► TLS handshake ──► first request ──► answers, keep-alive ──► closed
       │             10 s, together with the head          │
       │                                                   ├─ an answer that is not read for 10 s: closed
       └─ over the limit: another is closed, or this one   └─ a request of too many bytes: closed

A pipelined request waits until most of the answers before it have been read; after a burst, also for
:data:`REQUEST_INTERVAL`.

At the limit a connection of the address with the most is closed: an idle one, else the oldest, if the new client's
address has none or two fewer, or the oldest has been served for :data:`PROTECTED_TIME`. Otherwise the new one is closed
within a second. So an address that opens many connections closes its own, and a health check from elsewhere is always
served. aiohttp serves each connection; this module owns the sockets around it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain
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
#: Refused clients that stay connected for :data:`PROTECTED_TIME`, so that they reconnect less often.
MAX_REFUSED = 256
#: Connections that are accepted before others get their turn.
BATCH = 16
#: Seconds between two requests of one connection, and how many may come at once.
REQUEST_INTERVAL, BURST = 0.1, 20
#: Bytes that may come while no request is being answered, unless configured.
MAX_REQUEST = 65536
#: Bytes that the kernel may hold of one connection, by direction; its default grows to megabytes.
BUFFERS = {socket.SO_SNDBUF: 65536, socket.SO_RCVBUF: 32768}
#: Seconds between checks of the times above.
_INTERVAL = 1.0
#: Seconds to wait when descriptors have run out; after refusals, so that one wake-up accepts many clients.
_PAUSE = 0.1
_REST = 0.005
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
        self._by_host: dict[str, dict[_Connection, None]] = {}  # each address's, the oldest first
        self._by_protocol: dict[asyncio.BaseProtocol, _Connection] = {}
        self._watching: asyncio.Task[None] | None = None
        self._listeners: list[socket.socket] = []
        self._refused: deque[socket.socket] = deque()

    def __len__(self) -> int:
        return len(self._by_protocol)

    def serve(self, listeners: Sequence[socket.socket], factory: Callable[[], asyncio.Protocol]) -> None:
        """Accept on sockets that listen; ``factory`` makes the protocol of each connection, an aiohttp server."""
        self._factory = factory
        self._listeners = list(listeners)
        for listener in self._listeners:
            listener.setblocking(False)
            for option, size in BUFFERS.items():  # accepted sockets inherit them
                listener.setsockopt(socket.SOL_SOCKET, option, size)
            self._accept_from(listener)
        self._watching = asyncio.create_task(self._watch())

    def stop_accepting(self) -> None:
        """Accept no more connections."""
        for task in (self._watching, *(connection.starting for connection in self._by_protocol.values())):
            if task is not None:
                task.cancel()
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._listeners = []
        self._close_all_refused()

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

    def _accept_from(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        refused = False
        for _ in range(BATCH):
            try:
                accepted, address = listener.accept()
            except BlockingIOError:
                if refused:
                    self._pause(listener, _REST)
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    self._close_all_refused()
                    self._pause(listener, _PAUSE)
                    return
                continue  # the client has gone already
            refused |= not self._serve(accepted, str(address[0]) if isinstance(address, tuple) else "")

    def _pause(self, listener: socket.socket, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(seconds, self._accept_from, listener)

    def _serve(self, accepted: socket.socket, host: str) -> bool:
        """Serve a new connection, if there is room or another can be closed for it. Return whether so."""
        if not self._make_room(host):
            self._refused.append(accepted)
            if len(self._refused) > MAX_REFUSED:
                self._close_refused()
            else:
                asyncio.get_running_loop().call_later(PROTECTED_TIME, self._close_refused)
            return False
        accepted.setblocking(False)
        connection = _Connection(self._factory(), accepted, host, self._max_request, self._closed)
        self._by_host.setdefault(host, {})[connection] = None
        self._by_protocol[connection.inner] = connection
        connection.starting = asyncio.create_task(self._start(connection))
        return True

    async def _start(self, connection: _Connection) -> None:
        """Make a transport of the socket, with a TLS handshake if there is TLS."""
        context = self._tls()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                connection.socket,
                ssl=context,
                ssl_handshake_timeout=HEAD_TIME if context is not None else None,
            )
        except (OSError, asyncio.CancelledError):  # no TLS, gone, too late, or closed for another
            connection.socket.close()
            self._closed(connection)

    def _make_room(self, host: str) -> bool:
        """Return whether there is room for a connection from ``host``; close another for it if need be."""
        if len(self) < self._limit:
            return True
        now = monotonic()
        most = max(map(len, self._by_host.values()))
        busiest = [held for held in self._by_host.values() if len(held) == most]
        oldest = min((next(iter(held)) for held in busiest), key=lambda one: one.accepted)
        ours = len(self._by_host.get(host, ()))
        if ours and ours + 1 >= most and now - oldest.accepted <= PROTECTED_TIME:
            return False
        victim = next((one for one in chain(*busiest) if one.is_idle(now)), oldest)
        victim.abort()
        self._closed(victim)
        return True

    async def _watch(self) -> None:
        """Close connections that are over one of their times."""
        while True:
            await asyncio.sleep(_INTERVAL)
            now = monotonic()
            for connection in tuple(self._by_protocol.values()):
                if connection.is_late(now):
                    connection.abort()

    def _close_refused(self) -> None:
        """Close the oldest of the clients that were refused."""
        if self._refused:
            self._refused.popleft().close()

    def _close_all_refused(self) -> None:
        while self._refused:
            self._close_refused()

    def _closed(self, connection: _Connection) -> None:
        if self._by_protocol.pop(connection.inner, None) is not None:
            ours = self._by_host[connection.host]
            del ours[connection]
            if not ours:
                del self._by_host[connection.host]


@dataclass(eq=False)
class _Connection(asyncio.Protocol):
    """One connection: passes everything on to aiohttp's protocol, and notes times.

    :ivar accepted: when it was accepted.
    :ivar idle_since: since when no request is being answered.
    :ivar requested: a request's head was complete.
    :ivar busy: a request is being answered.
    :ivar starting: makes the transport.
    :ivar received: bytes since a request ended.
    :ivar due: monotonic time of the next request at the steady rate.
    """

    inner: asyncio.Protocol
    socket: socket.socket
    host: str
    max_request: int
    closed: Callable[[_Connection], None]
    accepted: float = field(default_factory=monotonic)
    idle_since: float = field(default_factory=monotonic)
    requested: bool = False
    busy: bool = False
    starting: asyncio.Task[None] | None = None
    transport: asyncio.Transport | None = None
    unread_since: float | None = None
    received: int = 0
    due: float = 0.0
    writable: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.writable.set()

    async def begin_request(self) -> None:
        """Note that a request is answered from now on; wait for its interval, and until earlier answers were read."""
        self.requested = self.busy = True
        self.received = 0
        now = monotonic()
        self.due = max(self.due, now) + REQUEST_INTERVAL
        if (early := self.due - BURST * REQUEST_INTERVAL - now) > 0:
            await asyncio.sleep(early)
        await self.writable.wait()

    def end_request(self) -> None:
        """Note that no request is being answered any more."""
        self.busy = False
        self.idle_since = monotonic()
        self.received = 0

    def is_idle(self, now: float) -> bool:
        """Return whether no request has come for :data:`PROTECTED_TIME`."""
        return not self.busy and now - self.idle_since > PROTECTED_TIME

    def is_late(self, now: float) -> bool:
        """Return whether the connection is over one of its times."""
        if self.received > self.max_request:
            return True
        if not self.requested:
            return now - self.accepted > HEAD_TIME
        return self.unread_since is not None and now - self.unread_since > UNREAD_TIME

    def abort(self) -> None:
        """Close the connection at once, with unsent data."""
        if self.transport is not None:
            self.transport.abort()
        elif self.starting is not None:
            self.starting.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            self.received += len(data)
        if self.received > self.max_request:  # the watch closes it; closed at once, it would reconnect at once
            cast(asyncio.Transport, self.transport).pause_reading()
        else:
            self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed(self)
        self.writable.set()
        self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self.unread_since = monotonic()
        self.writable.clear()
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.unread_since = None
        self.writable.set()
        self.inner.resume_writing()
