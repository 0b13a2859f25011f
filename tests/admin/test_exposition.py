"""The exposition, made in slices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import monotonic

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from exporter.admin import exposition
from exporter.admin.exposition import SLICE, expose
from tests.relay.peers import on_uvloop

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
ACCEPT = ["", "text/plain;version=0.0.4", OPENMETRICS, f"{OPENMETRICS};escaping=allow-utf-8,text/plain;q=0.5"]


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
    assert asyncio.run(expose(made, accept)) == (encode(made), content_type)


def test_the_loop_goes_first_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slice used up after every metric, the loop turns once a metric; what it counts meanwhile is not in."""
    monkeypatch.setattr(exposition, "SLICE", -1.0)
    made = registry()
    meanwhile = Counter("turns", "Turns of the loop.", registry=made)

    async def scrape() -> tuple[bytes, float]:
        over = False

        async def traffic() -> None:
            while not over:
                meanwhile.inc()
                await asyncio.sleep(0)

        task = asyncio.create_task(traffic())
        text, _ = await expose(made, "")
        over = True
        await task
        return text, meanwhile._value.get()

    text, turns = asyncio.run(scrape())
    assert turns >= len(list(made.collect())) - 1
    assert b"\nturns_total 0.0\n" in text


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
    text, _ = await expose(made, "", steps())
    beside.cancel()
    assert b"\nsteps 5.0\n" in text
    assert turns >= 5
