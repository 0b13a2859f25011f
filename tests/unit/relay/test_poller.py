"""Who is ready is told, whoever watches; what ends is buried behind the batch; what fails ends alone."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from exporter.relay.event_loop import RelayLoop
from exporter.relay.poller import CLOCK_EVERY, EDGE, MAX_TURN, READ, WRITE, Pollable, Poller
from exporter.relay.tcp import TcpTransport
from tests.unit.relay.test_tcp import Kept
from tests.waiting import until


@pytest.fixture(params=["in any event loop", "in the relay's"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """Run each test with a poller that an event loop watches, and with one that it waits in."""
    waits_in = request.param == "in the relay's"
    return "asyncio", {"loop_factory": lambda: RelayLoop(Poller())} if waits_in else {}


def loops_poller() -> Poller:
    """The poller that the running event loop waits in, else a new one."""
    loop = asyncio.get_running_loop()
    return loop.poller if isinstance(loop, RelayLoop) else Poller()


class Noted(Pollable):
    """A target that writes down what it is told."""

    def __init__(self, do: Callable[[], None] | None = None) -> None:
        self.events: list[int] = []
        self.errors: list[Exception] = []
        self._do = do

    def ready(self, events: int) -> None:
        self.events.append(events)
        if self._do is not None:
            self._do()

    def failed(self, error: Exception) -> None:
        self.errors.append(error)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that do not block."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def test_readiness_is_told_as_asked() -> None:
    """Only of what was asked for, from when it was asked for until it is forgotten; then it can be asked for again."""
    ours, theirs = pair()
    poller, target = loops_poller(), Noted()
    poller.register(ours.fileno(), target, READ)
    await asyncio.sleep(0.02)
    assert target.events == []
    theirs.send(b"x")
    await until(lambda: target.events)
    assert set(target.events) == {READ}
    ours.recv(1)
    target.events.clear()
    poller.modify(ours.fileno(), WRITE)
    await until(lambda: target.events)
    assert set(target.events) == {WRITE}
    poller.unregister(ours.fileno())
    target.events.clear()
    theirs.send(b"x")
    await asyncio.sleep(0.02)
    assert target.events == []
    poller.register(ours.fileno(), target, READ)
    await until(lambda: target.events)
    poller.drop(ours.fileno())
    ours.close()
    theirs.close()


async def test_the_last_rites_come_behind_the_batch() -> None:
    """What ends while it is served is buried afterwards, with its error; what that brings down is buried as well."""
    ours, theirs = pair()
    poller = loops_poller()
    order: list[object] = []

    def end() -> None:
        order.append("served")
        poller.unregister(ours.fileno())
        poller.defer_close(lambda error: (order.append(error), poller.defer_close(order.append, None)), error)  # type: ignore[arg-type, return-value]
        order.append("still served")

    error = OSError("why")
    poller.register(ours.fileno(), Noted(end), READ)
    theirs.send(b"x")
    await until(lambda: len(order) == 4)
    assert order == ["served", "still served", error, None]
    ours.close()
    theirs.close()


async def test_one_that_was_forgotten_in_its_batch_is_not_served() -> None:
    """An earlier target may take a later one away although the kernel has named it already."""
    poller = loops_poller()
    ends = [pair() for _ in range(2)]
    targets: list[Noted] = []

    def take_the_other() -> None:
        if sum(len(target.events) for target in targets) == 1:
            for (ours, _), target in zip(ends, targets, strict=True):
                if not target.events:
                    poller.unregister(ours.fileno())

    targets += [Noted(take_the_other), Noted(take_the_other)]
    for (ours, _), target in zip(ends, targets, strict=True):
        poller.register(ours.fileno(), target, READ)
    for _, theirs in ends:
        theirs.send(b"x")
    await until(lambda: any(target.events for target in targets))
    await asyncio.sleep(0.02)
    assert sorted(bool(target.events) for target in targets) == [False, True]
    for ours, theirs in ends:
        ours.close()
        theirs.close()


async def test_a_target_that_fails_is_told_and_the_rest_goes_on() -> None:
    """A defect while serving one, or while burying one, is the loop's to tell; the others are served and buried."""

    blamed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: blamed.append(context["exception"]))
    poller = loops_poller()
    (bad, bad_end), (good, good_end) = pair(), pair()

    def fail(error: object = None) -> None:
        poller.unregister(bad.fileno())
        raise ZeroDivisionError

    failing, other = Noted(fail), Noted()
    poller.register(bad.fileno(), failing, READ)
    poller.register(good.fileno(), other, READ)
    bad_end.send(b"x")
    good_end.send(b"x")
    await until(lambda: other.events and failing.errors)
    buried: list[object] = []
    poller.defer_close(lambda error: 1 / 0, None)  # type: ignore[arg-type, return-value]
    poller.defer_close(buried.append, None)
    await until(lambda: buried)
    assert [type(error) for error in blamed] == [ZeroDivisionError] * 2
    for sock in (bad, bad_end, good, good_end):
        sock.close()


