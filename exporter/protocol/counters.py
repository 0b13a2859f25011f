"""The layout of the cells that relays and observer share: 64-bit integers, one for each count.

Each relay owns one block of cells, the observer another; only its owner writes a block, anybody may read it. A block is
a ``memoryview`` of format ``q`` on anonymous shared memory that exists before the processes are forked. Histograms have
one cell for each bucket (not cumulative, the last one for all above) and one for the sum. Times are nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from typing import Final

from exporter.protocol.enums import PEERS, Cause, ConnectError, Peer, Unobserved

# Without a length: mypyc takes a Final tuple of floats with a length for one that is not set yet.
Bounds = tuple[float, ...]
Labels = tuple[str, ...]

#: Opcodes as label values, in the order of their cells (RFC 6455, section 5.2).
OPCODES: Final[Labels] = ("continuation", "text", "binary", "close", "ping", "pong", "reserved")
#: Handshake statuses that have a cell; any other is counted in the cell of its class.
STATUSES: Final[Labels] = ("101", "400", "401", "403", "404", "426", "429", "500", "502", "503", "504", "aborted",
                   "1xx", "2xx", "3xx", "4xx", "5xx")  # fmt: skip
#: Routes for which a block has room beside those known at start.
SPARE_ROUTES: Final = 16

#: A relay that is started anew takes the other block, until the observer has settled the counts of the lost one.
SLOTS_PER_RELAY: Final = 2

NANOSECONDS: Final = 1_000_000_000

#: Opening handshakes take milliseconds; the upper end is where clients give up.
HANDSHAKE_BUCKETS: Final[Bounds] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: From a loopback's round trip to where every keepalive has given up.
PING_BUCKETS: Final[Bounds] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
#: A turn of the event loop: the promise is 10 ms.
TURN_BUCKETS: Final[Bounds] = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
#: How long a peer did not take its bytes.
STALL_BUCKETS: Final[Bounds] = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
#: Bounds on both sides of the times at which proxies cut connections (30 s, 60 s nginx and ALB, 100 s Cloudflare,
#: 300 s, 350 s NLB, 600 s, 1 h, 2 h), so that a pile at one of them stands alone in its bucket.
LIFETIME_BUCKETS: Final[Bounds] = (
    0.1, 1, 5, 10, 25, 35, 55, 65, 95, 105, 180, 290, 310, 340, 360, 590, 610, 1800, 3580, 3620, 7170, 7230,
    21600, 86400,
)  # fmt: skip
#: Like the lifetimes', but finer about each cut-off: a pile within 2 s of one is a timeout.
IDLE_BUCKETS: Final[Bounds] = (
    1, 5, 15, 28, 32, 45, 58, 62, 80, 98, 102, 200, 298, 302, 348, 352, 500, 598, 602, 1800, 3598, 3602, 7198, 7202,
)  # fmt: skip
#: Below half a second no client has backed off; minutes are a person who came back.
RECONNECT_BUCKETS: Final[Bounds] = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 30, 60, 120, 300, 900, 3600)
#: Powers of 4 from 64 B to 16 MiB: libraries' limits (64 KiB, 1 MiB, 4 MiB, 16 MiB) are bounds.
MESSAGE_BUCKETS: Final[Bounds] = tuple(float(64 * 4**power) for power in range(10))


@cache
def _limits(bounds: Bounds, unit: int) -> list[int]:
    return [round(bound * unit) for bound in bounds]


class HistogramCells:
    """Where a histogram stands in a block.

    :ivar start: the first cell: buckets, then the sum.
    :ivar bounds: upper bounds of the buckets in the metric's unit; one more bucket counts all above.
    :ivar unit: parts of that unit that the sum counts.
    """

    __slots__ = ("_limits", "bounds", "start", "unit")

    def __init__(self, start: int, bounds: Sequence[float], unit: int = NANOSECONDS) -> None:
        self.start = start
        self.bounds: Bounds = tuple(bounds)
        self.unit = unit
        self._limits = _limits(self.bounds, unit)

    @property
    def size(self) -> int:
        """The number of cells."""
        return len(self.bounds) + 2

    def amount(self, value: float) -> int:
        """Return a value in the metric's unit as the parts of it that the sum counts."""
        return int(value * self.unit + 0.5)

    def bucket(self, amount: int) -> int:
        """Return the index of the bucket of an amount."""
        return bisect_left(self._limits, amount)

    def observe(self, cells: memoryview, value: float) -> int:
        """Count one observation in the metric's unit. Return the index of its bucket."""
        amount = self.amount(value)
        bucket = self.bucket(amount)
        cells[self.start + bucket] += 1
        cells[self.start + len(self._limits) + 1] += amount
        return bucket


