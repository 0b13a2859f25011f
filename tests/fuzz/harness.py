"""A relay without sockets and without time: real connections, tunnels, reporter; transports and clock made here.

How it works
============
:class:`World` is driven move by move. Its transports do what real ones do where it matters: reading can be paused, and
what comes meanwhile waits, the FIN too; writes can be held up, and then the write buffer grows, is reported, and asks
the other side to pause; ``close`` flushes, ``abort`` does not; ``connection_lost`` comes in a later turn of the loop;
a reset leaves what was not read yet to be salvaged. The loop's clock is a number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from exporter.address import Address
from exporter.protocol.direction import ByteObserver
from exporter.protocol.enums import Cause, ConnectError, Peer, Unobserved
from exporter.protocol.record import SessionRecord
from exporter.relay.client_connection import Connection
from exporter.relay.context import Limits
from exporter.relay.poller import Poller
from exporter.relay.server import Relay
from exporter.relay.tcp_writer import HIGH_WATER
from exporter.relay.transport import Transport, TransportProtocol
from exporter.relay.tunnel import Tunnel
from exporter.relay.upstream import Failure, Upstream
from tests.unit.relay.harness import Observed

#: Turns of the loop after which everything that was due must have happened.
TURNS = 8


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only when told."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def turn(self, times: int = 1) -> None:
        """Run what is due."""
        for _ in range(times):
            self.call_soon(self.stop)
            self.run_forever()


class FakeTransport(Transport):
    """One TCP connection. ``read`` is what was handed to protocols, ``written`` what they wrote and what left."""

    def __init__(self, loop: ManualLoop, protocol: TransportProtocol) -> None:
        self.read = bytearray()
        self.written = bytearray()
        self.accepted = 0  # bytes that write() took
        self.fin_sent = False
        self.buffered = bytearray()
        self.most_buffered = 0
        self.salvaged = 0  # bytes read after the connection broke
        self.last_came = loop.time()
        self._loop = loop
        self._protocol = protocol
        self._incoming: list[bytes] = []
        self._fin_incoming = False
        self._fin_told = False
        self._paused = False
        self._held_up = False
        self._closing = False
        self._lost = False
        self._high = HIGH_WATER
        self._asked_to_pause = False
        protocol.connection_made(self)

    # For protocols.

    def get_protocol(self) -> TransportProtocol:
        return self._protocol

    def set_protocol(self, protocol: TransportProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.2", 10010) if name == "sockname" else default

    def is_closing(self) -> bool:
        return self._closing

    @property
    def _is_reading(self) -> bool:
        return not (self._paused or self._closing)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._deliver)

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high
        self._watch_buffer()

    def get_write_buffer_size(self) -> int:
        return len(self.buffered)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.fin_sent, "written after our FIN"
        if self._closing:
            return
        self.accepted += len(data)
        self.buffered += data
        self.most_buffered = max(self.most_buffered, len(self.buffered))
        self._flush()
        self._watch_buffer()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._flush()
            if not self.buffered:
                self._loop.call_soon(self._lose, None)

    def reset(self) -> None:
        self.close()

    def undelivered(self) -> int:
        return len(self.buffered)

    def forward_to(self, destination: Transport | None, observer: ByteObserver) -> None:
        """Every byte goes through the protocol here."""

    def abort(self) -> None:
        if not self._lost:
            self._closing = True
            self.buffered.clear()
            self._loop.call_soon(self._lose, None)

    # For the world.

    def receive(self, data: bytes) -> None:
        """The far peer sent something."""
        if data and not (self._fin_incoming or self._closing):
            self.last_came = self._loop.time()
            self._incoming.append(data)
            self._deliver()

    def receive_fin(self) -> None:
        """The far peer will send no more."""
        self._fin_incoming = True
        self._deliver()

    def break_off(self) -> None:
        """The far peer reset the connection."""
        if not self._closing:
            self._closing = True
            self.buffered.clear()
            self._loop.call_soon(self._lose, ConnectionResetError(104, "Connection reset by peer"))

    def hold_up(self, on: bool) -> None:
        """The far peer stops or begins to read."""
        self._held_up = on
        self._flush()
        self._watch_buffer()

    def write_eof(self) -> None:
        assert not self.buffered, "our FIN before what is buffered"
        self.fin_sent = True

    def idle_seconds(self) -> float:
        return self._loop.time() - self.last_came

    def read_remaining(self) -> Iterator[bytes]:
        while self._incoming:
            data = self._incoming.pop(0)
            self.read += data
            self.salvaged += len(data)
            yield data

    def _deliver(self) -> None:
        while self._incoming and self._is_reading:
            data = self._incoming.pop(0)
            self.read += data
            self._protocol.data_received(data)
        if self._fin_incoming and not self._incoming and self._is_reading and not self._fin_told:
            self._fin_told = True
            if not self._protocol.eof_received():
                self.close()

    def _flush(self) -> None:
        if not self._held_up and self.buffered:
            self.written += self.buffered
            self.buffered.clear()
            if self._closing:
                self._loop.call_soon(self._lose, None)

    def _watch_buffer(self) -> None:
        if len(self.buffered) > self._high and not self._asked_to_pause:
            self._asked_to_pause = True
            self._protocol.pause_writing()
        elif not self.buffered and self._asked_to_pause:
            self._asked_to_pause = False
            if not self._lost:
                self._protocol.resume_writing()

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self._protocol.connection_lost(error)


class FakeUpstream(Upstream):
    """Connects to a fake app, at once or when told, or fails."""

    def __init__(self, loop: ManualLoop) -> None:
        super().__init__(Address("127.0.0.1", 1))
        self.loop = loop
        self.failing = False
        self.go: asyncio.Event | None = None
        self.transport: FakeTransport | None = None

    def connect(
        self, poller: Poller, leg: TransportProtocol, told: Callable[[Failure | None], None]
    ) -> asyncio.Task[None] | None:
        if self.go is not None:
            return self.loop.create_task(self._connect_when_told(self.go, leg, told))
        self._answer(leg, told)
        return None

    async def _connect_when_told(
        self, go: asyncio.Event, leg: TransportProtocol, told: Callable[[Failure | None], None]
    ) -> None:
        await go.wait()
        self._answer(leg, told)

    def _answer(self, leg: TransportProtocol, told: Callable[[Failure | None], None]) -> None:
        if self.failing:
            told(Failure(ConnectError.REFUSED, "refused"))
        else:
            self.transport = FakeTransport(self.loop, leg)
            told(None)


class Sums:
    """Counts of one relay's reporter that must balance, over all worlds."""

    def __init__(self) -> None:
        self.observed = Observed(routes=["/chat/*"])

    def receive(self) -> list[SessionRecord]:
        """Return the records of the sessions that closed since the last call."""
        records = [record for watched in self.observed.sessions for record in watched.records]
        self.observed.forget()
        return records

    @property
    def opened(self) -> int:
        """Handshakes that were answered with 101."""
        return self.observed.accepted

    @property
    def active(self) -> int:
        """Sessions that are open."""
        return sum(self.observed.cells[route.active] for route in self.observed.layout.routes)

    @property
    def dropped(self) -> int:
        """Records that could not be sent."""
        cells = self.observed.cells
        return sum(
            sum(cells[route.dropped : route.dropped + len(Peer)].tolist()) for route in self.observed.layout.routes
        )

    @property
    def defects(self) -> int:
        """Defects of ours that were kept from the traffic."""
        return self.observed.cells[self.observed.layout.unobserved[Unobserved.INTERNAL]]


