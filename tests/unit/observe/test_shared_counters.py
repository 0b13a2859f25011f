"""The cells of all processes as one set of metric families."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily

from exporter.protocol.counters import NANOSECONDS, SLOTS_PER_RELAY, STATUSES
from exporter.protocol.enums import Cause, Peer
from tests.unit.observe.harness import KNOWN, ROUTES, Observed, ending, record

HANDSHAKES, CLOSED = "websocket_handshakes_total", "websocket_connections_closed_total"


def test_shared_counters_of_two_relays_are_summed() -> None:
    """A family's value is the sum over all relays, for each kind of cell."""
    observed = Observed()
    route = observed.layout.routes[0]
    for relay, count in zip(observed.relays, (3, 4), strict=True):
        relay[route.frames[Peer.CLIENT] + 1] = 10 * count
        relay[route.payload[Peer.SERVER]] = 100 * count
        relay[route.handshakes + STATUSES.index("101")] = count
        relay[route.stalled[Peer.CLIENT]] = 1
        relay[observed.layout.accept_pauses] = 2
    assert observed.value("websocket_connections_active", route="/chat/*") == 7
    assert observed.value("websocket_frames_total", route="/chat/*", sender="client", opcode="text") == 70
    assert observed.value("websocket_payload_bytes_total", route="/chat/*", sender="server") == 700
    assert observed.value(HANDSHAKES, route="/chat/*", status="101") == 7
    assert observed.value("websocket_connections_stalled", route="/chat/*", peer="client") == 2
    assert observed.value("websocket_exporter_accept_pauses_total") == 4
    assert observed.shared.active() == 7
    assert observed.shared.stalled() == 2


def test_active_sessions_are_those_opened_and_not_closed() -> None:
    """In every scrape the sessions that opened are those that closed, dropped records included, and the active ones."""
    observed = Observed()
    route = observed.layout.routes[0]
    observed.relays[0][route.handshakes + STATUSES.index("101")] = 10
    observed.relays[0][route.dropped] = 2
    observed.shared.count_close(0, ("1001", Cause.GOING_AWAY, Peer.SERVER))
    assert observed.value("websocket_connections_active", route="/chat/*") == observed.shared.active() == 7
    observed.relays[0][route.active] = 6
    assert observed.shared.active_by_route(0) == 6


def test_histogram_cells_are_cumulative_seconds() -> None:
    """A histogram's buckets add up and its sum is in seconds."""
    observed = Observed()
    histogram = observed.layout.routes[1].ping_rtt[Peer.SERVER]
    for seconds in (0.0009, 0.001, 0.3, 100.0):
        histogram.observe(observed.relays[0], seconds)
    labels = {"route": "other", "sender": "server"}
    buckets = {
        bound: observed.value("websocket_ping_rtt_seconds_bucket", **labels, le=bound)
        for bound in ("0.001", "0.5", "20.0", "+Inf")
    }
    assert buckets == {"0.001": 2, "0.5": 3, "20.0": 3, "+Inf": 4}
    assert observed.value("websocket_ping_rtt_seconds_count", **labels) == 4
    assert observed.value("websocket_ping_rtt_seconds_sum", **labels) == 100.3019


def test_known_label_sets_start_at_zero() -> None:
    """Closes and handshakes that are known in advance are there at 0, and no others."""
    observed = Observed()
    for route in ROUTES:
        for code, cause, initiator in KNOWN:
            assert observed.value(CLOSED, route=route, code=code, cause=cause, initiator=initiator) == 0
        for status in ("101", "400", "503", "aborted"):
            assert observed.value(HANDSHAKES, route=route, status=status) == 0
        assert observed.value(HANDSHAKES, route=route, status="4xx") is None
    assert len(observed.labels(CLOSED)) == len(KNOWN) * len(ROUTES)


def test_status_of_a_class_appears_when_it_is_counted() -> None:
    """A status without a cell of its own is exposed once its class was counted."""
    observed = Observed()
    observed.relays[1][observed.layout.routes[0].handshakes + STATUSES.index("4xx")] = 1
    assert observed.value(HANDSHAKES, route="/chat/*", status="4xx") == 1


def test_count_close_of_any_label_set_is_exposed() -> None:
    """A close is counted under its own labels, known in advance or not, and outlives the observer."""
    observed = Observed()
    observed.shared.count_close(0, ("1011", Cause.INTERNAL_ERROR, Peer.SERVER))
    observed.shared.count_close(1, ("4xxx", Cause.APPLICATION, Peer.CLIENT))
    labels = {"route": "other", "code": "4xxx", "cause": "application", "initiator": "client"}
    assert observed.value(CLOSED, **labels) == 1
    anew = observed.counters()
    assert anew.closed() == {
        ("1011", Cause.INTERNAL_ERROR, Peer.SERVER): 1,
        ("4xxx", Cause.APPLICATION, Peer.CLIENT): 1,
    }
    assert [anew.closed_by_route(route) for route in range(2)] == [1, 1]


def test_dropped_records_are_unclassified_closes() -> None:
    """A record that the observer could not take is a close of unknown code with cause unclassified."""
    observed = Observed()
    observed.relays[0][observed.layout.routes[0].dropped + list(Peer).index(Peer.SERVER)] = 3
    observed.shared.count_close(0, ("unknown", Cause.UNCLASSIFIED, Peer.SERVER))
    labels = {"route": "/chat/*", "code": "unknown", "cause": "unclassified", "initiator": "server"}
    assert observed.value(CLOSED, **labels) == 4
    assert observed.shared.closed_by_route(0) == 4


def test_close_with_a_trace_has_an_exemplar() -> None:
    """A close's trace id is the exemplar of its series."""
    observed = Observed()
    observed.metrics.session_closed(record(trace_id="ab" * 16), ending())
    (family,) = [family for family in observed.shared.collect() if f"{family.name}_total" == CLOSED]
    assert isinstance(family, CounterMetricFamily)
    exemplars = [sample.exemplar.labels for sample in family.samples if sample.exemplar is not None]
    assert exemplars == [{"trace_id": "ab" * 16}]


def test_drain_gauges_follow_the_relays(monkeypatch) -> None:
    """A drain of any relay is a drain; its sessions are summed, and the last deadline counts."""
    monkeypatch.setattr("exporter.observe.shared_counters.monotonic_ns", lambda: 5 * NANOSECONDS)
    observed = Observed()
    layout = observed.layout
    observed.relays[1][layout.drain_deadline] = 7 * NANOSECONDS
    assert observed.value("websocket_exporter_draining") == 0
    assert observed.value("websocket_exporter_drain_seconds_remaining") == 0
    observed.relays[1][layout.drain_phase] = 2
    for relay in observed.relays:
        relay[layout.drain_sessions] = 4
    assert observed.value("websocket_exporter_draining") == 1
    assert observed.value("websocket_exporter_drain_sessions_remaining") == 8
    assert observed.value("websocket_exporter_drain_seconds_remaining") == 2


def test_relays_are_counted_without_the_blocks_of_lost_ones() -> None:
    """The number of relays is that of --workers, however many blocks they have."""
    observed = Observed()
    observed.relays[:] = observed.relays[:1] * (4 * SLOTS_PER_RELAY)
    assert observed.value("websocket_exporter_relays") == 4


def test_relay_restarts_are_exposed() -> None:
    """Relays that were started anew are counted."""
    observed = Observed()
    observed.closes[observed.closes_layout.relay_restarts] += 1
    assert observed.value("websocket_exporter_relay_restarts_total") == 1
