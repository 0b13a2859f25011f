"""The exposition, made in slices."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Iterator
from time import monotonic
from types import MappingProxyType
from typing import Any

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Summary,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from exporter.admin import cooperative as pace
from exporter.admin import exposition, inside, lines
from exporter.admin.cooperative import SLICE
from exporter.admin.exposition import Exposition
from exporter.observe.inline.metrics import Metrics
from exporter.protocol.close_codes import CloseCodeMap
from tests.unit.relay.harness import on_uvloop

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
ACCEPT = ["", "text/plain;version=0.0.4", OPENMETRICS, f"{OPENMETRICS};escaping=allow-utf-8,text/plain;q=0.5"]


@pytest.fixture(autouse=True)
def _nothing_created() -> None:
    """As in the sidecar, no metric has a series that says when it was made."""
    disable_created_metrics()  # type: ignore[no-untyped-call]


@pytest.fixture(autouse=True)
def _all_formats_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that ask for all formats in turn find what was kept of each."""
    monkeypatch.setattr(exposition, "FORMATS", len(ACCEPT))


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


class Derived(Counter):
    """A counter of somebody's own, which says more than the library's."""

    def _child_samples(self) -> Any:
        (said,) = super()._child_samples()
        return said, said._replace(name="_twice_total", value=said.value * 2)


VALUES = [0.0, -0.0, 0, 1, 3, True, 0.1, 1e-7, 999999.0, 1e6, 12345678.9, 2**53, 2**70, 1e21, 1e300, -1.5, -1e9,
          float("inf"), float("-inf"), float("nan")]  # fmt: skip
NAMES = [
    "a",
    "b",
    "",
    'quoted "c"',
    "two\nlines",
    "back\\slash",
    "ünï",
    "a b",
    "{}",
    "%s",
    "c",
    "d",
    "e",
    *map(str, range(20)),
]


class ClosesPerMinute:
    """A registry with a metric of every kind, to which things happen at random."""

    def __init__(self, seed: int) -> None:
        self.registry = CollectorRegistry()
        self._random = random.Random(seed)
        labels = ["n", "other"]
        self._counters = [Counter("c", 'A "help"\nof two.', labels, registry=self.registry),
                          Derived("derived", "D.", labels, registry=self.registry)]  # fmt: skip
        self._gauge = Gauge("g", "G.", labels, registry=self.registry)
        self._histograms = [
            Histogram("h", "H.", labels, registry=self.registry),
            Histogram("below", "From below zero.", labels, registry=self.registry, buckets=(-1, 0, 1e9)),
        ]
        self._summary = Summary("s", "S.", labels, registry=self.registry)
        self._alone = Counter("alone", "A.", registry=self.registry)
        self._level = Gauge("level", "L.", registry=self.registry)
        Info("i", "I.", registry=self.registry).info({"v": "1"})
        self._enum = Enum("e", "E.", states=["x", "y"], registry=self.registry)
        self._more = 0

    def go_on(self) -> None:
        """Something happens; often nothing does."""
        steps: list[Callable[[], object]] = [self._count, self._touch, self._set, self._observe]
        steps += [self._throttle] if self._random.random() < 0.2 else []
        for _ in range(self._random.choice((0, 0, 1, 3))):
            self._random.choice(steps)()

    def _child(self, metric: Any) -> Any:
        return metric.labels(self._random.choice(NAMES), self._random.choice("xy"))

    def _exemplar(self) -> dict[str, str] | None:
        return self._random.choice((None, {"trace_id": 'a"\n'}, {"trace_id": str(self._random.random())}))

    def _count(self) -> None:
        counter = self._random.choice([self._alone, *map(self._child, self._counters)])
        counter.inc(self._random.choice((0, 0, 1, 1, 0.1, 1e9, float("inf"))), self._exemplar())

    def _set(self) -> None:
        gauge = self._random.choice((self._level, self._child(self._gauge)))
        value = self._random.choice(VALUES)
        if self._random.random() < 0.2:
            gauge.set_function(lambda: float(value))
        else:
            gauge.set(value)

    def _touch(self) -> None:
        """A cell gets another value or another exemplar, by itself."""
        cell = self._random.choice((self._alone, self._child(self._counters[0])))._value
        if self._random.random() < 0.5:
            cell.set(self._random.choice(VALUES))
        else:
            cell.set_exemplar(Exemplar({"a": "b"}, self._random.choice(VALUES), self._random.choice((None, 1.5))))

    def _observe(self) -> None:
        self._child(self._random.choice(self._histograms)).observe(self._random.choice(VALUES), self._exemplar())

    def _throttle(self) -> None:
        metric = self._random.choice([*self._counters, self._gauge, *self._histograms, self._summary])
        child = self._child(metric)
        self._summary.labels("a", "b").observe(1)
        self._enum.state(self._random.choice("xy"))
        match self._random.randrange(4):
            case 0:
                metric.remove(*child._labelvalues)
            case 1:
                metric.clear()
            case 2:
                child = self._child(self._counters[0])
                child.reset()
                child.inc(0, self._exemplar())
            case 3:
                self._more += 1
                Counter(f"more_{self._more}", "M.", registry=self.registry).inc(3)


def same_as_the_library(exposed: Exposition, made: CollectorRegistry) -> None:
    """A scrape in each format says what the library says."""
    for accept in ACCEPT:
        encode, content_type = choose_encoder(accept)
        assert asyncio.run(exposed.expose(accept)) == (encode(made), content_type)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happened_a_scrape_says_what_the_library_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Series that come, go and stay as they were, exemplars, functions, odd names and values, metrics of every kind:
    after each of many steps all formats are what the library makes of them, whatever was kept from before."""
    monkeypatch.setattr(lines, "NEIGHBOURS", seed % 3 + 1)  # few, so that what changes hides nothing beside it
    history = ClosesPerMinute(seed)
    exposed = Exposition(history.registry)
    for _ in range(40):
        history.go_on()
        same_as_the_library(exposed, history.registry)


def unlike_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are kept in something else than we know."""
    monkeypatch.setattr(inside, "MutexValue", int)


