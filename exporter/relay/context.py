"""State that all connections of a relay share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.relay.legs import half_close_timeouts
from exporter.relay.poller import Poller
from exporter.relay.upstream import Upstream

if TYPE_CHECKING:
    from exporter.relay.client_connection import Connection
    from exporter.relay.reporter import Reporter
    from exporter.relay.timeouts import TimeoutQueue
    from exporter.relay.tunnel import Tunnel
    from exporter.relay.tunnel_leg import TunnelLeg


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one client, and of all.

    :ivar max_head: bytes of a request's or response's head.
    :ivar handshake_timeout: seconds from accept to the end of the first request's head.
    :ivar max_connections: clients at a time; 0 for no limit.
    :ivar max_session_age: seconds that a session may last; 0 for no limit.
    :ivar proxy_protocol: whether the app gets each client's address in a PROXY header.
    """

    max_head: int = 64 * 1024
    handshake_timeout: float = 10.0
    max_connections: int = 0
    max_session_age: float = 0.0
    proxy_protocol: bool = False


class RelayContext:
    """State that all connections of a relay share.

    :ivar sample: bytes of each side's last message to keep.
    :ivar sessions: in the order in which they opened, until both TCP connections are gone.
    :ivar connections: clients' connections that are no sessions (yet).
    :ivar refused: how many of these are being answered with 503.
    :ivar arriving: those whose first request's head has not come.
    :ivar stalled: legs whose write buffer is above its high-water mark.
    :ivar behind: number of legs with bytes that are forwarded and not yet observed.
    """

    arriving: TimeoutQueue[Connection]

    def __init__(self, upstream: Upstream, reporter: Reporter, limits: Limits, sample: int = 0) -> None:
        self.upstream = upstream
        self.reporter = reporter
        self.limits = limits
        self.sample = sample
        self.poller = Poller()
        self.half_close_timeouts = half_close_timeouts()
        self.sessions: dict[Tunnel, None] = {}
        self.connections: set[Connection] = set()
        self.refused = 0
        self.stalled: dict[TunnelLeg, None] = {}
        self.behind = 0
        self._changed: asyncio.Event | None = None  # from when somebody first waits for it

    @property
    def clients(self) -> int:
        """The number of connected clients."""
        return len(self.sessions) + len(self.connections)

    @property
    def is_quiet(self) -> bool:
        """Whether no client is connected."""
        return not self.sessions and not self.connections

    # From the connections.

    def session_opened(self, connection: Connection, session: Tunnel) -> None:
        """Note that a connection has become a session."""
        self.connections.discard(connection)
        self.sessions[session] = None

    def session_closed(self, session: Tunnel) -> None:
        """Both TCP connections of a session are gone."""
        if session in self.sessions:
            del self.sessions[session]
        session.session.flush_counts()
        self.note_change()

    def connection_closed(self, connection: Connection) -> None:
        """Note that a connection without a session is gone."""
        self.connections.discard(connection)
        self.note_change()

    def note_clients(self) -> None:
        """Report how many clients are connected, if they are limited; those that are refused do not count."""
        if self.limits.max_connections:
            self.reporter.set_clients(self.clients - self.refused)

    def note_change(self) -> None:
        """Wake those who wait for a client to go."""
        self.note_clients()
        if self._changed is not None:
            self._changed.set()

    async def wait_changed(self, timeout: float) -> None:
        """Return when a client has gone, or after ``timeout`` seconds."""
        if self._changed is None:
            self._changed = asyncio.Event()
        changed = self._changed
        changed.clear()
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                await changed.wait()
        except TimeoutError:
            return
