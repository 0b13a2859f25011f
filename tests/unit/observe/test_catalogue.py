"""The catalogue: the names that dashboards and alerts are built on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.observe.catalogue import CATALOGUE, Metric
from exporter.protocol.counters import LIFETIME_BUCKETS

#: The contract: names, types and labels that users build on. A change here breaks somebody's dashboard.
CONTRACT = {
    "websocket_handshakes_total": ("counter", ("route", "status")),
    "websocket_handshake_duration_seconds": ("histogram", ("route",)),
    "websocket_connections_active": ("gauge", ("route",)),
    "websocket_connections_closed_total": ("counter", ("route", "code", "cause", "initiator")),
    "websocket_connection_duration_seconds": ("histogram", ("route", "initiator")),
    "websocket_close_handshakes_incomplete_total": ("counter", ("route", "initiator")),
    "websocket_frames_total": ("counter", ("route", "sender", "opcode")),
    "websocket_payload_bytes_total": ("counter", ("route", "sender")),
    "websocket_unobserved_connections_total": ("counter", ("reason",)),
    "websocket_upstream_connect_errors_total": ("counter", ("reason",)),
    "websocket_suspect_closes_total": ("counter", ("route", "code")),
    "websocket_connections_stalled": ("gauge", ("route", "peer")),
    "websocket_stall_duration_seconds": ("histogram", ("route", "peer")),
    "websocket_largest_message_bytes": ("histogram", ("route", "sender")),
    "websocket_exporter_relay_restarts_total": ("counter", ()),
    "websocket_exporter_loop_turn_seconds": ("histogram", ()),
    "websocket_exporter_relays": ("gauge", ()),
    "websocket_exporter_log_lines_suppressed_total": ("counter", ()),
    "websocket_exporter_draining": ("gauge", ()),
    "websocket_exporter_build_info": ("gauge", ("version", "python", "engine")),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_is_kept(name: str) -> None:
    """Each name that was promised is there with its type and labels."""
    (metric,) = [metric for metric in CATALOGUE if metric.name == name]
    assert (metric.kind, metric.labels) == CONTRACT[name]


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_a_metric_follows_the_conventions(metric: Metric) -> None:
    """Prometheus' naming: one prefix, base units; a help text that is a sentence; buckets that rise."""
    assert re.fullmatch(r"websocket_[a-z_]+", metric.name)
    assert metric.help.endswith(".")
    assert "\n" not in metric.help
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert not {"path", "reason_text", "address", "client"} & set(metric.labels)


def test_names_are_unique() -> None:
    """One fact, one name."""
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("cut", [30, 60, 100, 300, 350, 600, 3600, 7200])
def test_lifetime_buckets_stand_on_both_sides_of_known_timeouts(cut: float) -> None:
    """A pile of endings at a proxy's timeout falls into one narrow bucket around it."""
    below = max(bound for bound in LIFETIME_BUCKETS if bound <= cut)
    above = min(bound for bound in LIFETIME_BUCKETS if bound > cut)
    assert below < cut < above
    assert (above - below) / cut <= 0.35


def test_names_are_written_once() -> None:
    """Code that needs a metric imports it: no other module spells a name out."""
    root = Path(__file__).parents[3] / "exporter"
    for path in root.rglob("*.py"):
        if path.name != "catalogue.py" and path.is_relative_to(root / "observe"):
            text = path.read_text(encoding="utf-8")
            for metric in CATALOGUE:
                assert metric.name not in text, f"{path} spells {metric.name}"
