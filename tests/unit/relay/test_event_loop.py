"""asyncio's promises hold in an event loop that waits in the relay's poller."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time

import pytest

from exporter.relay.event_loop import RelayLoop
from exporter.relay.poller import CLOCK_EVERY, MAX_TURN, READ, Pollable, Poller
from tests.waiting import WAIT_LIMIT, until


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run async tests on the relay's event loop."""
    return "asyncio", {"loop_factory": lambda: RelayLoop(Poller())}


def the_loop() -> RelayLoop:
    """The running event loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, RelayLoop)
    return loop


class Busy(Pollable):
    """A target that is always ready: it leaves its byte unread."""

    def __init__(self) -> None:
        self.served = 0

    def ready(self, events: int) -> None:
        self.served += 1

    def failed(self, error: Exception | None) -> None:
        raise AssertionError from error


async def test_relay_loop_with_nothing_ready_keeps_timers() -> None:
    """Timers are called in their order, one that is added while others wait too, and not before their time."""
    loop, order = the_loop(), []
    began = loop.time()
    loop.call_later(0.06, order.append, "later")
    loop.call_later(0.02, lambda: loop.call_later(0.01, order.append, "added"))
    await until(lambda: len(order) == 2)
    assert order == ["added", "later"]
    assert loop.time() - began >= 0.06


async def test_relay_loop_with_busy_sockets_serves_timers_and_descriptors() -> None:
    """A target that is ready in every turn holds back neither timers, nor callbacks, nor asyncio's descriptors."""
    loop, busy = the_loop(), Busy()
    ours, theirs = socket.socketpair()
    theirs.send(b"x")
    loop.poller.register(ours.fileno(), busy, READ)
    reader, writer = os.pipe()
    readable = asyncio.Event()
    loop.add_reader(reader, readable.set)
    try:
        await asyncio.sleep(0.01)
        os.write(writer, b"x")
        await asyncio.wait_for(readable.wait(), WAIT_LIMIT)
        served = busy.served
        await until(lambda: busy.served > served)
    finally:
        loop.remove_reader(reader)
        loop.poller.unregister(ours.fileno())
        for fd in (reader, writer):
            os.close(fd)
        ours.close()
        theirs.close()


async def test_relay_loop_turn_that_leaves_targets_behind_lets_asyncio_look() -> None:
    """A descriptor of asyncio's waits for one turn, not until each of many busy targets has been served."""
    loop, served = the_loop(), []

    class Slow(Busy):
        def ready(self, events: int) -> None:
            time.sleep(MAX_TURN)
            served.append(self)

    pairs = [socket.socketpair() for _ in range(8 * CLOCK_EVERY)]
    for ours, theirs in pairs:
        theirs.send(b"x")
        loop.poller.register(ours.fileno(), Slow(), READ)
    reader, writer = os.pipe()
    before_reader: list[int] = []
    loop.add_reader(reader, lambda: before_reader.append(len(served)))
    try:
        await until(lambda: served)
        os.write(writer, b"x")
        began = len(served)
        await until(lambda: before_reader)
        assert before_reader[0] - began <= 2 * CLOCK_EVERY
    finally:
        loop.remove_reader(reader)
        for ours, theirs in pairs:
            loop.poller.unregister(ours.fileno())
            ours.close()
            theirs.close()
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("add", ["call_soon", "call_later"])
async def test_relay_loop_target_that_adds_a_callback_has_it_called_at_once(add: str) -> None:
    """What a target adds does not wait for a timer that was there before, or for another socket."""
    loop = the_loop()
    ours, theirs = socket.socketpair()
    called = asyncio.Event()

    class Adds(Pollable):
        def ready(self, events: int) -> None:
            ours.recv(1)
            if add == "call_soon":
                loop.call_soon(called.set)
            else:
                loop.call_later(0.001, called.set)

    late = loop.call_later(WAIT_LIMIT, called.set)
    loop.poller.register(ours.fileno(), Adds(), READ)
    began = loop.time()
    theirs.send(b"x")
    await called.wait()
    assert loop.time() - began < WAIT_LIMIT / 2
    late.cancel()
    loop.poller.unregister(ours.fileno())
    ours.close()
    theirs.close()


async def test_relay_loop_waiting_wakes_for_threads_and_signals() -> None:
    """A call from another thread, and a signal, end its wait."""
    loop, called, signalled = the_loop(), asyncio.Event(), asyncio.Event()
    thread = threading.Timer(0.02, lambda: loop.call_soon_threadsafe(called.set))
    loop.add_signal_handler(signal.SIGUSR1, signalled.set)
    thread.start()
    try:
        await asyncio.wait_for(called.wait(), WAIT_LIMIT)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(signalled.wait(), WAIT_LIMIT)
    finally:
        thread.join()
        loop.remove_signal_handler(signal.SIGUSR1)
