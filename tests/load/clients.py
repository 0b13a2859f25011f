"""The clients: ``python -m tests.load.clients PORT hold|short|odd|timed ...``; prints one JSON line of what came of it.

hold SESSIONS SECONDS INTERVAL   that many sessions at once for so long, each a round every INTERVAL seconds
short SESSIONS AT_ONCE           that many sessions in a row, each one round
odd SESSIONS AT_ONCE             the same, each with a path, host, close code and reason of its own
timed SESSIONS IDLE SECONDS INTERVAL   as hold, in two parts; prints "ready" when all are open, and the times of both
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from zlib import crc32

import uvloop

from tests.e2e.harness.wire import KEY
from tests.load.wire import CLIENT_HEAD, GOOD, SERVER_FRAME, SIZE, checksum, client_close, server_close

#: The close codes with which odd clients begin: one of every kind, twice.
COMMON = (*range(1000, 1016), 3000, 3003, 3008, 3999, 4000, 0, 999, 5000) * 2
#: Seconds for one step of one session.
WAIT_LIMIT = 60.0
#: Handshakes a second while many sessions are opened.
PER_SECOND = 1500


class Broken(Exception):
    """A session that did not go as agreed."""


class Session(asyncio.Protocol):
    """One session, driven by :meth:`open`, :meth:`round` and :meth:`close`."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.over = False
        self.sent = 0
        self.received = 0
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (self.over or len(self.buffer) >= self._wanted):
            waiter.set_result(None)

    async def _more(self, wanted: int) -> None:
        """Wait until that many bytes are buffered."""
        while len(self.buffer) < wanted:
            if self.over:
                raise Broken("the connection ended")
            self._wanted, self._waiter = wanted, asyncio.get_running_loop().create_future()
            async with asyncio.timeout(WAIT_LIMIT):
                await self._waiter

    async def exactly(self, count: int) -> bytes:
        """The next bytes."""
        if len(self.buffer) < count:
            await self._more(count)
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    async def open(self, path: str = "/", host: str = "app.test") -> None:
        """The opening handshake."""
        self.transport.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            await self._more(len(self.buffer) + 1)
        head = await self.exactly(end + 4)
        if not head.startswith(b"HTTP/1.1 101"):
            raise Broken(head[:40].decode("latin-1"))

    async def round(self) -> None:
        """One frame there and one back, both checked."""
        frame = CLIENT_HEAD + os.urandom(SIZE)
        self.sent = crc32(frame, self.sent)
        self.transport.write(frame)
        answer = await self.exactly(SERVER_FRAME)
        self.received = crc32(answer, self.received)
        if answer[4:8] != checksum(self.sent):
            raise Broken("bytes were lost or altered on the way to the app")

    async def close(self, code: int = 1000, reason: bytes | None = None) -> None:
        """The closing handshake, by which the app learns what arrived here."""
        self.transport.write(client_close(code, checksum(self.received) if reason is None else reason))
        if await self.exactly(4) != server_close(GOOD):
            raise Broken("bytes were lost or altered on the way from the app")
        self._wanted, self._waiter = 1 << 30, asyncio.get_running_loop().create_future()
        if not self.over:
            async with asyncio.timeout(WAIT_LIMIT):
                await self._waiter
        if self.buffer:
            raise Broken("bytes after the Close")


async def begin(port: int) -> Session:
    """Connect."""
    _, session = await asyncio.get_running_loop().create_connection(Session, "127.0.0.1", port)
    return session


class Tally:
    """Counts of all sessions, done and broken."""

    def __init__(self) -> None:
        self.done = self.rounds = 0
        self.broken: Counter[str] = Counter()
        self.times: tuple[list[float], list[float]] = [], []  # of timed rounds

    @contextmanager
    def session(self) -> Iterator[None]:
        """Count one session: as done, or as broken with its error."""
        try:
            yield
        except (Broken, OSError, TimeoutError) as error:
            self.broken[f"{type(error).__name__}: {error}"] += 1
        else:
            self.done += 1

    def report(self) -> str:
        """One JSON line."""
        times = [[round(1000 * seconds, 2) for seconds in part] for part in self.times]
        return json.dumps({"sessions": self.done, "rounds": self.rounds, "broken": self.broken, "times": times})


async def hold(port: int, sessions: int, seconds: float, interval: float, tally: Tally) -> None:
    """Many at once."""
    loop = asyncio.get_running_loop()
    over = loop.time() + sessions / PER_SECOND + seconds

    async def one(number: int) -> None:
        await asyncio.sleep(number / PER_SECOND)
        with tally.session():
            session = await begin(port)
            await session.open()
            while loop.time() < over:
                await session.round()
                tally.rounds += 1
                await asyncio.sleep(random.uniform(0.5, 1.5) * interval)
            await session.close()

    async with asyncio.TaskGroup() as group:
        for number in range(sessions):
            group.create_task(one(number))


async def timed(port: int, sessions: int, idle: float, seconds: float, interval: float, tally: Tally) -> None:
    """Sessions that time each round from when it was due, for ``idle`` seconds and then for ``seconds``."""
    loop = asyncio.get_running_loop()
    opened = [await begin(port) for _ in range(sessions)]
    await asyncio.gather(*(session.open() for session in opened))
    print("ready", flush=True)
    began = loop.time()

    async def one(session: Session) -> None:
        due = began
        with tally.session():
            while (due := due + random.uniform(0.5, 1.5) * interval) < began + idle + seconds:
                await asyncio.sleep(due - loop.time())
                await session.round()
                tally.times[due >= began + idle].append(loop.time() - due)
                tally.rounds += 1
            await session.close()

    async with asyncio.TaskGroup() as group:
        for session in opened:
            group.create_task(one(session))


async def in_a_row(port: int, sessions: int, at_once: int, odd: bool, tally: Tally) -> None:
    """Many, one after the other."""
    numbers = iter(range(sessions))

    async def some() -> None:
        for number in numbers:
            with tally.session():
                session = await begin(port)
                if odd:
                    await session.open(f"/room/{number}?token={number}", f"host-{number}.test")
                    code = COMMON[number] if number < len(COMMON) else number * 13 % 6000
                    await session.close(code, b"" if number % 10 == 0 else f"reason {number}".encode())
                else:
                    await session.open()
                    await session.round()
                    tally.rounds += 1
                    await session.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(some())


async def main() -> None:
    """As the command line says."""
    port, how, *numbers = sys.argv[1:]
    tally = Tally()
    if how == "hold":
        await hold(int(port), int(numbers[0]), float(numbers[1]), float(numbers[2]), tally)
    elif how == "timed":
        await timed(int(port), int(numbers[0]), *map(float, numbers[1:]), tally)
    else:
        await in_a_row(int(port), int(numbers[0]), int(numbers[1]), how == "odd", tally)
    print(tally.report())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
