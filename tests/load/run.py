"""One run of load against a sidecar in processes of their own, and what was measured meanwhile."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from tests.e2e.harness.process import Process, running
from tests.e2e.harness.scrape import ACTIVE, CLOSED, HANDSHAKES, Scrape
from tests.e2e.harness.sidecar import ROOT, Sidecar
from tests.load.clients import COMMON
from tests.ports import free_port
from tests.waiting import eventually

FRAMES = "websocket_frames_total"
#: Seconds for sessions to be over once their clients have gone.
SETTLING = 60.0


#: Series that causes which are rare may add beyond the first clients: a histogram of reconnect delays for each, by
#: timing. Whatever a client may choose would add one for each of 1,200 clients.
RARE = 100


@dataclass(slots=True)
class Result:
    """What one run showed. Memory in MiB, times in milliseconds."""

    run: str
    sessions: int = 0
    rounds: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    most_active: int = 0
    rss_start: float = 0.0
    rss_peak: float = 0.0
    rss_end: float = 0.0
    descriptors_start: int = 0
    descriptors_peak: int = 0
    descriptors_end: int = 0
    handshakes: int = 0
    endings: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    series_first: int = 0  # of a sidecar that has seen nothing; every kind of ending that is rare adds a few, once
    series_start: int = 0
    series_end: int = 0
    scrapes: int = 0
    scrape_p50: float = 0.0
    scrape_p99: float = 0.0

    @property
    def problems(self) -> list[str]:
        """What does not add up; empty if all does."""
        found = []
        if self.broken:
            found.append(f"broken sessions: {self.broken}")
        if not self.handshakes == self.sessions == sum(self.endings.values()):
            found.append(f"{self.sessions} sessions, {self.handshakes} handshakes, {self.endings} endings")
        if self.descriptors_end > self.descriptors_start:
            found.append(f"descriptors: {self.descriptors_start} at first, {self.descriptors_end} in the end")
        if self.series_end > self.series_start + RARE:
            found.append(f"series: {self.series_start} at first, {self.series_end} in the end")
        if self.run != "odd" and self.frames != 2 * self.rounds + 2 * self.sessions:
            found.append(f"{self.frames} frames counted for {self.rounds} rounds and {self.sessions} sessions")
        return found

    def __str__(self) -> str:
        """The figures, one a line."""
        return "\n".join(f"  {name:18} {value}" for name, value in asdict(self).items())


class Watch(threading.Thread):
    """Looks at the sidecar once a second: memory, descriptors, and how long a scrape takes."""

    def __init__(self, sidecar: Sidecar, result: Result) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self._sidecar, self._result = sidecar, result
        self._times: list[float] = []

    def run(self) -> None:
        while not self.over.wait(1.0):
            self.look()
        if self._times:
            times = sorted(self._times)
            self._result.scrapes = len(times)
            self._result.scrape_p50 = round(times[len(times) // 2] * 1000, 1)
            self._result.scrape_p99 = round(times[min(len(times) - 1, len(times) * 99 // 100)] * 1000, 1)

    def look(self) -> None:
        """One look."""
        result, sidecar = self._result, self._sidecar
        began = time.perf_counter()
        with urllib.request.urlopen(sidecar.admin_url + "/metrics", timeout=60) as answer:
            text = answer.read().decode()
        self._times.append(time.perf_counter() - began)
        active = next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(ACTIVE + "{"))
        result.most_active = max(result.most_active, int(active))
        result.rss_peak = max(result.rss_peak, rss(sidecar))
        result.descriptors_peak = max(result.descriptors_peak, sidecar.process.descriptors())


def rss(sidecar: Sidecar) -> float:
    """Resident memory of all processes in MiB."""
    return round(sidecar.process.rss_kib() / 1024, 1)


def series(scrape: Scrape) -> int:
    """How many there are, but for what the process tells of itself."""
    return sum(not name.startswith("process_") for name, _ in scrape._samples)


def allow_descriptors() -> None:
    """As many as we may have; the processes get it from us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def stage() -> Iterator[tuple[Sidecar, Process]]:
    """A sidecar, and behind it the app of these runs."""
    allow_descriptors()
    port = free_port()
    with running(Process("the app", [sys.executable, "-m", "tests.load.app", str(port)], cwd=ROOT)) as app:
        app.wait_listening(port)
        sidecar = Sidecar(port, "--log-endings", "none")
        try:
            yield sidecar, app
        finally:
            sidecar.stop()


def run(how: str, *numbers: float) -> Result:
    """One run: ``hold``, ``short`` or ``odd`` with its numbers, see :mod:`tests.load.clients`."""
    result = Result(how)
    with stage() as (sidecar, _):
        result.series_first = series(sidecar.scrape())
        _warm_up(sidecar, how)
        before = sidecar.scrape()
        result.series_start = series(before)
        result.rss_start, result.descriptors_start = rss(sidecar), sidecar.process.descriptors()
        watch = Watch(sidecar, result)
        watch.start()
        began = time.monotonic()
        try:
            told = _clients(sidecar.port, how, *numbers)
        finally:
            watch.over.set()
            watch.join()
        result.seconds = round(time.monotonic() - began, 1)
        result.sessions, result.rounds, result.broken = told["sessions"], told["rounds"], told["broken"]
        _settle(sidecar, before, result)
    return result


def _clients(port: int, how: str, *numbers: float) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.load.clients", str(port), how, *(f"{number:g}" for number in numbers)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def _warm_up(sidecar: Sidecar, how: str) -> None:
    """What is loaded, allocated or first counted at the first use is not growth."""
    _clients(sidecar.port, "short", 200, 20)
    if how == "odd":
        _clients(sidecar.port, "odd", len(COMMON), 1)
    eventually(lambda: sidecar.scrape().value(ACTIVE) == 0, "the warm-up is over")


def _settle(sidecar: Sidecar, before: Scrape, result: Result) -> None:
    eventually(lambda: sidecar.scrape().value(ACTIVE) == 0, "no session is left", SETTLING)
    after = sidecar.scrape()
    added = after.since(before)
    result.series_end = series(after)
    result.handshakes = int(added.value(HANDSHAKES, status="101"))
    result.endings = {"/".join(ending): int(count) for ending, count in added.endings().items()}
    result.frames = int(added.value(FRAMES))
    assert int(added.value(CLOSED)) == sum(result.endings.values())
    result.rss_end = rss(sidecar)

    def given_back() -> bool:
        result.descriptors_end = sidecar.process.descriptors()
        return result.descriptors_end <= result.descriptors_start

    try:
        eventually(given_back, "descriptors are given back")
    except AssertionError:
        return  # Result.problems says so
