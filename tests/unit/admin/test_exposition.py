"""Expositions: one at a time, shared by those who wait, never older than the question."""

from __future__ import annotations

import asyncio
import threading

import pytest
from prometheus_client import CollectorRegistry, Counter

from exporter.admin.responses import TimeShare
from exporter.admin.server import Exposition

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Scene:
    """An exposition of one counter that is one more each time it is made."""

    def __init__(self) -> None:
        self.made = 0
        self.at_once = self.most_at_once = 0
        self.registry = CollectorRegistry()
        self.registry.register(self)  # type: ignore[arg-type]  # a collector by its method
        self.go_on = threading.Event()
        self.go_on.set()
        self.exposition = Exposition(self.registry, self.before, TimeShare())

    async def before(self) -> None:
        await asyncio.sleep(0)

    def collect(self):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.go_on.wait(30)
        self.made += 1
        scratch = CollectorRegistry()
        Counter("made", "Expositions.", registry=scratch).inc(self.made)
        yield from scratch.collect()
        self.at_once -= 1


async def test_exposition_for_many_scrapers_is_made_once_or_twice() -> None:
    """Scrapers that wait share one exposition; one that comes while it is made waits for the next."""
    scene = Scene()
    scene.made = 0  # the registry has looked once
    scene.go_on.clear()
    first = asyncio.create_task(scene.exposition.expose("", True))
    while not scene.at_once:
        await asyncio.sleep(0.01)
    others = [asyncio.create_task(scene.exposition.expose("", True)) for _ in range(300)]
    await asyncio.sleep(0.05)
    scene.go_on.set()
    assert b"made_total 1.0" in (await first)[0]
    bodies = {body for body, _ in await asyncio.gather(*others)}
    assert len(bodies) == 1
    assert b"made_total 2.0" in bodies.pop()
    assert (scene.made, scene.most_at_once) == (2, 1)


async def test_exposition_in_each_format_is_what_was_asked_for() -> None:
    """Scrapers of both formats wait for each other and each get theirs."""
    scene = Scene()
    (plain, kind), (openmetrics, other) = await asyncio.gather(
        scene.exposition.expose("", True), scene.exposition.expose(OPENMETRICS, True)
    )
    assert kind.startswith("text/plain")
    assert other.startswith("application/openmetrics-text")
    assert openmetrics.endswith(b"# EOF\n")
    assert not plain.endswith(b"# EOF\n")
    assert scene.most_at_once == 1


async def test_exposition_without_exemplars_is_the_same_beside_them() -> None:
    """Exemplars show to those who may see them; everything else is the same."""
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc(1, {"trace_id": "ab" * 16})

    async def before() -> None:
        pass

    exposition = Exposition(registry, before, TimeShare())
    with_them, _ = await exposition.expose(OPENMETRICS, True)
    without, _ = await exposition.expose(OPENMETRICS, False)
    assert b"trace_id" in with_them
    assert b"trace_id" not in without
    assert without.splitlines()[2].split()[:2] == with_them.splitlines()[2].split()[:2]


async def test_exposition_that_fails_fails_for_its_scrapers_alone() -> None:
    """An error reaches those who wait; the next exposition is made as ever."""
    scene = Scene()
    broken = [True]

    async def before() -> None:
        if broken[0]:
            raise ValueError("a defect")

    exposition = Exposition(scene.registry, before, TimeShare())
    with pytest.raises(ValueError, match="a defect"):
        await exposition.expose("", True)
    broken[0] = False
    assert b"made_total" in (await exposition.expose("", True))[0]
