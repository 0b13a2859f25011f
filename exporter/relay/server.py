"""Accepts clients, within limits, and keeps account of who is connected."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from random import random
from socket import SocketType

from exporter.address import format_peer
from exporter.protocol.enums import Cause
from exporter.relay.client_connection import Connection, Host, Limits
from exporter.relay.events import Observer, Watch, guarded, report
from exporter.relay.legs import half_close_timeouts
from exporter.relay.listener import Listener
from exporter.relay.poller import new_poller
from exporter.relay.relayed import Relayed
from exporter.relay.tcp import TcpTransport, raise_mmap_threshold
from exporter.relay.timeouts import TimeoutQueue, clock
from exporter.relay.tls import Below, TlsTransport
from exporter.relay.transport import TransportProtocol
from exporter.relay.tunnel import Engine
from exporter.relay.upstream import Upstream

#: Seconds between looks for sessions that are too old.
AGE_INTERVAL = 1.0

#: The last part of the greatest age, in which sessions are ended at random, evenly: those that came together after a
#: restart would else be sent away together, and come back together. gRPC spreads its greatest age for the same reason.
AGE_SPREAD = 0.1

_AGED = 1001  # going away: come back, elsewhere if you like


class Relay(Host):
    """All connections of all clients.

    :param keepalive: seconds of silence after which TCP asks a client for a sign of life; 0 is never.
    :param tls: what clients are to speak, on top of TCP; None is nothing.
    """

    def __init__(
        self,
        upstream: Upstream,
        observer: Observer,
        engine: Engine,
        limits: Limits,
        close_timeout: float = 5.0,
        keepalive: float = 0.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.close_timeout = close_timeout
        self.upstream = upstream
        self.observer = observer
        self.engine = engine
        self.limits = limits
        self._tls = tls
        self.sessions: dict[Relayed, None] = {}  # in the order in which they began
        self._others: set[Connection] = set()  # not (yet) sessions
        #: Those whose first request's head has not come: somebody may hold a connection open for nothing, or drip.
        self.arriving: TimeoutQueue[Connection] = TimeoutQueue(limits.handshake_timeout, Connection.close)
        self.half_close_timeouts = half_close_timeouts()
        self._judging: set[asyncio.Task[None]] = set()
        self.poller = new_poller()
        self._door = Listener(self.poller, self._accept, lambda: self.connections, self._paused, keepalive)
        self._changed: asyncio.Event | None = None  # from when somebody first waits for it
        self._ageing: asyncio.Task[None] | None = None
        self.last_ending = float("-inf")  # when an ending was last told, on the monotonic clock

    async def listen(self, host: str | None, port: int) -> int:
        """Begin to accept; ``host`` None is every interface. Returns the port. Raises OSError if it is taken."""
        raise_mmap_threshold()
        bound = await self._door.open(host, port)
        if self.limits.max_session_age:
            self._ageing = asyncio.get_running_loop().create_task(self._end_aged())
        return bound

    @property
    def is_listening(self) -> bool:
        """Whether clients are accepted."""
        return self._door.is_open

    def stop_listening(self) -> None:
        """Accept no more clients. Those that are connected stay."""
        self._door.close()

    @property
    def connections(self) -> int:
        """Clients that are connected now, sessions or not."""
        return len(self.sessions) + len(self._others)

    def _accept(self, sock: SocketType, address: object) -> None:
        TcpTransport(self.poller, sock, self.on_accept(format_peer(address)))

    def on_accept(self, client: str) -> TransportProtocol:
        """The protocol for a client that is about to be connected; ``client`` is its address as it is written."""
        full = 0 < self.limits.max_connections <= self.connections
        connection = Connection(self, client, refusal=503 if full else 0)
        self._others.add(connection)
        if self._tls is None:
            return connection.protocol
        return Below(TlsTransport(self._tls, connection.protocol, self._tls_failed))

    def _tls_failed(self, why: str) -> None:
        guarded(self.observer, lambda: self.observer.tls_failed(why))

    def _paused(self, why: str) -> None:
        guarded(self.observer, lambda: self.observer.accept_paused(why))

    # From the connections.

    def session_began(self, connection: Connection, session: Relayed) -> None:
        """A connection has become a session."""
        self._others.discard(connection)
        self.sessions[session] = None

    def session_over(self, session: Relayed) -> None:
        """A session's TCP connections are gone. Judge why, and tell."""
        self.sessions.pop(session, None)
        watch = session.watch
        if watch.session.needs_app_check and session.app_alive is not None:
            task = asyncio.get_running_loop().create_task(self._judge(watch, session.app_alive))
            self._judging.add(task)
            task.add_done_callback(self._judged)
        else:
            self._tell(watch, app_alive=True)
        self._note_change()

    async def _judge(self, watch: Watch, app_alive: asyncio.Task[bool]) -> None:
        now = clock()
        try:
            alive = await app_alive
        except asyncio.CancelledError:
            alive = True  # we are ending ourselves; say only what is known
        self._tell(watch, alive, now)

    def _judged(self, task: asyncio.Task[None]) -> None:
        self._judging.discard(task)
        self._note_change()

    def _tell(self, watch: Watch, app_alive: bool, now: float | None = None) -> None:
        ended = clock() if now is None else now
        try:  # as guarded() does, without a function that is made for each ending
            watch.closed(watch.session.end(app_alive), ended)
        except Exception as error:
            report(self.observer, error)
        self.last_ending = clock()

    async def _end_aged(self) -> None:
        """End sessions that are too old. They are in order of their beginning: the first young one ends the look.

        A session that has N looks left until its greatest age is ended in this one with a chance of 1 in N, which makes
        each of them as likely as any other.
        """
        spread = self.limits.max_session_age * AGE_SPREAD
        while True:
            oldest = clock() - self.limits.max_session_age
            for session in list(self.sessions):
                if (left := session.began - oldest) > spread:
                    break
                if random() * left < AGE_INTERVAL:
                    guarded(self.observer, partial(self._end_of_age, session))
            await asyncio.sleep(AGE_INTERVAL)

    def _end_of_age(self, session: Relayed) -> None:
        if session.splice is not None:
            session.splice.finish(Cause.LIMIT, _AGED, self.close_timeout)

    def gone(self, connection: Connection) -> None:
        """A connection is over that never was a session."""
        self._others.discard(connection)
        self._note_change()

    def _note_change(self) -> None:
        if self._changed is not None:
            self._changed.set()

    # The end.

    def close_idle(self) -> None:
        """Close connections on which nothing is under way: kept-alive HTTP, and clients that sent nothing yet."""
        for connection in [c for c in self._others if c.is_idle]:
            connection.close()

    def close_others(self) -> None:
        """Close every connection that is not a session."""
        for connection in list(self._others):
            connection.close()

    async def wait_changed(self, timeout: float) -> None:
        """Return when a connection or a judgement has ended, or after ``timeout`` seconds."""
        if self._changed is None:
            self._changed = asyncio.Event()
        changed = self._changed
        changed.clear()
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                await changed.wait()
        except TimeoutError:
            return

    def close_all(self) -> None:
        """Close everything at once, for a process that ends."""
        self.stop_listening()
        if self._ageing is not None:
            self._ageing.cancel()
        for session in list(self.sessions):
            session.close()
        self.close_others()
        for task in self._judging:
            task.cancel()

    async def wait_quiet(self, timeout: float) -> None:
        """Return when :attr:`is_quiet`, or after ``timeout`` seconds."""
        deadline = clock() + timeout
        while not self.is_quiet and (left := deadline - clock()) > 0:
            await self.wait_changed(left)

    @property
    def is_quiet(self) -> bool:
        """Whether nobody is connected and every ending has been told."""
        return not self.sessions and not self._others and not self._judging