class RouteCells:
    """Where one route's counters stand in a relay's block."""

    def __init__(self, block: _Block) -> None:
        self.active = block.take()
        #: Records that the observer could not take, by initiator in the order of :class:`Peer`.
        self.dropped = block.take(len(Peer))
        self.handshakes = block.take(len(STATUSES))
        self.handshake_duration = block.histogram(HANDSHAKE_BUCKETS)
        self.frames = {peer: block.take(len(OPCODES)) for peer in PEERS}
        self.payload = {peer: block.take() for peer in PEERS}
        self.ping_rtt = {peer: block.histogram(PING_BUCKETS) for peer in PEERS}
        self.stalled = {peer: block.take() for peer in PEERS}
        self.stall_duration = {peer: block.histogram(STALL_BUCKETS) for peer in PEERS}


class RelayLayout:
    """Where everything stands in a relay's block.

    :param routes: the number of routes; room for :data:`SPARE_ROUTES` more is kept.
    """

    def __init__(self, routes: int) -> None:
        block = _Block()
        self.heartbeat = block.take()  # monotonic nanoseconds
        self.clients = block.take()  # connected now, sessions or not, if their number is limited
        self.listening = block.take()  # 0 or 1
        self.drain_phase = block.take()  # index into exporter.relay.drain.Phase
        self.drain_sessions = block.take()
        self.drain_deadline = block.take()  # monotonic nanoseconds
        self.unobserved = {reason: block.take() for reason in Unobserved}
        self.connect_errors = {error: block.take() for error in ConnectError}
        self.accept_pauses = block.take()
        self.tls_errors = block.take()
        self.loop_turns = block.histogram(TURN_BUCKETS)
        self.routes = [RouteCells(block) for _ in range(routes + SPARE_ROUTES)]
        self.size = block.size


class ClosedCells:
    """Where the histograms of one route's closes stand in the observer's block."""

    def __init__(self, block: _Block) -> None:
        self.lifetime = {peer: block.histogram(LIFETIME_BUCKETS) for peer in Peer}
        self.idle_before_drop = {peer: block.histogram(IDLE_BUCKETS) for peer in PEERS}
        self.largest_message = {peer: block.histogram(MESSAGE_BUCKETS, 1) for peer in PEERS}
        self.reconnect_delay = {cause: block.histogram(RECONNECT_BUCKETS) for cause in Cause}


class ObserverLayout:
    """Where the counts of closes stand in the observer's block: they outlive an observer that is started anew.

    :param routes: the number of routes; room for :data:`SPARE_ROUTES` more is kept.
    :param codes: every value that the label ``code`` can take.
    :ivar label_sets: code, cause and initiator of each cell of a route, in the order of the cells.
    :ivar relay_restarts: relays that were started anew; the supervisor writes this cell.
    """

    def __init__(self, routes: int, codes: Sequence[str]) -> None:
        self.label_sets = [(code, cause, peer) for code in codes for cause in Cause for peer in Peer]
        self._cells = {labels: cell for cell, labels in enumerate(self.label_sets)}
        block = _Block()
        block.take((routes + SPARE_ROUTES) * len(self.label_sets))
        self.relay_restarts = block.take()
        self.routes = [ClosedCells(block) for _ in range(routes + SPARE_ROUTES)]
        self.size = block.size

    def closed(self, route: int, code: str, cause: Cause, initiator: Peer) -> int:
        """Return the cell of one label set. Raises KeyError for a code that is no label value."""
        return route * len(self.label_sets) + self._cells[code, cause, initiator]


class SharedCells:
    """All cells of one sidecar.

    :param view: format ``q``, :func:`SharedCells.size` cells.
    :param relays: how many relays; each has :data:`SLOTS_PER_RELAY` blocks.
    """

    def __init__(self, view: memoryview, relay: RelayLayout, observer: ObserverLayout, relays: int) -> None:
        self.relay_layout = relay
        self.observer_layout = observer
        self.slots = [view[slot * relay.size : (slot + 1) * relay.size] for slot in range(relays * SLOTS_PER_RELAY)]
        start = len(self.slots) * relay.size
        self.observer = view[start : start + observer.size]

    @staticmethod
    def size(relay: RelayLayout, observer: ObserverLayout, relays: int) -> int:
        """Return how many cells a sidecar with ``relays`` relays needs."""
        return relays * SLOTS_PER_RELAY * relay.size + observer.size


class _Block:
    def __init__(self) -> None:
        self.size = 0

    def take(self, cells: int = 1) -> int:
        start = self.size
        self.size += cells
        return start

    def histogram(self, bounds: Sequence[float], unit: int = NANOSECONDS) -> HistogramCells:
        cells = HistogramCells(self.size, bounds, unit)
        self.size += cells.size
        return cells
