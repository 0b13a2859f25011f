"""What a scrape costs under load: how long it takes, and how far it moves the relay's latency.

How it works
============
Sessions are held and kept busy by :mod:`tests.load.clients` in a process of its own. Meanwhile a few probe sessions
in this process each send a frame :data:`RATE` times a second and time the answer, and a third process scrapes
/metrics once a second, as Prometheus does, in every other interval only: the probes' latency with scrapes and without
comes from one run, in turns, so that whatever else the machine does falls on both alike. Times are those of a client,
through the sidecar, the app and both kernels' sockets. A probe that is behind its time does not skip a turn: latency
counts from when the frame should have been sent, so that a standstill is not told by one frame alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

import uvloop

from tests.e2e.harness.scrape import ACTIVE
from tests.e2e.harness.sidecar import ROOT, Sidecar
from tests.load.clients import begin
from tests.load.run import stage
from tests.waiting import eventually

PROBES = 20
#: Frames a second of one probe.
RATE = 20.0
#: Seconds of an interval: ten scrapes.
INTERVAL = 10.0
#: Sessions a second that are opened on a machine that is busy with other things, at the least.
SLOWEST = 150
#: What Prometheus sends.
ACCEPT = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3"


@dataclass(slots=True)
class Result:
    """Times in milliseconds. ``pairs`` are the 99th percentiles of the latency (without, with scrapes), in turns."""

    sessions: int
    rounds: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    scrapes: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    with_scrapes: list[float] = field(default_factory=list)
    pairs: list[tuple[float, float]] = field(default_factory=list)
    load: tuple[float, float] = (0.0, 0.0)  # average over a minute, before and after

    def __str__(self) -> str:
        """The figures, one a line."""
        ratios = sorted(after / before for before, after in self.pairs)
        lines = [f"{self.sessions} sessions, {self.rounds} round trips of theirs, broken: {self.broken or 'none'}"]
        for name, times in (
            ("scrape", self.scrapes),
            ("latency without scrapes", self.without),
            ("latency with scrapes", self.with_scrapes),
        ):
            figures = ", ".join(f"p{share:g} {percentile(times, share):.2f}" for share in (50, 90, 99, 99.9))
            lines.append(f"{name}: {len(times)} of them, {figures}, max {max(times):.2f} ms")
        moved = percentile(self.with_scrapes, 99) / percentile(self.without, 99)
        lines.append(f"p99 of the latency with scrapes, of all / without: {moved:.3f}")
        spread = f"{len(ratios)} pairs from {ratios[0]:.3f} to {ratios[-1]:.3f}"
        lines.append(f"the same pair by pair: median {median(ratios):.3f}, {spread}")
        lines.append(f"load average {self.load[0]:.1f} before, {self.load[1]:.1f} after, on {os.cpu_count()} cores")
        return "\n".join(f"  {line}" for line in lines)


def percentile(values: Iterable[float], share: float) -> float:
    """The value that ``share`` percent are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]


def slot(at: float, start: float, span: float) -> int:
    """The number of the interval, of ``span`` seconds, that the moment ``at`` is in; odd ones have scrapes."""
    return int((at - start) / span)


def measure(sessions: int, pairs: int, every: float = 10.0, span: float = INTERVAL) -> Result:
    """Hold ``sessions``, each a round trip ``every`` seconds, for so many pairs of intervals of ``span`` seconds."""
    result = Result(sessions)
    with stage() as (sidecar, _):
        seconds = 2 * pairs * span
        command = [sys.executable, "-m", "tests.load.clients", str(sidecar.port), "hold", str(sessions)]
        before = os.getloadavg()[0]
        opening = 5 + sessions / SLOWEST
        with subprocess.Popen(
            [*command, f"{seconds + opening:g}", f"{every:g}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as clients:
            try:
                eventually(lambda: sidecar.scrape().value(ACTIVE) == sessions, "all are open", 120)
                start = time.monotonic() + 1
                times = _scraper(sidecar, start, seconds, span)
                samples = uvloop.run(_probe(sidecar.port, start, seconds))
                result.scrapes = json.loads(times.communicate()[0])
                told = json.loads(clients.communicate()[0])
            finally:
                clients.kill()
        result.rounds, result.broken = told["rounds"], told["broken"]
        result.load = before, os.getloadavg()[0]
        _sort(result, samples, start, span)
    return result


def _sort(result: Result, samples: list[tuple[float, float]], start: float, span: float) -> None:
    slots: dict[int, list[float]] = {}
    for at, took in samples:
        number = slot(at, start, span)
        (result.with_scrapes if number % 2 else result.without).append(took)
        slots.setdefault(number, []).append(took)
    p99 = [percentile(slots[number], 99) for number in sorted(slots)]
    result.pairs = list(zip(p99[::2], p99[1::2], strict=True))


def _scraper(sidecar: Sidecar, *numbers: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.load.scrapes", f"{sidecar.admin_url}/metrics", *map(str, numbers)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def scrape(url: str, start: float, seconds: float, span: float) -> None:
    """Scrape once a second in every other interval; print how long each took."""
    times = []
    for turn in range(int(seconds)):
        at = start + turn + 0.5
        if slot(at, start, span) % 2:
            time.sleep(max(0.0, at - time.monotonic()))
            began = time.perf_counter()
            with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": ACCEPT}), timeout=60) as answer:
                answer.read()
            times.append((time.perf_counter() - began) * 1000)
    print(json.dumps(times))


async def _probe(port: int, start: float, seconds: float) -> list[tuple[float, float]]:
    """(when it should have been sent, how long from then to the answer in ms) of every frame of every probe."""
    samples: list[tuple[float, float]] = []

    async def one(number: int) -> None:
        session = await begin(port)
        await session.open()
        for turn in range(int(seconds * RATE)):
            at = start + (turn + number / PROBES) / RATE
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            await session.round()
            samples.append((at, (time.monotonic() - at) * 1000))
        await session.close()

    async with asyncio.TaskGroup() as group:
        for number in range(PROBES):
            group.create_task(one(number))
    return samples


if __name__ == "__main__":
    scrape(sys.argv[1], *map(float, sys.argv[2:]))
