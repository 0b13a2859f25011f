"""The sidecar with something built in: ``python -m tests.integration.faults.fault_injection ALTERATION... -- run
--upstream ...``.

An alteration is ``module.NAME=VALUE``, which sets a number (waiting a minute is no test), or the name of a defect
below.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import cycle
from typing import Any

#: What a client says to set a defect off.
TRIGGER = b"trigger"


class BuiltIn(Exception):
    """The defect."""


def scanner_raises() -> None:
    """Scanning fails in the middle of a session."""
    from exporter.protocol.frames import FrameScanner

    feed = FrameScanner.feed

    def defective(self: FrameScanner, data: bytes, now: float) -> Any:
        if TRIGGER in data:
            raise BuiltIn("scanner")
        return feed(self, data, now)

    FrameScanner.feed = defective  # type: ignore[method-assign]


def session_raises() -> None:
    """Handling the scanner's events fails."""
    from exporter.protocol.session import Session

    def defective(self: Session, *arguments: object) -> Any:
        raise BuiltIn("session")

    Session.handle = defective  # type: ignore[assignment, method-assign]


def opening_raises() -> None:
    """Reporting a session that opens fails."""
    from exporter.relay.reporter import Reporter

    def defective(self: Reporter, *arguments: object) -> Any:
        raise BuiltIn("opened")

    Reporter.session_opened = defective  # type: ignore[assignment, method-assign]


def closing_raises() -> None:
    """Making the record of a session that closes fails."""
    from exporter.protocol.session import Session

    def defective(self: Session, now: float) -> Any:
        raise BuiltIn("closed")

    Session.finish = defective  # type: ignore[method-assign]


def http_raises() -> None:
    """Parsing HTTP fails."""
    from exporter.protocol.http1 import HandshakeTracker

    def defective(self: HandshakeTracker, data: bytes) -> Any:
        raise BuiltIn("http")

    HandshakeTracker.request = defective  # type: ignore[method-assign]


def wall_clock_jumps() -> None:
    """The wall clock is set a year forth and back at every look."""
    jumps = cycle((0.0, 3.15e7, -3.15e7))
    real = time.time
    time.time = lambda: real() + next(jumps)


def turns_in_cpu_time() -> None:
    """The relay's turns are measured in CPU time of its thread: no other process of the machine lengthens them."""
    from exporter.relay import poller

    poller._clock = time.thread_time  # type: ignore[misc]


def observer_turns_reported() -> None:
    """A turn of the observer's event loop over 10 ms of its CPU time is a line of the log."""
    import asyncio
    import selectors

    from exporter.observe import process

    class Selector(selectors.DefaultSelector):
        began = 0.0

        def select(self, timeout: float | None = None) -> Any:
            seconds = time.thread_time() - self.began
            if self.began and seconds > 0.01:
                print(json.dumps({"event": "observer.turn", "seconds": seconds}), flush=True)
            ready = super().select(timeout)
            self.began = time.thread_time()
            return ready

    process.asyncio.new_event_loop = lambda: asyncio.SelectorEventLoop(Selector())


DEFECTS: Mapping[str, Callable[[], None]] = {
    defect.__name__: defect
    for defect in (
        scanner_raises,
        session_raises,
        opening_raises,
        closing_raises,
        http_raises,
        wall_clock_jumps,
        turns_in_cpu_time,
        observer_turns_reported,
    )
}


def main() -> None:
    """Alter, then run."""
    divide = sys.argv.index("--")
    for alteration in sys.argv[1:divide]:
        name, _, value = alteration.partition("=")
        if value:
            module, _, constant = name.rpartition(".")
            loaded = import_module(module)
            assert hasattr(loaded, constant), name
            setattr(loaded, constant, float(value) if "." in value else int(value))
        else:
            DEFECTS[name]()
    sys.argv[:] = ["websocket-exporter", *sys.argv[divide + 1 :]]
    from exporter.cli import main as run

    run()


if __name__ == "__main__":
    main()
