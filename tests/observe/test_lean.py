"""Our counters, gauges and histograms against the library's own: whatever is counted, a scraper reads the same."""

from __future__ import annotations

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter.observe import lean

AMOUNTS = st.one_of(st.sampled_from([0.0, 1.0, 2.0, 5.0, float("inf")]), st.floats(min_value=0, max_value=1e9))


def scraped(module: object, steps: list[tuple[str, float]]) -> str:
    """What a scraper reads of one series of each kind after these steps."""
    prometheus_client.disable_created_metrics()
    registry = CollectorRegistry()
    counter, gauge, histogram = (
        getattr(module, kind)(kind.lower(), "Help.", ["who"], registry=registry, **more).labels("me")
        for kind, more in (("Counter", {}), ("Gauge", {}), ("Histogram", {"buckets": (1.0, 2.0, 5.0)}))
    )
    call = {"count": counter.inc, "up": gauge.inc, "down": gauge.dec, "observe": histogram.observe}
    for step, amount in steps:
        call[step](amount)
    return generate_latest(registry).decode()


@given(st.lists(st.tuples(st.sampled_from(["count", "up", "down", "observe"]), AMOUNTS), max_size=20))
def test_the_numbers_are_the_librarys(steps: list[tuple[str, float]]) -> None:
    """Values on a bucket's bound included."""
    assert scraped(lean, steps) == scraped(prometheus_client, steps)


@pytest.mark.parametrize("kind", ["counter", "histogram"])
def test_an_exemplar_goes_along_with_its_step(kind: str) -> None:
    """A step with an exemplar is the library's own."""
    registry = CollectorRegistry()
    if kind == "counter":
        lean.Counter("c", "Help.", registry=registry).inc(1, {"trace_id": "abc"})
    else:
        lean.Histogram("h", "Help.", registry=registry).observe(1, {"trace_id": "abc"})
    assert '# {trace_id="abc"} 1.0' in generate_openmetrics(registry).decode()
