"""Long answers take a bounded share of the processor's time."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from exporter.admin import responses
from exporter.admin.responses import BURST, LEAST, SHARE, TimeShare


class Clock:
    """Clocks that work and sleep move on; ``rests`` are the seconds that were slept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.rests: list[float] = []
        monkeypatch.setattr(responses, "monotonic", lambda: self.now)
        monkeypatch.setattr(responses, "thread_time", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.rests.append(seconds)

    def work(self, seconds: float) -> None:
        self.now += seconds


async def test_time_share_with_many_pieces_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work without an end takes its share of the time, beyond what it may take at once."""
    clock, share = Clock(monkeypatch), TimeShare()
    began, pieces, piece = clock.now, 1000, 0.01
    for _ in range(pieces):
        await share.run(lambda: clock.work(piece))
    assert pieces * piece <= SHARE * (clock.now - began) + BURST + piece


async def test_time_share_with_few_pieces_does_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer now and then is made without a rest."""
    clock, share = Clock(monkeypatch), TimeShare()
    for _ in range(10):
        await share.run(lambda: clock.work(BURST / 2))
        clock.now += BURST / SHARE
    assert not any(clock.rests)


async def test_time_share_with_tiny_pieces_counts_their_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that cost nothing to make are bounded in number."""
    clock, share = Clock(monkeypatch), TimeShare()
    for _ in range(2 * round(BURST / LEAST)):
        await share.run(lambda: None)
    assert sum(clock.rests) == pytest.approx(BURST / SHARE, rel=0.1)


async def test_time_share_with_failing_work_raises_and_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the work reaches the caller, and its time counts."""
    clock, share = Clock(monkeypatch), TimeShare()

    def fail() -> None:
        clock.work(2 * BURST)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await share.run(fail)
    await share.run(lambda: None)
    assert sum(clock.rests) == pytest.approx(BURST / SHARE)


async def test_time_share_with_many_readers_does_one_piece_in_an_iteration() -> None:
    """Between the pieces of two readers the event loop serves others."""
    share, order = TimeShare(), []

    async def reader() -> None:
        await share.run(lambda: order.append("piece"))

    async def other() -> None:
        while len(order) < 40:
            order.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(*(reader() for _ in range(10)), other())
    assert not any(pair == ("piece", "piece") for pair in pairwise(order))
