"""Metrics of closes, and that everything of the catalogue is exposed."""

from __future__ import annotations

import pytest

from exporter.observe.catalogue import CATALOGUE
from exporter.protocol.enums import PEERS, Cause, Peer
from exporter.protocol.record import PeerRecord
from tests.unit.observe.harness import Observed, ending, record


def test_metrics_exposed_are_those_of_the_catalogue() -> None:
    """Every metric of the catalogue is exposed with its type and help, and none of our prefix beside them."""
    families = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, family.documentation)
        for family in Observed().metrics.registry.collect()
    }
    ours = {name: about for name, about in families.items() if name.startswith("websocket_")}
    assert ours == {metric.name: (metric.kind, metric.help) for metric in CATALOGUE}


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_metrics_labels_are_those_of_the_catalogue(metric) -> None:
    """Each series has the labels of the catalogue, and a histogram its buckets."""
    observed = Observed()
    observed.metrics.session_closed(record(trace_id="ab" * 16), ending())
    name = metric.name + ("_bucket" if metric.kind == "histogram" else "")
    found = observed.labels(name)
    assert found
    for labels in found:
        assert set(labels) - {"le"} == set(metric.labels)
    if metric.kind == "histogram":
        assert {float(labels["le"]) for labels in found} == {*metric.buckets, float("inf")}


def test_closed_session_is_counted_once_in_each_metric() -> None:
    """A close steps its counter, and its lifetime and largest messages are observed."""
    observed = Observed()
    client, server = PeerRecord(largest_message=100), PeerRecord(largest_message=0)
    observed.metrics.session_closed(record(client, server, seconds=42.0), ending())
    by = {"route": "/chat/*", "initiator": "server"}
    assert observed.value("websocket_connections_closed_total", **by, code="1011", cause="internal-error") == 1
    assert observed.value("websocket_connection_duration_seconds_sum", **by) == 42
    assert observed.value("websocket_close_handshakes_incomplete_total", **by) == 0
    assert observed.value("websocket_idle_before_drop_seconds_count", **by) == 0
    sizes = {
        peer: observed.value("websocket_largest_message_bytes_count", route="/chat/*", sender=peer) for peer in PEERS
    }
    assert sizes == {Peer.CLIENT: 1, Peer.SERVER: 0}


def test_closed_without_an_answering_close_is_incomplete() -> None:
    """A Close that TCP's end left unanswered is counted."""
    observed = Observed()
    observed.metrics.session_closed(record(), ending(clean=False, close_unanswered=True))
    assert observed.value("websocket_close_handshakes_incomplete_total", route="/chat/*", initiator="server") == 1


def test_closed_without_a_close_frame_has_an_idle_time() -> None:
    """The idle time before a drop is that since the last frame of either peer."""
    observed = Observed()
    client, server = PeerRecord(last_frame_at=930.0), PeerRecord(last_frame_at=940.0)
    lost = ending("1006", Cause.CONNECTION_LOST, clean=False)
    observed.metrics.session_closed(record(client, server, seconds=500.0), lost)
    assert observed.value("websocket_idle_before_drop_seconds_sum", route="/chat/*", initiator="server") == 60


def test_suspect_close_and_return_are_counted() -> None:
    """Suspect closes count by code, returns by the cause of the session before."""
    observed = Observed()
    observed.metrics.session_closed(record(), ending("1000", Cause.NORMAL, suspect=True))
    observed.metrics.returned(1, Cause.GOING_AWAY, 3.0)
    assert observed.value("websocket_suspect_closes_total", route="/chat/*", code="1000") == 1
    labels = {"route": "other", "after_cause": "going-away"}
    assert observed.value("websocket_reconnect_delay_seconds_sum", **labels) == 3
