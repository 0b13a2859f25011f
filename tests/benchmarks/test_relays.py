"""The benchmark of several relays counts each relay's sessions and what it adds."""

from __future__ import annotations

from pathlib import Path

from benchmarks import relays
from benchmarks.peers import PACKAGE_ROOT
from benchmarks.relays import Measured


def test_row_with_more_relays_shows_each_further_ones_memory_and_the_spread() -> None:
    """Memory is divided by the further relays; the spread is the busiest relay's over an even share."""
    first = Measured(1, 0.3, 0.25, 50_000, [100], 40.0)
    row = Measured(3, 0.4, 0.3, 56_000, [40, 30, 30], 41.0).row(first)
    assert row == "| 3 | 0.40 | 0.30 | 57.3 | 3.1 | 40, 30, 30 | 20.0% | 41.0 |"


def test_measure_with_two_relays_finds_every_session(programs: Path, server: int) -> None:
    """The sessions of both relays add up to those that were opened, and round trips cost time."""
    found = relays.measure(2, PACKAGE_ROOT, programs, server, 100, 0.3)
    assert len(found.shares) == 2
    assert sum(found.shares) == 100
    assert found.cpu_us > 0
    assert found.start > 0
    assert found.pss_kb > 10_000
