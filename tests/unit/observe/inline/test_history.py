"""Endings by the minute."""

from __future__ import annotations

from exporter.observe.inline.history import MINUTES, ClosesPerMinute
from exporter.protocol.classify import Ending
from exporter.protocol.enums import Cause, Peer

LEFT = Ending("1001", Cause.GOING_AWAY, Peer.CLIENT, clean=True)
CRASHED = Ending("1011", Cause.INTERNAL_ERROR, Peer.SERVER, clean=True)


class Clock:
    """A clock that stands until it is told to move; seconds."""

    def __init__(self) -> None:
        self.now = 59.0

    def __call__(self) -> float:
        return self.now


def test_an_ending_counts_in_the_minute_under_way():
    """The last bucket is now; equal endings add up, different ones stand apart."""
    history = ClosesPerMinute(Clock())
    for ending in (LEFT, LEFT, CRASHED):
        history.add(ending)
    *before, now = history.minutes()
    assert now == {("1001", "going-away", "client"): 2, ("1011", "internal-error", "server"): 1}
    assert len(before) == MINUTES - 1
    assert not any(before)
    assert history.total == 3


def test_buckets_move_with_the_minutes_and_leave_after_an_hour():
    """An ending shows for sixty minutes, one place further back each minute, and then no more; the total stays."""
    clock = Clock()
    history = ClosesPerMinute(clock)
    history.add(LEFT)
    for minutes_ago in range(MINUTES):
        assert [place for place, bucket in enumerate(history.minutes()) if bucket] == [MINUTES - 1 - minutes_ago]
        clock.now += 60
    assert not any(history.minutes())
    assert history.total == 1


def test_memory_is_bounded_even_if_nobody_looks():
    """A week of endings with no reader leaves an hour of buckets."""
    clock = Clock()
    history = ClosesPerMinute(clock)
    for _ in range(7 * 24 * 60):
        history.add(LEFT)
        clock.now += 60
    assert len(history._buckets) <= MINUTES


def test_a_reader_cannot_spoil_the_count():
    """What a reader does to the buckets it was given changes nothing."""
    history = ClosesPerMinute(Clock())
    history.add(LEFT)
    history.minutes()[-1].clear()
    assert history.minutes()[-1].total() == 1
