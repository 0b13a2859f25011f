"""The relay: accepts clients, within limits, and closes them again."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from random import random
from socket import SocketType
from typing import TypeVar

from exporter.protocol.enums import Cause
from exporter.relay.client_connection import Connection
from exporter.relay.context import Limits, RelayContext
from exporter.relay.kernel import READ_BULK, raise_mmap_threshold
from exporter.relay.listener import Listener
from exporter.relay.reporter import Reporter
from exporter.relay.tcp import TcpTransport
from exporter.relay.timeouts import TimeoutQueue, clock
from exporter.relay.tls import Below, TlsTransport
from exporter.relay.transport import TransportProtocol
from exporter.relay.tunnel import Tunnel
from exporter.relay.upstream import Upstream

#: Seconds between looks for sessions that are too old.
AGE_INTERVAL = 1.0
#: The last part of the greatest age, in which sessions are closed at random, evenly: those that came together after a
#: restart would else be closed together, and come back together. gRPC spreads its greatest age for the same reason.
AGE_SPREAD = 0.1

#: Connections that are closed on purpose before others get their turn.
CLOSE_BATCH = 16

_GOING_AWAY = 1001
_Item = TypeVar("_Item")


class Relay:
    """All connections of all clients of this process.

    :param keepalive: TCP keepalive idle time for clients in seconds; 0 disables.
    :param tls: context to serve clients by TLS; None for plain TCP.
    :param sample: bytes of each side's last message to keep.
    """

    def __init__(
        self,
        upstream: Upstream,
        reporter: Reporter,
        limits: Limits,
        close_timeout: float = 5.0,
        keepalive: float = 0.0,
        tls: ssl.SSLContext | None = None,
        sample: int = 0,
    ) -> None:
        self.context = RelayContext(upstream, reporter, limits, sample)
        self.context.arriving = TimeoutQueue(limits.handshake_timeout, Connection.close)
        self.close_timeout = close_timeout
        self.reporter = reporter
        self._limits = limits
        self._tls = tls
        self._listener = Listener(self.context.poller, self._accept, self._clients, reporter.accept_paused, keepalive)
        self._ageing: asyncio.Task[None] | None = None
        self._closing_idle = False

    def _clients(self) -> int:
        return self.context.clients

    def listen(self, sockets: Sequence[SocketType]) -> None:
        """Begin to accept clients on ``sockets``, which listen already and are this relay's from now on."""
        raise_mmap_threshold(READ_BULK)
        self._listener.open(sockets)
        self.reporter.set_listening(True)
        if self._limits.max_session_age:
            self._ageing = asyncio.get_running_loop().create_task(self._close_aged())

    def stop_listening(self) -> None:
        """Accept no more clients. Those that are connected stay."""
        self._listener.close()
        self.reporter.set_listening(False)

    @property
    def sessions(self) -> dict[Tunnel, None]:
        """Sessions whose TCP connections are not both gone, in the order in which they opened."""
        return self.context.sessions

    def _accept(self, sock: SocketType, address: object) -> None:
        protocol = self.on_accept(address[0], address[1]) if isinstance(address, tuple) else self.on_accept()
        TcpTransport(self.context.poller, sock, protocol)

    def on_accept(self, host: str = "", port: int = 0) -> TransportProtocol:
        """Return the protocol for a client that was accepted, with its address; without one on a Unix socket."""
        context = self.context
        limit = self._limits.max_connections
        is_full = limit and limit <= context.reporter.all_clients()
        connection = Connection(context, host, port, 503 if is_full else 0)
        context.connections.add(connection)
        context.note_clients()
        if self._tls is None:
            return connection.protocol
        return Below(TlsTransport(self._tls, connection.protocol, self.reporter.tls_failed, context.poller))

    async def _close_aged(self) -> None:
        """Close sessions that are too old. They are in the order of their age: the first young one ends the look.

        A session that has N looks left until its greatest age is closed in this one with a chance of 1 in N, which
        makes each of them as likely as any other.
        """
        spread = self._limits.max_session_age * AGE_SPREAD
        while True:
            oldest = clock() - self._limits.max_session_age
            for tunnel in list(self.sessions):
                if (left := tunnel.session.record.opened_at - oldest) > spread:
                    break
                if random() * left < AGE_INTERVAL:
                    tunnel.close(Cause.LIMIT, _GOING_AWAY, self.close_timeout)
            await asyncio.sleep(AGE_INTERVAL)

    # The end.

    def close_idle(self) -> None:
        """Close connections on which nothing is under way: kept-alive HTTP, and clients that sent nothing yet."""
        if not self._closing_idle:
            self._closing_idle = True
            self._in_portions(list(self.context.connections), self._close_if_idle, self._closed_idle)

    def _close_if_idle(self, connection: Connection) -> None:
        if connection.is_idle:
            connection.close()

    def _closed_idle(self) -> None:
        self._closing_idle = False

    def close_rest(self) -> None:
        """Close every session that is left, for a drain, and every other connection."""
        self._in_portions(list(self.sessions), self._close_session_now, self._close_others)

    def _close_session_now(self, tunnel: Tunnel) -> None:
        tunnel.close_now(Cause.DRAIN)

    def _close_others(self) -> None:
        self._in_portions(list(self.context.connections), Connection.close)

    def _in_portions(
        self, items: list[_Item], close: Callable[[_Item], None], then: Callable[[], None] | None = None
    ) -> None:
        """Call ``close`` for each item, in portions between which others get their turn; in the end ``then``."""
        items.reverse()

        def portion() -> bool:
            for _ in range(min(CLOSE_BATCH, len(items))):
                close(items.pop())
            if items:
                return False
            if then is not None:
                then()
            return True

        self.context.poller.run_later(portion)

    def close_all(self) -> None:
        """Close everything at once."""
        self.stop_listening()
        if self._ageing is not None:
            self._ageing.cancel()
        for tunnel in list(self.sessions):
            tunnel.close_at_once(Cause.DRAIN)
        for connection in list(self.context.connections):
            connection.close()

    async def wait_quiet(self, timeout: float) -> None:
        """Return when no client is connected, or after ``timeout`` seconds."""
        deadline = clock() + timeout
        while not self.context.is_quiet and (left := deadline - clock()) > 0:
            await self.context.wait_changed(left)
