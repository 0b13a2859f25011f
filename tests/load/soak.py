"""Hostile clients of every kind beside innocent sessions: latency, memory, descriptors, books.

A sidecar, the app, the innocent (:mod:`tests.load.clients`) and the hostile (:mod:`tests.load.hostile`) are processes
of their own. The innocent are alone at first; their latency then is what that under attack is set against.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.e2e.harness.process import rss_kib, status
from tests.e2e.harness.scrape import ACTIVE, CLOSED, HANDSHAKES, Scrape
from tests.e2e.harness.sidecar import ROOT, Sidecar
from tests.load.run import stage
from tests.load.scrapes import percentile
from tests.waiting import eventually

#: Seconds between the messages of one innocent session.
INTERVAL = 1.0
#: Seconds for sessions to be over once the hostile have gone, by default: those whose app takes nothing are given up
#: after 120 s (NO_PROGRESS in relay/legs.py). What is left then ends with the app.
SETTLING = 150.0
#: MiB by which the relay may grow, and the observer. A client may cost 1.2 MiB while it is connected
#: (docs/reliability.md), and there are at most some hundred at a time; the reports that the observer keeps are bounded.
RELAY_GROWTH = 96.0
OBSERVER_GROWTH = 64.0
#: Descriptors that may be open beyond those of the start, once all are gone: connections of the admin port.
KEPT = 64

TURNS = "websocket_exporter_loop_turn_seconds"
#: The share of turns that may be long for another reason than a core that was lost, such as a host that is busy.
DISTURBED = 0.01


@dataclass(slots=True)
class Result:
    """The figures of one soak. Memory in MiB, times in milliseconds."""

    sessions: int
    rounds: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    played: dict[str, int] = field(default_factory=dict)
    idle: list[float] = field(default_factory=list)
    attacked: list[float] = field(default_factory=list)
    relay_rss: list[float] = field(default_factory=list)  # in even intervals
    observer_rss: list[float] = field(default_factory=list)
    descriptors_start: int = 0
    descriptors_peak: int = 0
    descriptors_end: int = 0
    lingering: int = 0  # sessions that were active until the app ended
    opened: int = 0
    closed: int = 0
    active: int = 0
    defects: int = 0
    restarts: int = 0
    turns: int = 0
    long_turns: int = 0  # over 10 ms on the clock
    preempted: int = 0  # times that the kernel took the core from the relay

    @property
    def problems(self) -> list[str]:
        """Everything that does not add up; empty if all does."""
        found = []
        if self.broken:
            found.append(f"broken sessions: {self.broken}")
        if self.opened != self.closed or self.active:
            found.append(f"{self.opened} opened, {self.closed} closed, {self.active} active")
        if self.descriptors_end > self.descriptors_start + KEPT:
            found.append(f"descriptors: {self.descriptors_start} at first, {self.descriptors_end} in the end")
        for name, rss, most in (
            ("relay", self.relay_rss, RELAY_GROWTH),
            ("observer", self.observer_rss, OBSERVER_GROWTH),
        ):
            if max(rss) - rss[0] > most:
                found.append(f"memory of the {name}: {rss[0]} MiB at first, {max(rss)} MiB at most")
        if self.defects or self.restarts:
            found.append(f"{self.defects} defects, {self.restarts} restarts of a relay")
        if self.long_turns > self.preempted + DISTURBED * self.turns:
            found.append(f"{self.long_turns} turns over 10 ms, the relay was preempted {self.preempted} times")
        if missing := [name for name, rounds in self.played.items() if not rounds]:
            found.append(f"not played: {missing}")
        return found

    def __str__(self) -> str:
        """The figures, one a line."""
        lines = [f"{self.sessions} innocent sessions, {self.rounds} round trips, broken: {self.broken or 'none'}"]
        lines.append(f"{len(self.played)} kinds of hostile clients, {sum(self.played.values())} rounds")
        for name, times in (("alone", self.idle), ("under attack", self.attacked)):
            figures = ", ".join(f"p{share:g} {percentile(times, share):.2f}" for share in (50, 90, 99, 99.9))
            lines.append(f"latency {name}: {figures}, max {max(times):.2f} ms")
        lines.append(f"relay, MiB: {', '.join(f'{value:.0f}' for value in self.relay_rss)}")
        lines.append(f"observer, MiB: {', '.join(f'{value:.0f}' for value in self.observer_rss)}")
        descriptors = (self.descriptors_start, self.descriptors_peak, self.descriptors_end)
        lines.append("descriptors: {} at first, {} at most, {} in the end".format(*descriptors))
        ends = f"{self.active} active, {self.lingering} until the app ended"
        lines.append(f"sessions: {self.opened} opened, {self.closed} closed, {ends}")
        lines.append(f"turns: {self.turns}, over 10 ms {self.long_turns}, preempted {self.preempted} times")
        lines.append(f"defects: {self.defects}, restarts: {self.restarts}")
        return "\n".join(f"  {line}" for line in lines)


class _Watch(threading.Thread):
    """Looks at the sidecar's processes in even intervals."""

    def __init__(self, sidecar: Sidecar, result: Result, interval: float) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self._sidecar, self._result, self._interval = sidecar, result, interval

    def run(self) -> None:
        self.look()
        while not self.over.wait(self._interval):
            self.look()

    def look(self) -> None:
        sidecar, result = self._sidecar, self._result
        result.relay_rss.append(round(rss_kib(sidecar.relay_pid) / 1024, 1))
        result.observer_rss.append(round(rss_kib(sidecar.observer_pid) / 1024, 1))
        with suppress(OSError):  # one is closed between two looks
            result.descriptors_peak = max(result.descriptors_peak, sidecar.process.descriptors())


