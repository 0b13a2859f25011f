"""One client's connection, from accept to its end or its 101; it is forwarded, and overheard as HTTP/1.1.

How it works
============
A client is accepted, the app is connected to, and from then on bytes pass both ways at once; a
:class:`~exporter.protocol.http1.HandshakeTracker` listens. Three things can come of it:

- a 101 to a request for WebSocket: an observer opens a session, and both TCP connections become those of a
  :class:`~exporter.relay.relayed.Relayed`, which outlives this one;
- HTTP that goes on, request after request, until somebody closes;
- something else (TLS, HTTP/2, garbage): it is passed on all the same, told once as unobserved.

If there is no app to talk to, the first request gets a 502 from us: the only answer that this file makes up, beside the
503 of a full house.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, cast

from exporter.protocol.enums import Peer, TcpEndKind
from exporter.protocol.http1 import (
    Fact,
    HandshakeTracker,
    ParseFailed,
    UpgradeAborted,
    Upgraded,
    UpgradeRejected,
    UpgradeRequested,
)
from exporter.relay.events import Opening, guarded, report
from exporter.relay.legs import Leg, LegOwner
from exporter.relay.poller import Poller
from exporter.relay.proxy_protocol import proxy_header
from exporter.relay.relayed import Host as SessionHost
from exporter.relay.relayed import Relayed
from exporter.relay.timeouts import TimeoutQueue, clock
from exporter.relay.transport import Transport, TransportProtocol
from exporter.relay.tunnel import EarlyData
from exporter.relay.upstream import Failure

#: Seconds that a client gets to take our 502 or 503 and close, before we do.
FAREWELL = 2.0

_CLIENT: Final = Peer.CLIENT
_SERVER: Final = Peer.SERVER

_ANSWERS = {
    502: ("Bad Gateway", "websocket-exporter: the app behind this sidecar does not accept connections\n"),
    503: ("Service Unavailable", "websocket-exporter: the configured number of connections is reached\n"),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may cost.

    :ivar max_head: bytes of a request's or response's head.
    :ivar handshake_timeout: seconds from accept to the end of the first request's head.
    :ivar max_connections: clients at a time; 0 is no limit.
    :ivar max_session_age: seconds that a session may last; 0 is for ever.
    :ivar proxy_protocol: whether the app is told of each client's address by a PROXY header.
    """

    max_head: int = 64 * 1024
    handshake_timeout: float = 10.0
    max_connections: int = 0
    max_session_age: float = 0.0
    proxy_protocol: bool = False


class Host(SessionHost):
    """What a connection needs from whoever accepted it."""

    limits: Limits
    poller: Poller
    arriving: TimeoutQueue[Connection]
    half_close_timeouts: TimeoutQueue[Leg]

    def session_began(self, connection: Connection, session: Relayed) -> None:
        """The connection has become a session."""
        raise NotImplementedError

    def gone(self, connection: Connection) -> None:
        """The connection is over and never was a session."""
        raise NotImplementedError


class HttpLeg(Leg):
    """A leg before the 101."""

    __slots__ = ()

    def connection_made(self, stream: Transport) -> None:
        self.transport = stream
        cast(Connection, self.owner).connected(self)

    def data_received(self, data: bytes) -> None:
        cast(Connection, self.owner).received(self, data)


