"""Long answers leave half of the event loop's time to short ones."""

from __future__ import annotations

import asyncio

import pytest

from exporter.admin import responses
from exporter.admin.responses import SLICE, TimeSlices


class Clock:
    """A clock that work and sleep move on; ``rests`` are the seconds that were slept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.rests: list[float] = []
        monkeypatch.setattr(responses, "monotonic", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.rests.append(seconds)

    def work(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.anyio
async def test_time_slices_with_long_work_rest_as_long_as_they_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each further piece of long work the loop is free for as long as the piece before took."""
    clock, slices = Clock(monkeypatch), TimeSlices()
    for _ in range(16):
        await slices.run(lambda: clock.work(2 * SLICE))
    assert clock.rests == pytest.approx([2 * SLICE] * 15)


@pytest.mark.anyio
async def test_time_slices_with_short_work_rest_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pieces follow each other at once until they fill a slice, and an idle time counts as a rest."""
    clock, slices = Clock(monkeypatch), TimeSlices()
    for _ in range(4):
        await slices.run(lambda: clock.work(SLICE / 5))
    assert not clock.rests
    clock.now += SLICE
    await slices.run(lambda: clock.work(SLICE / 2))
    await slices.run(lambda: clock.work(SLICE / 4))
    assert not clock.rests


@pytest.mark.anyio
async def test_time_slices_with_failing_work_raise_and_count_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the work reaches the caller, and its time counts."""
    clock, slices = Clock(monkeypatch), TimeSlices()

    def fail() -> None:
        clock.work(2 * SLICE)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await slices.run(fail)
    await slices.run(lambda: clock.work(0.0))
    assert clock.rests == pytest.approx([2 * SLICE])