class Full(Poller):
    """One in a kernel that has no room to watch another socket, or for other events of one."""

    def __init__(self, to_watch: bool) -> None:
        super().__init__()
        self._to_watch = to_watch

    def register(self, fd: int, target: Pollable, events: int) -> None:
        if self._to_watch:
            super().register(fd, target, events)
        else:
            raise OSError(errno.ENOSPC, "no room")

    def modify(self, fd: int, events: int) -> None:
        raise OSError(errno.ENOSPC, "no room")


async def test_a_kernel_without_room_ends_the_connection() -> None:
    """If a socket cannot be watched (epoll_ctl(2), ENOSPC) its protocol is told of the end, like of any other."""
    poller = Full(to_watch=False)
    ours, theirs = pair()
    kept = Kept()
    TcpTransport(poller, ours, kept)
    await until(lambda: kept.lost)
    assert isinstance(kept.lost[0], OSError)
    assert theirs.recv(1) == b""
    theirs.close()

    ours, theirs = pair()
    kept = Kept()
    tcp = TcpTransport(Full(to_watch=True), ours, kept)
    tcp.write(bytes(16 << 20))
    await until(lambda: kept.lost)
    assert isinstance(kept.lost[0], OSError)
    assert kept.observed == ["made"]
    theirs.close()


async def test_turn_is_over_its_time_leaves_most_ends_to_the_next() -> None:
    """Behind targets that took a whole turn come a few callbacks of ended connections, not another turn's worth."""
    ours, theirs = pair()
    poller, loop = loops_poller(), asyncio.get_running_loop()
    called: list[int] = []
    in_first_turn: list[int] = []

    def end(number: int) -> None:
        if not called:
            loop.call_soon(lambda: in_first_turn.append(len(called)))
        called.append(number)

    def take_a_turn() -> None:
        poller.unregister(ours.fileno())
        for number in range(10 * CLOCK_EVERY):
            poller.defer_close(lambda _, number=number: end(number), None)  # type: ignore[misc]
        time.sleep(2 * MAX_TURN)

    poller.register(ours.fileno(), Noted(take_a_turn), READ)
    theirs.send(b"x")
    await until(lambda: len(called) == 10 * CLOCK_EVERY)
    assert called == list(range(10 * CLOCK_EVERY))
    assert in_first_turn == [CLOCK_EVERY]
    ours.close()
    theirs.close()


async def test_poller_serves_every_event_that_is_reported_once() -> None:
    """Edge-triggered events that a long turn did not reach are served in later ones, without another event."""
    pairs = [pair() for _ in range(2 * CLOCK_EVERY)]
    poller = loops_poller()
    targets = [Noted(lambda: time.sleep(MAX_TURN)) for _ in pairs]
    for (ours, theirs), target in zip(pairs, targets, strict=True):
        poller.register(ours.fileno(), target, READ | EDGE)
        theirs.send(b"x")
    await until(lambda: all(target.events for target in targets))
    for ours, theirs in pairs:
        poller.unregister(ours.fileno())
        ours.close()
        theirs.close()


async def test_poller_with_much_to_do_has_one_turn_in_each_iteration() -> None:
    """However many connections end and however much was put off, timers and signals wait for one turn at most."""
    ours, theirs = pair()
    poller, loop = loops_poller(), asyncio.get_running_loop()
    turns: list[float] = []
    marks: list[int] = []
    portions: list[int] = []
    poller.on_long_turn = turns.append

    def work() -> bool:
        portions.append(0)
        return len(portions) == 20

    def serve() -> None:
        for _ in range(4 * CLOCK_EVERY):
            poller.defer_close(lambda _: None, None)
        time.sleep(2 * MAX_TURN)

    def mark() -> None:
        marks.append(len(turns))
        if len(portions) < 20:
            loop.call_soon(mark)

    poller.register(ours.fileno(), Noted(serve), READ)
    theirs.send(b"x")
    poller.run_later(work)
    mark()
    await until(lambda: len(portions) == 20)
    assert max(after - before for before, after in pairwise(marks)) == 1
    poller.unregister(ours.fileno())
    ours.close()
    theirs.close()
