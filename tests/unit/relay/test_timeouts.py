"""Many waits with one timer: who waits too long is told, in time and once; who does not is not."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from exporter.relay.timeouts import BATCH, TimeoutQueue
from tests.waiting import until


async def test_who_waits_too_long_is_told_once_and_in_order() -> None:
    """Each is told when its own time is over, first come first told; nobody is told twice."""
    loop = asyncio.get_running_loop()
    observed: list[tuple[str, float]] = []
    began = loop.time()
    deadlines: TimeoutQueue[str] = TimeoutQueue(0.2, lambda name: observed.append((name, loop.time() - began)))
    deadlines.add("first")
    deadlines.add("second")
    await asyncio.sleep(0.1)
    deadlines.add("third")
    await until(lambda: len(observed) == 2)
    await until(lambda: len(observed) == 3)
    assert [name for name, _ in observed] == ["first", "second", "third"]
    for (_, after), least in zip(observed, (0.2, 0.2, 0.3), strict=True):
        assert after >= least - 0.01, "but for the clock's own grain"
    await asyncio.sleep(0.25)
    assert len(observed) == 3


async def test_who_is_removed_is_not_told() -> None:
    """A removed one is forgotten, one that never waited may be removed, and one that waits again begins anew."""
    loop = asyncio.get_running_loop()
    observed: list[tuple[str, float]] = []
    deadlines: TimeoutQueue[str] = TimeoutQueue(0.2, lambda name: observed.append((name, loop.time())))
    deadlines.remove("nobody")
    deadlines.add("gone")
    deadlines.add("again")
    deadlines.remove("gone")
    deadlines.remove("again")
    await asyncio.sleep(0.1)
    again = loop.time()
    deadlines.add("again")
    await until(lambda: observed)
    assert [name for name, _ in observed] == ["again"]
    assert observed[0][1] - again >= 0.19


async def test_one_end_may_bring_another() -> None:
    """Who is told may remove others that are due in the same moment, and add new ones."""
    observed: list[str] = []

    def on_timeout(name: str) -> None:
        observed.append(name)
        if name == "first":
            deadlines.remove("second")
            deadlines.add("new")

    deadlines: TimeoutQueue[str] = TimeoutQueue(0.05, on_timeout)
    deadlines.add("first")
    deadlines.add("second")
    await until(lambda: len(observed) == 2)
    assert observed == ["first", "new"]


async def test_a_defect_of_who_is_told_ends_no_other_wait() -> None:
    """If telling one fails, those who begin to wait later are told all the same."""
    observed: list[str] = []

    def on_timeout(name: str) -> None:
        observed.append(name)
        if name == "bad":
            raise ZeroDivisionError

    blamed: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: blamed.append(context))
    deadlines: TimeoutQueue[str] = TimeoutQueue(0.02, on_timeout)
    deadlines.add("bad")
    await until(lambda: observed == ["bad"])
    deadlines.add("good")
    await until(lambda: observed == ["bad", "good"])
    assert [type(context["exception"]) for context in blamed] == [ZeroDivisionError]


async def test_timeout_queue_with_many_due_calls_back_in_portions() -> None:
    """One iteration of the event loop calls back for a bounded number of items, however many are due."""
    called: list[int] = []
    marks: list[int] = []
    queue: TimeoutQueue[int] = TimeoutQueue(0.01, called.append)
    for number in range(3 * BATCH):
        queue.add(number)

    def mark() -> None:
        marks.append(len(called))
        if len(called) < 3 * BATCH:
            asyncio.get_running_loop().call_soon(mark)

    mark()
    await until(lambda: len(called) == 3 * BATCH)
    assert called == list(range(3 * BATCH))
    assert max(after - before for before, after in pairwise(marks)) <= BATCH
