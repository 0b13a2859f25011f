"""One session in the relay: it stands between the engine that moves the bytes and the observer who is told of them.

There are thousands of these, mostly idle, for days: what only the opening handshake needed is not here.
"""

from __future__ import annotations

import asyncio

from exporter.protocol.enums import Cause, Unobserved
from exporter.protocol.session import PingAnswered, WentUnobserved
from exporter.relay.events import Observer, Watch, guarded, report
from exporter.relay.transport import Transport
from exporter.relay.tunnel import EarlyData, Engine, Splice
from exporter.relay.upstream import Upstream


class Host:
    """What a session needs from the relay that it is in."""

    upstream: Upstream
    observer: Observer
    engine: Engine

    def session_over(self, session: Relayed) -> None:
        """The session's TCP connections are gone."""
        raise NotImplementedError


class Relayed:
    """A session from its 101 to the end of both its TCP connections. It is the engine's listener.

    :ivar watch: the observer's side of it.
    :ivar splice: the engine's side of it; None once the session is over.
    :ivar app_alive: asked when the app has dropped the session: whether it still takes connections.
    """

    __slots__ = ("_relay", "app_alive", "splice", "watch")

    def __init__(self, relay: Host, watch: Watch) -> None:
        self._relay = relay
        self.watch = watch
        self.splice: Splice | None = None
        self.app_alive: asyncio.Task[bool] | None = None

    def begin(self, client: Transport, server: Transport, early: EarlyData) -> None:
        """Hand both connections to the engine."""
        self.splice = self._relay.engine.take(client, server, self.watch.session, early, self)

    @property
    def began(self) -> float:
        """When the session began, on the monotonic clock."""
        return self.watch.session.began

    def close(self) -> None:
        """Close both connections at once."""
        if self.splice is not None:
            self.splice.abort_now(Cause.DRAIN)

    # From the engine.

    def noted(self, fact: PingAnswered | WentUnobserved) -> None:
        """See :class:`~exporter.relay.tunnel.SessionListener`."""
        watch, observer = self.watch, self._relay.observer
        match fact:
            case WentUnobserved():
                guarded(observer, lambda: watch.unobserved(Unobserved.FRAME, fact.why))
            case PingAnswered():
                guarded(observer, lambda: watch.ping_answered(fact.sender, fact.seconds))

    def defect(self, error: Exception) -> None:
        """See :class:`~exporter.relay.tunnel.SessionListener`."""
        report(self._relay.observer, error)

    def app_dropped(self) -> None:
        """See :class:`~exporter.relay.tunnel.SessionListener`."""
        self.app_alive = asyncio.get_running_loop().create_task(self._relay.upstream.probe())

    def ended(self) -> None:
        """See :class:`~exporter.relay.tunnel.SessionListener`: the session is over; its ending is told once it is
        judged."""
        if self.splice is not None:
            self.splice = None
            self._relay.session_over(self)
