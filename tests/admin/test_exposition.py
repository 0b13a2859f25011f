"""The exposition, made in slices."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from time import monotonic

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from exporter.admin import exposition
from exporter.admin.exposition import SLICE, Exposition
from tests.relay.peers import on_uvloop

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
ACCEPT = ["", "text/plain;version=0.0.4", OPENMETRICS, f"{OPENMETRICS};escaping=allow-utf-8,text/plain;q=0.5"]


@pytest.fixture(autouse=True)
def _nothing_created() -> None:
    """As in the sidecar, no metric has a series that says when it was made."""
    disable_created_metrics()  # type: ignore[no-untyped-call]


class Collected(Collector):
    """A metric that somebody else keeps."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterator[Family]:
        yield self._family


def registry(metrics: int = 3) -> CollectorRegistry:
    """Counters and histograms, one with an exemplar."""
    made = CollectorRegistry()
    for number in range(metrics):
        counter = Counter(f"things_{number}", 'A "help"\nof two lines.', ["kind"], registry=made)
        counter.labels('a "quoted"\nkind').inc(number)
        counter.labels("traced").inc(1, {"trace_id": "abc"})
        Histogram(f"seconds_{number}", "Times.", registry=made).observe(0.3)
    return made


@pytest.mark.parametrize("accept", ACCEPT)
@pytest.mark.parametrize("metrics", [0, 3])
def test_slices_add_up_to_the_whole(accept: str, metrics: int) -> None:
    """Byte for byte what the library makes of the whole registry, in every format, with nothing in it, too."""
    made = registry(metrics)
    encode, content_type = choose_encoder(accept)
    assert asyncio.run(Exposition(made).expose(accept)) == (encode(made), content_type)


@pytest.mark.parametrize("accept", ACCEPT)
def test_a_metric_of_many_series_is_cut_as_well(accept: str) -> None:
    """A hundred series under one name, of a counter, a gauge, a histogram and a collector of its own: nothing is said
    twice, nothing left out."""
    made = CollectorRegistry()
    counter, gauge = Counter("c", "C.", ["n"], registry=made), Gauge("g", "G.", ["n"], registry=made)
    histogram = Histogram("h", "H.", ["n"], registry=made)
    for number in map(str, range(100)):
        counter.labels(number).inc(1, {"trace_id": number})
        gauge.labels(number).set(2)
        histogram.labels(number).observe(3)
    own = CounterMetricFamily("own", "Own.", labels=["n"])
    for number in map(str, range(100)):
        own.add_metric([number], 4)
    made.register(Collected(own))
    encode, content_type = choose_encoder(accept)
    whole = encode(made)
    assert asyncio.run(Exposition(made).expose(accept)) == (whole, content_type)


def test_later_scrapes_say_what_holds_then() -> None:
    """Lines are remembered up to their values: with other values of every kind, exemplars that come and go and series
    that are new, each scrape is what the library makes of the registry at that moment, in all formats in turn."""
    made = CollectorRegistry()
    gauge, counter = Gauge("g", "G.", ["n"], registry=made), Counter("c", "C.", ["n"], registry=made)
    histogram = Histogram("h", "H.", ["n"], registry=made)
    own = GaugeMetricFamily("own", "Own.", labels=["n"])
    own.add_metric(["a"], 1, timestamp=12.5)
    made.register(Collected(own))
    exposed = Exposition(made)
    for step, value in enumerate((0.0, 1.0, -1.5, 12345678.9, 1e21, float("inf"), float("-inf"), float("nan"))):
        for name in ("a", 'quoted "b"\n', f"new {step}"):
            gauge.labels(name).set(value)
            exemplar = {"trace_id": "1"} if step % 2 else None
            counter.labels(name).inc(1, exemplar)
            histogram.labels(name).observe(step, exemplar)
        for accept in ACCEPT:
            encode, content_type = choose_encoder(accept)
            assert asyncio.run(exposed.expose(accept)) == (encode(made), content_type)


def test_what_is_remembered_is_bounded() -> None:
    """Whoever scrapes with a new Accept header each time does not fill our memory."""
    exposed = Exposition(registry())
    before = count_lines()
    for minor in range(20):
        asyncio.run(exposed.expose(f"application/openmetrics-text;version=1.{minor}.0"))
    assert count_lines() - before == exposition.FORMATS


def count_lines() -> int:
    """Formats that are remembered now."""
    gc.collect()
    return sum(isinstance(one, exposition.Lines) for one in gc.get_objects())


def test_the_loop_goes_first_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slice used up after every piece, the loop turns once a piece, inside a metric too; and what traffic counts
    meanwhile never tears a series: the last bucket of a histogram is its count."""
    monkeypatch.setattr(exposition, "SLICE", -1.0)
    monkeypatch.setattr(exposition, "SHARE", -1.0)
    made = CollectorRegistry()
    histogram = Histogram("seconds", "Times.", ["kind"], registry=made)
    for number in range(20):
        histogram.labels(str(number))

    async def scrape() -> tuple[str, int]:
        turns = 0

        async def traffic() -> None:
            nonlocal turns
            while True:
                for number in range(20):
                    histogram.labels(str(number)).observe(0.1)
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(traffic())
        text, _ = await Exposition(made).expose("")
        beside.cancel()
        return text.decode(), turns

    text, turns = asyncio.run(scrape())
    (family,) = text_string_to_metric_families(text)
    assert turns >= len(family.samples) // exposition.PIECE
    last = {s.labels["kind"]: s.value for s in family.samples if s.labels.get("le") == "+Inf"}
    counts = {s.labels["kind"]: s.value for s in family.samples if s.name == "seconds_count"}
    assert last == counts
    assert len(set(counts.values())) > 1, "series are read one after the other"


def test_slices_grow_with_the_turns_of_a_busy_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one turn takes a second, a scrape of 50 slices takes a turn or two, not 50."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += SLICE / 2  # what a piece takes
        return now

    monkeypatch.setattr(exposition, "monotonic", clock)
    made = CollectorRegistry()
    gauge = Gauge("g", "G.", ["n"], registry=made)
    for number in range(100 * exposition.PIECE):
        gauge.labels(str(number))

    async def turns(seconds: float) -> int:
        counted = 0

        async def traffic() -> None:
            nonlocal counted, now
            while True:
                counted += 1
                now += seconds
                await asyncio.sleep(0)

        beside = asyncio.create_task(traffic())
        await Exposition(made).expose("")
        beside.cancel()
        return counted

    assert asyncio.run(turns(0.0)) > 30
    assert 1 <= asyncio.run(turns(1.0)) <= 3


@on_uvloop
async def test_what_has_to_be_settled_is_settled_before_anything_is_read() -> None:
    """Every step is taken, others have their turn between them, and the text has the values of after the last."""
    made = CollectorRegistry()
    gauge = Gauge("steps", "Steps taken.", registry=made)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def steps() -> Iterator[None]:
        for _ in range(5):
            gauge.inc()
            until = monotonic() + 2 * SLICE
            while monotonic() < until:
                pass
            yield

    beside = asyncio.create_task(others())
    text, _ = await Exposition(made).expose("", steps())
    beside.cancel()
    assert b"\nsteps 5.0\n" in text
    assert turns >= 5