class World:
    """One client's connection through a relay."""

    def __init__(self, loop: ManualLoop, sums: Sums, *, failing: bool, on_timeout: bool, full: bool) -> None:
        self.loop = loop
        self.sums = sums
        self.upstream = FakeUpstream(loop)
        self.upstream.failing = failing
        if on_timeout:
            self.upstream.go = asyncio.Event()
        limits = Limits(max_connections=1 if full else 0, max_head=8192)
        self.relay = Relay(self.upstream, sums.observed.reporter, limits)
        self.context = self.relay.context
        sums.observed.context = self.context
        self.errors: list[object] = []
        loop.set_exception_handler(lambda _, context: self.errors.append(context))
        somebody_else = Connection(self.context)
        if full:
            self.context.connections.add(somebody_else)  # who has the only place
        self.context.note_clients()
        asyncio.set_event_loop(loop)
        self.client = self._in_loop(lambda: FakeTransport(loop, self.relay.on_accept("192.0.2.1", 50000)))
        self.context.connections.discard(somebody_else)
        self.context.note_clients()
        loop.turn(2)

    def _in_loop(self, call: Callable[[], FakeTransport]) -> FakeTransport:
        made: list[FakeTransport] = []
        self.loop.call_soon(lambda: made.append(call()))
        self.loop.turn()
        return made[0]

    @property
    def server(self) -> FakeTransport | None:
        """The app's side, once it is connected."""
        return self.upstream.transport

    @property
    def session(self) -> Tunnel | None:
        """The session, while there is one."""
        return next(iter(self.relay.sessions), None)

    def do(self, call: Callable[[], object]) -> None:
        """Let something happen inside the loop, and what follows from it."""
        self.loop.call_soon(call)
        self.loop.turn(2)

    def drain(self) -> None:
        """End the session on purpose, if there is one."""
        if (session := self.session) is not None:
            self.do(lambda: session.close(Cause.DRAIN, 1001, 5.0))

    def cut(self) -> None:
        """End the session at once, if there is one."""
        if (session := self.session) is not None:
            self.do(lambda: session.close_now(Cause.DRAIN))

    def connect(self) -> None:
        """Let a late app be there."""
        if self.upstream.go is not None:
            self.do(self.upstream.go.set)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.now += seconds
        self.loop.turn(2)

    def finish(self) -> None:
        """Everybody reads and leaves."""
        self.connect()
        for transport in (self.client, self.server):
            if transport is not None:
                self.do(lambda transport=transport: transport.hold_up(False))  # type: ignore[misc]
        for transport in (self.client, self.server):
            if transport is not None:
                self.do(transport.receive_fin)
        self.loop.turn(TURNS)
        for _ in range(4):
            self.wait(30.0)
        self.loop.turn(TURNS)

    def close(self) -> None:
        """Drop what is left of the loop's work."""
        self.do(self.relay.close_all)
        self.loop.turn(TURNS)