def unlike_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell has no exemplar, or has it under another name."""
    monkeypatch.setattr(inside, "_CELL", ("_value", "_exemplar_by_another_name"))


def unlike_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric lacks what we ask it for."""
    monkeypatch.setattr(inside, "_NEEDED", ("_by_another_name",))


def unlike_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """No metric is of a kind that we know."""
    monkeypatch.setattr(inside, "_KINDS", ())


@pytest.mark.parametrize("unlike", [unlike_cells, unlike_cell, unlike_metrics, unlike_kinds])
def test_a_library_that_is_made_otherwise_is_asked_for_everything(
    unlike: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where something is not as we expect it inside the library, nothing is taken for unchanged."""
    unlike(monkeypatch)
    history = ClosesPerMinute(1)
    exposed = Exposition(history.registry)
    for _ in range(15):
        history.go_on()
        same_as_the_library(exposed, history.registry)


def test_series_that_are_kept_otherwise_are_read_by_the_library() -> None:
    """A metric whose series are in no dict, in a registry that does not say what it collects from."""
    made = CollectorRegistry()
    counter = Counter("c", "C.", ["n"], registry=made)
    series = counter.labels("a")
    counter._metrics = MappingProxyType(counter._metrics)  # type: ignore[assignment]
    exposed = Exposition(Bare(made))  # type: ignore[arg-type]
    for _ in range(3):
        series.inc(1, {"trace_id": "1"})
        same_as_the_library(exposed, made)


def test_scrapes_at_the_same_time_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three that take turns within every metric, when nothing is kept yet and later, say the same as one."""
    monkeypatch.setattr(pace, "SLICE", -1.0)
    monkeypatch.setattr(pace, "SHARE", -1.0)
    history = ClosesPerMinute(1)
    exposed = Exposition(history.registry)

    async def three() -> list[tuple[bytes, str]]:
        return await asyncio.gather(*(exposed.expose(OPENMETRICS) for _ in range(3)))

    encode, content_type = choose_encoder(OPENMETRICS)
    for _ in range(10):
        for _ in range(20):
            history.go_on()
        assert asyncio.run(three()) == [(encode(history.registry), content_type)] * 3


def test_equal_is_not_unchanged() -> None:
    """What is written otherwise is written anew, though it equals what was there."""
    made = CollectorRegistry()
    cell = Counter("c", "C.", registry=made)._value
    exposed = Exposition(made)
    for value in (0.0, -0.0, 0, False, float("nan"), float("nan"), 1, 1.0):
        cell.set(value)
        same_as_the_library(exposed, made)


class Bare(Collector):
    """A registry that can be collected from, and nothing else."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.collect = registry.collect  # type: ignore[method-assign]


def test_what_has_not_changed_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of forty counters and ten histograms only the neighbours of the one that counted, and a histogram alone."""
    made = CollectorRegistry()
    counter, histogram = Counter("c", "C.", ["n"], registry=made), Histogram("h", "H.", ["n"], registry=made)
    counters = [counter.labels(str(number)) for number in range(40)]
    histograms = [histogram.labels(str(number)) for number in range(10)]
    read: list[object] = []
    for kind in (Counter, Histogram):
        monkeypatch.setattr(kind, "_child_samples", noting(kind._child_samples, read))
    exposed = Exposition(made)

    def scraped() -> list[object]:
        read.clear()
        asyncio.run(exposed.expose(OPENMETRICS))
        return list(read)

    assert scraped() == [*counters, *histograms]
    assert scraped() == []
    counters[20].inc()
    histograms[3].observe(1)
    assert scraped() == [*counters[16:32], histograms[3]]
    counters[39].inc(0, {"trace_id": "1"})
    assert scraped() == counters[32:40]
    assert scraped() == []


def noting(method: Callable[[Any], Any], called: list[object]) -> Callable[[Any], Any]:
    """The method, but it notes on what it was called."""

    def noted(self: Any) -> Any:
        called.append(self)
        return method(self)

    return noted


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
    return sum(isinstance(one, lines.Lines) for one in gc.get_objects())


def test_the_loop_goes_first_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slice used up after every piece, the loop turns once a piece, inside a metric too; and what traffic counts
    meanwhile never tears a series: the last bucket of a histogram is its count."""
    monkeypatch.setattr(pace, "SLICE", -1.0)
    monkeypatch.setattr(pace, "SHARE", -1.0)
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
    assert turns >= len(family.samples) // lines.PIECE
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

    monkeypatch.setattr(pace, "monotonic", clock)
    made = CollectorRegistry()
    gauge = Gauge("g", "G.", ["n"], registry=made)
    for number in range(100 * lines.PIECE):
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


def test_the_sidecars_own_counters_and_histograms_are_known() -> None:
    """Of what a sidecar counts, whatever has not changed since the last scrape can be told apart without reading it."""
    metrics = Metrics(["all"], CloseCodeMap(), "0", "python")
    for metric in (metrics.handshakes, metrics.handshake_duration, metrics.lifetime):
        series = inside.series_of(metric)
        assert series
        cells = inside.Cells(series)
        cells.keep(cells.look())
        assert cells.unchanged()
    metrics.of["all"].switched.step()
    cells = inside.Cells(inside.series_of(metrics.handshakes) or ())
    cells.keep(cells.look())
    metrics.of["all"].switched.step()
    assert not cells.unchanged()
