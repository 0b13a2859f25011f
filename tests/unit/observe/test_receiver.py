"""Reading the relays' sockets in batches."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from exporter.observe.receiver import BATCH, Receiver
from exporter.protocol.messages import FLUSH, MAX_MESSAGE


class Relays:
    """A receiver, the relays' ends of its sockets, and everything that it received."""

    def __init__(self, **more: float) -> None:
        self.received: list[tuple[int, bytes]] = []
        self.gone: list[int] = []
        self.receiver = Receiver(self._on_message, self.gone.append, **more)
        self.ends: dict[int, socket.socket] = {}

    def add(self, slot: int) -> socket.socket:
        """Start a relay."""
        end, observers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for one in (end, observers):
            one.setblocking(False)
        self.ends[slot] = end
        self.receiver.add(slot, observers)
        return end

    def _on_message(self, slot: int, message: bytes) -> None:
        if message == b"flushed":
            self.receiver.flushed(slot)
        else:
            self.received.append((slot, message))


@pytest.fixture
def relays() -> Iterator[Relays]:
    found = Relays()
    yield found
    for end in found.ends.values():
        end.close()


async def until(condition: object, seconds: float = 5.0) -> None:
    """Wait until a callable returns true."""
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def test_receiver_reads_every_message_in_order(relays: Relays) -> None:
    """What a relay sends before, during and after a pause is received once, in order."""
    end = relays.add(0)
    for number in range(3 * BATCH):
        if number % 50 == 0:
            await until(lambda: len(relays.received) > number - 60)  # noqa: B023
            await asyncio.sleep(0.003)
        end.send(b"%d" % number)
    await until(lambda: len(relays.received) == 3 * BATCH)
    assert [int(message) for _, message in relays.received] == list(range(3 * BATCH))


async def test_receiver_in_a_pause_leaves_messages_in_the_kernel() -> None:
    """After a message no wake-up comes until the pause is over; a flush ends it at once."""
    relays = Relays(pause=60.0)
    end = relays.add(0)
    end.send(b"first")
    await until(lambda: relays.received)
    end.send(b"second")
    await asyncio.sleep(0.02)
    assert len(relays.received) == 1
    flush = asyncio.ensure_future(relays.receiver.flush())
    await asyncio.sleep(0)
    assert end.recv(MAX_MESSAGE) == FLUSH
    end.send(b"flushed")
    await flush
    assert [message for _, message in relays.received] == [b"first", b"second"]
    end.close()


async def test_receiver_flush_of_a_relay_without_an_answer_ends(relays: Relays) -> None:
    """A scrape waits for a stopped relay for a bounded time, and reads the others' messages."""
    relays.add(0)
    end = relays.add(1)
    end.send(b"record")
    async with asyncio.timeout(5):
        await relays.receiver.flush()
    assert relays.received == [(1, b"record")]


async def test_receiver_of_a_relay_that_is_gone_reports_it_after_its_last_message(relays: Relays) -> None:
    """Everything that a relay sent is received before its slot is reported, and its flush is over."""
    end = relays.add(3)
    for _ in range(5):
        end.send(b"last")
    flush = asyncio.ensure_future(relays.receiver.flush())
    await asyncio.sleep(0)
    end.close()
    await flush
    await until(lambda: relays.gone)
    assert (len(relays.received), relays.gone) == (5, [3])


async def test_receiver_drain_reads_more_than_a_batch(relays: Relays) -> None:
    """At the end everything that waits is read, however much it is."""
    end = relays.add(0)
    sent = 0
    try:
        while sent < 3 * BATCH:
            end.send(b"x")
            sent += 1
    except BlockingIOError:
        pass
    relays.receiver.drain()
    assert len(relays.received) == sent > 0
