"""The observer's parts on cells that a test writes: two relays, two routes, records made from keywords."""

from __future__ import annotations

import os
from typing import Any

from exporter.observe.metrics import Metrics
from exporter.observe.shared_counters import LabelSet, SharedCounters
from exporter.protocol.classify import Ending
from exporter.protocol.counters import ObserverLayout, RelayLayout
from exporter.protocol.enums import Cause, Peer
from exporter.protocol.record import PeerRecord, SessionRecord

ROUTES = ("/chat/*", "other")
CODES = ("1000", "1001", "1005", "1006", "1011", "4xxx", "unknown")
KNOWN: tuple[LabelSet, ...] = (
    ("1001", Cause.GOING_AWAY, Peer.SERVER),
    ("1011", Cause.INTERNAL_ERROR, Peer.SERVER),
    ("1006", Cause.CONNECTION_LOST, Peer.CLIENT),
)


def cells(size: int) -> memoryview:
    """Return so many cells that are 0."""
    return memoryview(bytearray(8 * size)).cast("q")


class Observed:
    """Metrics on shared cells. ``relays`` are the blocks of two relays."""

    def __init__(self, routes: tuple[str, ...] = ROUTES) -> None:
        self.layout = RelayLayout(len(routes))
        self.relays = [cells(self.layout.size) for _ in range(2)]
        self.closes_layout = ObserverLayout(len(routes), CODES)
        self.closes = cells(self.closes_layout.size)
        self.shared = self.counters(routes)
        self.metrics = Metrics(self.shared, "1.2.3", "python", os.getpid())

    def counters(self, routes: tuple[str, ...] = ROUTES) -> SharedCounters:
        """Return counters on the same cells, as an observer that is started anew has them."""
        return SharedCounters(routes, self.layout, self.relays, self.closes_layout, self.closes, KNOWN)

    def value(self, name: str, **labels: str) -> float | None:
        """Return one series' value; None if there is no such series."""
        return self.metrics.registry.get_sample_value(name, labels)

    def labels(self, name: str) -> list[dict[str, str]]:
        """Return the label sets of all series of one name."""
        families = self.metrics.registry.collect()
        return [sample.labels for family in families for sample in family.samples if sample.name == name]


def ending(code: str = "1011", cause: Cause = Cause.INTERNAL_ERROR, by: Peer = Peer.SERVER, **more: Any) -> Ending:
    """Return how a session ended: the app raised unless a test wants another close."""
    return Ending(code, cause, by, **{"clean": True, **more})


def record(
    client: PeerRecord | None = None, server: PeerRecord | None = None, seconds: float = 2.5, **more: Any
) -> SessionRecord:
    """Return the record of a session of so many seconds that closed at second 1000."""
    fields: dict[str, Any] = {
        "relay": 0, "number": 7, "opened_at": 1000.0 - seconds, "closed_at": 1000.0, "handshake_seconds": 0.003,
        "path": "/chat/1", "peer_address": "192.0.2.7", "peer_port": 40000, "subprotocol": "chat.v2",
    }  # fmt: skip
    return SessionRecord(**fields | {"client": client or PeerRecord(), "server": server or PeerRecord()} | more)
