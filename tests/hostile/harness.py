"""Bounds that the hostile tests assert: memory of one process, and the length of a relay's turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.harness.process import status
from tests.e2e.harness.scrape import Scrape
from tests.integration.faults.harness import TroubledSidecar

MIB = 1024 * 1024
TURNS = "websocket_exporter_loop_turn_seconds"
#: Seconds of CPU time that a turn of the relay's event loop may take, whatever peers send.
MAX_TURN = 0.01
#: Bytes that one client and its app can cost at most (docs/reliability.md), and that are rounded up once.
MAX_CLIENT = round(1.2 * MIB)
SLACK = 4 * MIB


@contextmanager
def timed(upstream_port: int, *flags: str) -> Iterator[TroubledSidecar]:
    """A sidecar whose relay measures its turns in CPU time, so that a busy machine does not lengthen them."""
    sidecar = TroubledSidecar(upstream_port, *flags, altered=["turns_in_cpu_time"])
    try:
        yield sidecar
        sidecar.check_books()
    finally:
        sidecar.stop()


def long_turns(added: Scrape) -> float:
    """Return the number of turns over the bound, in the histogram of :func:`timed`."""
    turns = added.value(f"{TURNS}_count")
    assert turns, "turns are counted"
    return turns - added.value(f"{TURNS}_bucket", le=str(MAX_TURN))


@contextmanager
def growth(pid: int, most: int) -> Iterator[None]:
    """Assert that the resident memory of a process grows by at most ``most`` bytes at any moment of the block.

    Writing 5 to clear_refs resets the peak (proc(5)).
    """
    before = _kib(pid, "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    yield
    grown = 1024 * (_kib(pid, "VmHWM") - before)
    print(f"process {pid}: {grown / MIB:.1f} MiB more at most")
    assert grown <= most, f"{grown / MIB:.1f} MiB more, {most / MIB:.1f} allowed"


def _kib(pid: int, field: str) -> int:
    return int(status(pid)[field].split()[0])