def soak(sessions: int, idle: float, seconds: float, settling: float = SETTLING) -> Result:
    """Play the hostile for ``seconds`` beside ``sessions``, which have been alone for ``idle`` seconds."""
    result = Result(sessions)
    with stage() as (sidecar, app):
        before = sidecar.scrape()
        result.descriptors_start = sidecar.process.descriptors()
        with _module("clients", sidecar.port, "timed", sessions, idle, seconds, INTERVAL) as innocent:
            assert innocent.stdout is not None
            assert innocent.stdout.readline() == "ready\n"
            time.sleep(idle)
            lost = preempted(sidecar.relay_pid)
            watch = _Watch(sidecar, result, seconds / 20)
            watch.start()
            with _module("hostile", sidecar.port, sidecar.admin_port, seconds) as hostile:
                told = json.loads(innocent.communicate(timeout=seconds + 120)[0])
                result.played = json.loads(hostile.communicate(timeout=120)[0])
            watch.over.set()
            watch.join()
            result.preempted = preempted(sidecar.relay_pid) - lost
        result.rounds, result.broken = told["rounds"], told["broken"]
        result.idle, result.attacked = told["times"]
        with suppress(AssertionError):  # Result.lingering says so
            eventually(lambda: sidecar.scrape().value(ACTIVE) == 0, "no session is left", settling)
        result.lingering = int(sidecar.scrape().value(ACTIVE))
        app.stop()
        _settle(sidecar, before, result)
    return result


@contextmanager
def _module(name: str, *arguments: float | str) -> Iterator[subprocess.Popen[str]]:
    """A process of this package, which is ended in any case."""
    command = [sys.executable, "-m", f"tests.load.{name}", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def preempted(pid: int) -> int:
    """Times that the kernel took the core from a process that could have gone on (proc(5))."""
    return int(status(pid)["nonvoluntary_ctxt_switches"])


def _settle(sidecar: Sidecar, before: Scrape, result: Result) -> None:
    def is_over() -> bool:
        return sidecar.scrape().value(ACTIVE) == 0 and sidecar.process.descriptors() <= result.descriptors_start + KEPT

    with suppress(AssertionError):  # Result.problems says so
        eventually(is_over, "no session is left")
    added = sidecar.scrape().since(before)
    result.descriptors_end = sidecar.process.descriptors()
    result.opened = int(added.value(HANDSHAKES, status="101"))
    result.closed = int(added.value(CLOSED))
    result.active = int(added.value(ACTIVE))
    result.defects = int(added.value("websocket_unobserved_connections_total", reason="internal"))
    result.restarts = int(added.value("websocket_exporter_relay_restarts_total"))
    result.turns = int(added.value(f"{TURNS}_count"))
    result.long_turns = result.turns - int(added.value(f"{TURNS}_bucket", le="0.01"))
