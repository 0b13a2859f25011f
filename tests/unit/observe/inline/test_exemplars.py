"""Trace ids as exemplars."""

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter.observe.inline.metrics import Metrics
from exporter.observe.sanitize import trace_id
from exporter.protocol.classify import Ending
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.enums import Cause, Peer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ENDING = Ending("1011", Cause.INTERNAL_ERROR, Peer.SERVER, clean=True)


def lines(text: bytes, *parts: str) -> list[str]:
    return [line for line in text.decode().splitlines() if all(unlink in line for unlink in parts)]


def test_the_handshakes_trace_id_is_the_exemplar_of_counter_and_lifetime():
    """In the OpenMetrics format; the plain format knows no exemplars and has none."""
    metrics = Metrics(["all"], CloseCodeMap(), "1", "python")
    metrics.ended("all", ENDING, 7.5, TRACE)
    openmetrics = generate_openmetrics(metrics.registry)
    exemplar = f'# {{trace_id="{TRACE}"}}'
    assert lines(openmetrics, "websocket_connections_closed_total", 'code="1011"', exemplar)
    assert lines(
        openmetrics, "websocket_connection_duration_seconds_bucket", 'le="10.0"', 'initiator="server"', exemplar
    )
    assert not lines(generate_latest(metrics.registry), TRACE)


def test_an_ending_without_a_trace_has_no_exemplar():
    """No empty exemplar is made up."""
    metrics = Metrics(["all"], CloseCodeMap(), "1", "python")
    metrics.ended("all", ENDING, 7.5)
    assert not lines(generate_openmetrics(metrics.registry), "trace_id")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f" 00-{TRACE}-00f067aa0ba902b7-01 ", TRACE),
        (f"01-{TRACE}-00f067aa0ba902b7-01-more", TRACE),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}", ""),
        ('"} evil', ""),
        ("", ""),
    ],
)
def test_only_a_well_formed_traceparent_has_a_trace_id(header, expected):
    """As W3C Trace Context says: lower-case hex, not all zeros; whatever else a client sends is no trace id."""
    assert trace_id(header) == expected
