"""The relay's reports to the observer: counters in shared memory, and messages that never wait.

Counters are cells that only this relay writes (:mod:`exporter.protocol.counters`). Frames, payload bytes and durations
are counted apart and brought to the cells once a second, and when the observer asks with FLUSH: in slices, so that
traffic goes first. Records, openings and notices go over a datagram socket (:mod:`exporter.protocol.messages`). If the
kernel takes no more of them, a record is counted in the cells ``dropped`` of its route; a notice is lost, and the next
one of its event carries how many were.

Nothing here raises into the traffic: a defect is counted and sent as a notice.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from os import write
from socket import socket
from typing import TYPE_CHECKING, Final, SupportsIndex

from mypy_extensions import i64

from exporter.protocol.client_identity import Identity, keyed_hash
from exporter.protocol.counters import NANOSECONDS, STATUSES, HistogramCells, RelayLayout, RouteCells
from exporter.protocol.direction import PAYLOAD, FrameCounts, new_frame_counts
from exporter.protocol.enums import PEERS, ConnectError, Peer, Unobserved
from exporter.protocol.http1_parser import Request
from exporter.protocol.labels import Router
from exporter.protocol.messages import (
    FLUSHED,
    MAX_MESSAGE,
    MAX_OPENED,
    Kind,
    Notice,
    encode_notice,
    encode_opened,
    encode_record,
    pack_opening,
)
from exporter.protocol.record import SessionRecord
from exporter.relay.timeouts import clock

if TYPE_CHECKING:
    from exporter.relay.context import RelayContext
    from exporter.relay.tunnel import Tunnel

#: Seconds between two brings of the counters, heartbeats and batches of openings.
TICK: Final = 1.0
#: Sessions whose counts are brought to the cells before other sockets get their turn.
FLUSH_SLICE: Final = 256
#: Seconds between two notices of one event; those in between are counted in the next one's ``times``.
NOTICE_INTERVAL: Final = 10.0
#: Seconds after which a peer that does not take its bytes counts as stalled.
STALL: Final = 1.0

_STATUS_CELLS: Final = {status: index for index, status in enumerate(STATUSES)}
_SWITCHED: Final = STATUSES.index("101")
_ABORTED: Final = STATUSES.index("aborted")
#: The opcodes that have a cell each, in the order of OPCODES; reserved ones share the last.
_OPCODES: Final = (0, 1, 2, 8, 9, 10)
_PEER_INDEX: Final = {peer: index for index, peer in enumerate(Peer)}


class _Cell:
    """A shared cell with its value: nobody else writes it, and to read it back costs as much as to write it."""

    __slots__ = ("_cells", "_index", "_value")

    def __init__(self, cells: memoryview, index: int) -> None:
        self._cells = cells
        self._index: SupportsIndex = index  # as an object, which needs no conversion at each use
        self._value: i64 = cells[index]

    def add(self, amount: i64) -> None:
        """Add ``amount``."""
        self._value += amount
        self._cells[self._index] = self._value


class _Histogram:
    """A histogram that each session observes, until it is brought to its cells."""

    __slots__ = ("_places", "_values")

    def __init__(self, cells: memoryview, places: HistogramCells) -> None:
        self._places = places
        self._values = cells[places.start : places.start + places.size].tolist()  # the buckets, then the sum

    def observe(self, seconds: float) -> None:
        """Count one observation of ``seconds``."""
        amount = self._places.amount(seconds)
        self._values[self._places.bucket(amount)] += 1
        self._values[-1] += amount

    def add_first(self, count: int, seconds: float) -> None:
        """Add ``count`` observations that belong to the first bucket, of ``seconds`` in all."""
        self._values[0] += count
        self._values[-1] += self._places.amount(seconds)

    def bring(self, cells: memoryview) -> None:
        """Copy the counts to their cells."""
        for cell, value in enumerate(self._values, self._places.start):
            cells[cell] = value


class _Route:
    """The counts of one route."""

    def __init__(self, cells: memoryview, places: RouteCells) -> None:
        self.active = _Cell(cells, places.active)
        self.switched = _Cell(cells, places.handshakes + _SWITCHED)
        self.handshake_duration = _Histogram(cells, places.handshake_duration)
        #: Frames and bytes, as scanners add to them, of the client and the server.
        self.frames = (new_frame_counts(), new_frame_counts())
        self._places = places

    def bring(self, cells: memoryview) -> None:
        """Copy to their cells the counts that are not kept there."""
        self.handshake_duration.bring(cells)
        for peer, counts in zip(PEERS, self.frames, strict=True):
            known = [counts[opcode] for opcode in _OPCODES]
            reserved = sum(counts[:PAYLOAD]) - sum(known)
            for cell, value in enumerate((*known, reserved), self._places.frames[peer]):
                cells[cell] = value
            cells[self._places.payload[peer]] = counts[PAYLOAD]


class Reporter:
    """The observer, as the relay sees it.

    :param relay: the number of this relay.
    :param records: its end of the datagram socket to the observer, not blocking.
    :param cells: its block of shared cells, laid out by ``layout``.
    :param blocks: those of all relays, this one's included.
    :param identity: source of a client's identity; ``key`` keys its hash.
    """

    def __init__(
        self,
        relay: int,
        records: socket,
        cells: memoryview,
        layout: RelayLayout,
        blocks: Sequence[memoryview],
        router: Router,
        identity: Identity,
        key: bytes,
    ) -> None:
        self._relay = relay
        self._records = records
        self._records_fd = records.fileno()
        self._cells = cells
        self._layout = layout
        self._blocks = blocks
        self._router = router
        self._places = layout.routes[: len(router.names)]
        self._routes = [_Route(cells, places) for places in self._places]
        self._loop_turns = _Histogram(cells, layout.loop_turns)
        self._identity = identity
        self._key = key.hex()
        self._openings: list[bytes] = []
        self._last_number = 0
        self._notices: dict[str, tuple[float, int]] = {}  # by event: when it was sent last, and how often held back
        self._flushing: Iterator[Tunnel] | None = None
        self._answering = False  # the flush that is under way is the observer's
        self._flush_wanted = False  # by the observer, since then
        self._context: RelayContext
        self._timer: asyncio.TimerHandle | None = None
        #: Called once a second, if set.
        self.on_tick: Callable[[], None] | None = None

    # Running.

    def start(self, context: RelayContext) -> None:
        """Begin to report about ``context``, in the running event loop."""
        self._context = context
        context.poller.on_long_turn = self._on_long_turn
        asyncio.get_running_loop().add_reader(self._records.fileno(), self._on_request)
        self._tick()

    def stop(self) -> None:
        """Send everything that waits, and end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            asyncio.get_running_loop().remove_reader(self._records.fileno())
            self._bring_counts()
            self._send_openings()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK, self._tick)
        self._cells[self._layout.heartbeat] = round(clock() * NANOSECONDS)
        self._send_openings()
        self._count_stalled()
        if self.on_tick is not None:
            self.on_tick()
        if self._flushing is None:
            self._start_flush()

    def _on_request(self) -> None:
        try:
            while True:
                message = self._records.recv(MAX_MESSAGE)
                if not message:
                    asyncio.get_running_loop().remove_reader(self._records.fileno())
                    return
                if message[0] == Kind.FLUSH:
                    self._flush_wanted = True
        except OSError:
            pass
        if self._flush_wanted and self._flushing is None:
            self._start_flush()

    def _start_flush(self) -> None:
        self._answering = self._flush_wanted
        self._flush_wanted = False
        self._flushing = iter(list(self._context.sessions))
        self._flush_slice()

    def _flush_slice(self) -> None:
        """Bring the counts of some sessions to the shared counters, then go on in the next turn of the loop."""
        assert self._flushing is not None
        count = 0
        for tunnel in islice(self._flushing, FLUSH_SLICE):
            tunnel.session.flush_counts()
            count += 1
        if count == FLUSH_SLICE:
            asyncio.get_running_loop().call_soon(self._flush_slice)
            return
        self._flushing = None
        self._bring_counts()
        if self._answering:
            self._send_openings()
            self._count_stalled()
            self._send(FLUSHED)
        if self._flush_wanted:
            self._start_flush()

    def _bring_counts(self) -> None:
        """Copy the counters of frames and bytes and the histograms of each session and turn to the cells."""
        for route in self._routes:
            route.bring(self._cells)
        poller = self._context.poller
        self._loop_turns.add_first(poller.turns, poller.turn_seconds)
        poller.turns, poller.turn_seconds = 0, 0.0
        self._loop_turns.bring(self._cells)

    def _on_long_turn(self, seconds: float) -> None:
        self._loop_turns.observe(seconds)

    def _count_stalled(self) -> None:
        since = clock() - STALL
        for route in self._places:
            for peer in PEERS:
                self._cells[route.stalled[peer]] = 0
        for leg in self._context.stalled:
            if leg.waiting_since <= since:
                self._cells[self._places[leg.tunnel.session.record.route].stalled[leg.peer]] += 1

    def _send(self, message: bytes) -> bool:
        try:
            write(self._records_fd, message)
        except OSError:  # full, or the observer is gone for good
            return False
        return True

    # Gauges.

    def set_clients(self, clients: int) -> None:
        """Set the number of connected clients."""
        self._cells[self._layout.clients] = clients

    def all_clients(self) -> int:
        """Return the number of clients that are connected to all relays."""
        return sum(block[self._layout.clients] for block in self._blocks)

    def set_listening(self, listening: bool) -> None:
        """Set whether clients are accepted."""
        self._cells[self._layout.listening] = listening

    def set_drain(self, phase: int, sessions: int, deadline: float) -> None:
        """Set where the drain is: the index of its phase, sessions left, monotonic seconds of its deadline."""
        self._cells[self._layout.drain_phase] = phase
        self._cells[self._layout.drain_sessions] = sessions
        self._cells[self._layout.drain_deadline] = round(deadline * NANOSECONDS)

    # Handshakes and sessions.

    def session_opened(self, record: SessionRecord, request: Request) -> tuple[FrameCounts, FrameCounts]:
        """Count a 101, and the session that opened with it; complete its record.

        Return the counters of its route, the client's and the server's, for scanners to add to.
        """
        self._last_number += 1
        record.relay = self._relay
        record.number = self._last_number
        record.route = self._router.index(request.target)
        route = self._routes[record.route]
        route.switched.add(1)
        route.handshake_duration.observe(record.handshake_seconds)
        route.active.add(1)
        try:
            record.identity = keyed_hash(self._identity(request, record.peer_address), self._key)
        except Exception as error:
            self.defect(error)
        if record.identity:
            asked_at = record.opened_at - record.handshake_seconds
            self._openings.append(pack_opening(asked_at, record.route, record.identity))
            if len(self._openings) >= MAX_OPENED:
                self._send_openings()
        return route.frames

    def _send_openings(self) -> None:
        if self._openings:
            self._send(encode_opened(self._openings))
            self._openings = []

    def handshake_rejected(self, request: Request, status: int, seconds: float) -> None:
        """Count an opening handshake that was answered with another status than 101."""
        index = self._router.index(request.target)
        cell = _STATUS_CELLS.get(str(status), -1)
        if cell < 0:
            cell = _STATUS_CELLS.get(f"{status // 100}xx", _STATUS_CELLS["5xx"])
        self._cells[self._places[index].handshakes + cell] += 1
        self._routes[index].handshake_duration.observe(seconds)

    def handshake_aborted(self, request: Request) -> None:
        """Count an opening handshake that ended without an answer."""
        self._cells[self._places[self._router.index(request.target)].handshakes + _ABORTED] += 1

    def session_closed(self, record: SessionRecord) -> None:
        """Report a session that closed."""
        if not self._send(encode_record(record)):
            by_proxy = record.proxy_cause is not None
            self._count_dropped(record.route, None if by_proxy else record.first_close or record.tcp_end)
        self._routes[record.route].active.add(-1)

    def record_lost(self, route: int, error: Exception) -> None:
        """Count a session whose record a defect prevented."""
        self._count_dropped(route, None)
        self._routes[route].active.add(-1)
        self.defect(error)

    def _count_dropped(self, route: int, initiator: Peer | None) -> None:
        self._cells[self._places[route].dropped + _PEER_INDEX[initiator or Peer.PROXY]] += 1

    def ping_answered(self, route: int, sender: Peer, seconds: float) -> None:
        """Count the round-trip time of a ping of ``sender``."""
        self._places[route].ping_rtt[sender].observe(self._cells, seconds)

    def stall_ended(self, route: int, peer: Peer, seconds: float) -> None:
        """Count that ``peer`` takes its bytes again, after ``seconds``."""
        if seconds >= STALL:
            self._places[route].stall_duration[peer].observe(self._cells, seconds)

    # Connections.

    def unobserved(self, reason: Unobserved, why: str, record: SessionRecord | None = None) -> None:
        """Count a connection that is passed on without being parsed (any more), with the record if it is a session."""
        self._cells[self._layout.unobserved[reason]] += 1
        session: dict[str, object] = {}
        if record is not None:
            session = {"session_id": record.session_id, "route": self._router.names[record.route]}
        self.notice("session.unobserved", "warning", **session, reason=reason, why=why)

    def connect_failed(self, error: ConnectError, why: str) -> None:
        """Count a client's connection for which the app could not be connected to."""
        self._cells[self._layout.connect_errors[error]] += 1
        self.notice("upstream.connect_failed", "warning", reason=error, why=why)

    def accept_paused(self, why: str) -> None:
        """Count a pause of accepting."""
        self._cells[self._layout.accept_pauses] += 1
        self.notice("accept.paused", "warning", why=why)

    def tls_failed(self, why: str) -> None:
        """Count a client whose TLS failed."""
        self._cells[self._layout.tls_errors] += 1
        self.notice("tls.failed", "debug", why=why)

    def defect(self, error: BaseException) -> None:
        """Count an error of ours that did not reach the traffic."""
        self._cells[self._layout.unobserved[Unobserved.INTERNAL]] += 1
        text = "".join(traceback.format_exception(error))
        self.notice("exporter.defect", "error", reason=type(error).__name__, message=str(error), traceback=text)

    def notice(self, event: str, level: str, **fields: object) -> None:
        """Send a line for the log, at most one an event and reason in :data:`NOTICE_INTERVAL` seconds."""
        key = f"{event} {fields.get('reason', '')}"
        now = clock()
        sent, times = self._notices.get(key, (float("-inf"), 0))
        times += 1
        if now - sent < NOTICE_INTERVAL or not self._send(
            encode_notice(Notice(event, level, {**fields, "times": times}))
        ):
            self._notices[key] = sent, times
        else:
            self._notices[key] = now, 0