class Connection(LegOwner):
    """A client's connection through the relay.

    :param client: the address of the client, as it is written.
    :param refusal: the status of the answer that it gets from us, if it is not wanted; else 0.
    """

    __slots__ = (
        "_arriving", "_asked", "_client", "_client_address", "_conversation", "_held", "_over", "_refusal", "_relay",
        "_server", "_task", "_timer",
    )  # fmt: skip

    def __init__(self, relay: Host, client: str = "", refusal: int = 0) -> None:
        self._relay = relay
        self.half_close_timeouts = relay.half_close_timeouts
        self._client_address = client
        self._refusal = refusal  # the status of our own answer, once there is to be one
        self._client = HttpLeg(_CLIENT, self)
        self._server = HttpLeg(_SERVER, self)
        self._client.other, self._server.other = self._server, self._client
        self._server.gone = True  # until it is connected
        self._conversation = HandshakeTracker(relay.limits.max_head)
        self._held = b""  # what the client sent before the app was connected
        self._asked = 0.0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._arriving = False  # connected, and its first request's head has not come
        self._over = False

    @property
    def protocol(self) -> TransportProtocol:
        """The protocol for the accepted transport."""
        return self._client

    @property
    def is_idle(self) -> bool:
        """Whether closing this connection would interrupt nothing: plain HTTP with no request under way."""
        return not self._conversation.over and self._conversation.is_idle and not self._held

    # From the legs.

    def connected(self, leg: HttpLeg) -> None:
        """A leg has its transport."""
        if leg is self._server:
            return
        self._arriving = True
        self._relay.arriving.add(self)
        if not self._refusal:
            self._task = self._relay.upstream.connect(self._relay.poller, self._server, self._app_answered)

    def _app_answered(self, failure: Failure | None) -> None:
        if self._client.gone:
            if failure is None:
                self._server.gone = False
                self._server.abort()
            return
        held, self._held = self._held, b""
        if failure is None:
            self._server.gone = False
            if self._relay.limits.proxy_protocol:
                ends = (self._client.transport.get_extra_info(name) for name in ("peername", "sockname"))
                self._server.transport.write(proxy_header(*ends))
            self._client.transport.resume_reading()
            if held:
                self.received(self._client, held)
            if self._client.fin:
                self._server.finish_writing()
        else:
            self._no_app(failure, held)

    def _no_app(self, failure: Failure, held: bytes) -> None:
        observer = self._relay.observer
        guarded(observer, lambda: observer.connect_failed(failure.error, failure.why))
        self._refusal = 502
        self._client.transport.resume_reading()
        if held:
            self.received(self._client, held)
        if self._client.fin:
            self._client.close()

    def received(self, leg: HttpLeg, data: bytes) -> None:
        """Bytes came: pass them on, then listen."""
        other, conversation = leg.other, self._conversation
        if not other.gone:
            other.transport.write(data)
        elif not self._refusal:
            self._held += data
            leg.transport.pause_reading()
            return
        if conversation.over:
            return
        try:
            for fact in conversation.request(data) if leg is self._client else conversation.response(data):
                self._heard(fact)
        except Exception as error:
            conversation.over = True
            report(self._relay.observer, error)
        if self._arriving and (conversation.started or conversation.over):
            self._arrived()
            if self._refusal:
                self._answer(self._refusal)

    def _arrived(self) -> None:
        self._arriving = False
        self._relay.arriving.remove(self)

    def cut(self, peer: Peer, how: TcpEndKind) -> None:
        """See :class:`~exporter.relay.legs.LegOwner`. A client that we refuse has nobody else to hang up on it."""
        if self._refusal:
            self._client.close()

    def over(self) -> None:
        """Both TCP connections are gone without a session."""
        if self._over:
            return
        self._over = True
        if self._arriving:
            self._arrived()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        for fact in self._conversation.eof():
            self._heard(fact)
        self._relay.gone(self)

    # From the conversation.

    def _heard(self, fact: Fact) -> None:
        if type(fact) is Upgraded:  # first, because this is what nearly every client comes for
            self._switch(fact)
            return
        observer = self._relay.observer
        match fact:
            case UpgradeRequested():
                self._asked = clock()
                if self._refusal:
                    guarded(observer, lambda: observer.refused(fact.request, self._refusal, 0.0))
                    fact.request.answered = True
            case UpgradeRejected():
                seconds = clock() - self._asked
                guarded(observer, lambda: observer.refused(fact.request, fact.status, seconds))
            case UpgradeAborted():
                guarded(observer, lambda: observer.aborted(fact.request))
            case ParseFailed():
                guarded(observer, lambda: observer.unobserved(fact.reason, fact.why))

    def _switch(self, fact: Upgraded) -> None:
        relay = self._relay
        opening = Opening(fact.request, fact.response, self._client_address, clock() - self._asked)
        session = Relayed(relay, relay.observer.opened(opening))
        early = EarlyData(fact.client, fact.server, self._client.fin, self._server.fin)
        self._client.wait_no_more()
        self._server.wait_no_more()
        session.begin(self._client.transport, self._server.transport, early)
        self._release()
        relay.session_began(self, session)

    def _release(self) -> None:
        """Let go of everything, over 3 KB, without leaving a cycle to the garbage collector."""
        self._conversation.release()
        self._client.unlink()
        self._server.unlink()

    # Our own doing.

    def _answer(self, status: int) -> None:
        """Answer in the app's place, if what the client speaks is HTTP, and close."""
        if self._conversation.started:
            reason, text = _ANSWERS[status]
            head = (
                f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
            )
            self._client.transport.write((head + text).encode("ascii"))
            self._conversation.over = True
            self._client.finish_writing()
            self._timer = asyncio.get_running_loop().call_later(FAREWELL, self._client.abort)
        else:
            self._client.abort()

    def close(self) -> None:
        """Close both TCP connections at once."""
        if self._over:
            return
        if self._task is not None:
            self._task.cancel()
        self._client.abort()
        self._server.abort()
