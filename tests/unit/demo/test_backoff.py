"""Clients come back as the remedy for each code says."""

from __future__ import annotations

import random

from exporter.demo.backoff import FIRST, LAST, Backoff


class Highest(random.Random):
    """Draws the upper bound each time."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_ceiling_doubles_up_to_a_limit() -> None:
    """Failures in a row wait up to twice as long each time, and no longer than the limit."""
    backoff = Backoff(Highest())
    assert [backoff.delay(1001) for _ in range(6)] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST, LAST, LAST]


def test_a_good_visit_begins_anew() -> None:
    """After a visit that went well the next failure waits as the first did."""
    backoff = Backoff(Highest())
    backoff.delay()
    backoff.delay()
    backoff.reset()
    assert backoff.delay() == FIRST


def test_delays_are_spread_over_the_whole_range() -> None:
    """Clients that fall off together come back apart: somebody in every tenth of the time."""
    delays = [Backoff(random.Random(seed)).delay(1001) for seed in range(300)]
    assert {int(10 * delay / FIRST) for delay in delays} == set(range(10))


def test_service_restart_has_its_own_delay() -> None:
    """1012 waits 5 to 30 seconds and does not count as one failure more."""
    backoff = Backoff(random.Random(1))
    assert all(5 <= backoff.delay(1012) <= 30 for _ in range(100))
    assert 0 <= backoff.delay(1001) <= FIRST
