"""Our counters, gauges and histograms against the library's own: whatever is counted, a scraper reads the same."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter.observe.inline import lean

AMOUNTS = st.one_of(st.sampled_from([0.0, 1.0, 2.0, 5.0, float("inf")]), st.floats(min_value=0, max_value=1e9))


#: What a step is called on the library's metrics, and on the numbers in ours, which sessions step.
THEIRS = {"count": "inc", "up": "inc", "down": "dec", "observe": "observe"}
OURS = {"count": "number.inc", "up": "number.inc", "down": "number.inc", "observe": "spread.observe"}


def scraped(module: object, names: dict[str, str], steps: list[tuple[str, float]]) -> str:
    """What a scraper reads of one series of each kind after these steps."""
    prometheus_client.disable_created_metrics()
    registry = CollectorRegistry()
    counter, gauge, histogram = (
        getattr(module, kind)(kind.lower(), "Help.", ["who"], registry=registry, **more).labels("me")
        for kind, more in (("Counter", {}), ("Gauge", {}), ("Histogram", {"buckets": (1.0, 2.0, 5.0)}))
    )
    of = {"count": counter, "up": gauge, "down": gauge, "observe": histogram}
    for step, amount in steps:
        attrgetter(names[step])(of[step])(-amount if step == "down" and names is OURS else amount)
    return generate_latest(registry).decode()


@given(st.lists(st.tuples(st.sampled_from(["count", "up", "down", "observe"]), AMOUNTS), max_size=20))
def test_the_numbers_are_the_librarys(steps: list[tuple[str, float]]) -> None:
    """Values on a bucket's bound included, whether a step takes the short way or the library's."""
    expected = scraped(prometheus_client, THEIRS, steps)
    assert scraped(lean, OURS, steps) == expected
    assert scraped(lean, THEIRS, steps) == expected


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        (lean.Counter, lambda counter: counter.inc(1, {"trace_id": "abc"})),
        (lean.Counter, lambda counter: counter.number.step("abc")),
        (lean.Histogram, lambda histogram: histogram.observe(1, {"trace_id": "abc"})),
        (lean.Histogram, lambda histogram: histogram.spread.observe(1, "abc")),
    ],
)
def test_an_exemplar_goes_along_with_its_step(kind: Callable[..., Any], step: Callable[[Any], None]) -> None:
    """Whichever way the step is made."""
    registry = CollectorRegistry()
    metric = kind("m", "Help.", registry=registry)
    step(metric)
    exposed = generate_openmetrics(registry).decode()
    assert '# {trace_id="abc"} 1.0' in exposed
    assert exposed.count("# {") == 1


def test_a_step_without_a_trace_keeps_the_exemplar() -> None:
    """What was carried along stays until another comes."""
    registry = CollectorRegistry()
    counter = lean.Counter("m", "Help.", registry=registry)
    counter.number.step("abc")
    counter.number.step()
    assert 'm_total 2.0 # {trace_id="abc"} 1.0' in generate_openmetrics(registry).decode()
