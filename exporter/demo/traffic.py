"""Visitors of the chat: they come, talk, leave in the ways of :mod:`exporter.demo.leaving`, and come back.

Each is a task with random numbers of its own, drawn from one seed, so that the same seed makes the same
choices whatever the others do. On SIGTERM, SIGINT or after ``--seconds`` all close with 1001, those who are
just coming in as soon as they are in, and one JSON line on stdout says what they saw: visits, endings by code
and by who ended, and failed connections.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from dataclasses import dataclass, field

import click
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode
from websockets.uri import parse_uri

from exporter.demo.backoff import Backoff
from exporter.demo.leaving import Leaving, choose, leave

ROOMS = ("tea", "trains", "weather", "bicycles")
PHRASES = ("hello", "is it raining?", "the 9:14 is late again", "good morning", "yes", "see you tomorrow")

#: Seconds between a visit that ended as the visitor wished and the next one.
PAUSE = (0.5, 4.0)

#: Seconds over which the visitors arrive at first.
ARRIVAL = (0.0, 2.0)

#: Seconds for an opening or a closing handshake.
PATIENCE = 5.0

#: Seconds within which all have gone once they are told to stop; after 10 the demo kills the process (children.GRACE).
GOODBYES = 8.0


@dataclass(frozen=True, slots=True)
class Habits:
    """How visitors behave: ``rate`` in messages a second, ``stay`` the mean length of a visit in seconds."""

    url: str
    rate: float = 0.5
    stay: float = 20.0


@dataclass(slots=True)
class Seen:
    """What the visitors saw, as they saw it."""

    visits: int = 0
    endings: Counter[str] = field(default_factory=Counter)  # "1001 server"
    failures: Counter[str] = field(default_factory=Counter)  # "HTTP 502"

    def as_json(self) -> str:
        """One line."""
        return json.dumps({"visits": self.visits, "endings": self.endings, "failures": self.failures})


class Visitor:
    """One client, until ``stop`` is done.

    It is told to stop and not cancelled: whoever is cancelled while the handshake runs does not know whether
    the server, and the sidecar that counts, have let it in.
    """

    def __init__(self, name: str, habits: Habits, seed: str, seen: Seen, stop: asyncio.Future[None]) -> None:
        self._name = name
        self._habits = habits
        self._stop = stop
        self._rng = random.Random(seed)
        self._traces = random.Random(f"{seed}/traces")
        self._backoff = Backoff(self._rng)
        self._seen = seen

    async def live(self) -> None:
        """Visit again and again, until told to stop; a visit under way ends with 1001."""
        await self._rest(self._rng.uniform(*ARRIVAL))  # nobody arrives all at once
        while not self._stop.done():
            try:
                delay = await self._visit()
            except InvalidStatus as refused:
                delay = self._failed(f"HTTP {refused.response.status_code}")
            except (OSError, TimeoutError, InvalidHandshake) as failed:
                delay = self._failed(type(failed).__name__)
            await self._rest(delay)

    async def _rest(self, seconds: float) -> None:
        await asyncio.wait({self._stop}, timeout=seconds)

    def _failed(self, how: str) -> float:
        self._seen.failures[how] += 1
        return self._backoff.delay()

    async def _visit(self) -> float:
        """Come, talk, leave. Returns the seconds to wait before the next visit."""
        # Not `async with`: it would close with 1000, and the way to leave is ours to choose.
        connection = await connect(
            self._habits.url,
            additional_headers={"traceparent": traceparent(self._traces)},
            user_agent_header=f"demo/{self._name}",  # they share an address: by this the sidecar knows them again
            open_timeout=PATIENCE,
            close_timeout=PATIENCE,
            proxy=None,
        )
        self._seen.visits += 1
        ears = asyncio.create_task(_listen(connection))
        left = True
        try:
            await self._talk(connection, ears)
            await leave(connection, Leaving.TAB_CLOSED if self._stop.done() else choose(self._rng))
        except ConnectionClosed:
            left = False  # the server was first
        finally:
            connection.transport.abort()
            await ears
            code, who = who_ended(connection, left)
            self._seen.endings[f"{code} {who}"] += 1
        if who == "server":
            return self._backoff.delay(code)
        self._backoff.reset()
        return self._rng.uniform(*PAUSE)

    async def _talk(self, connection: ClientConnection, ears: asyncio.Task[None]) -> None:
        """Say something now and then until it is time to go, or to stop, or the connection has ended."""
        rng = self._rng
        stay = rng.expovariate(1 / self._habits.stay)
        await connection.send(json.dumps({"type": "join", "room": rng.choice(ROOMS), "name": self._name}))
        while not ears.done():
            pause = rng.expovariate(self._habits.rate)
            await asyncio.wait({ears, self._stop}, timeout=min(pause, stay), return_when=asyncio.FIRST_COMPLETED)
            if self._stop.done() or (stay := stay - pause) <= 0:
                return
            await connection.send(json.dumps({"type": "say", "text": rng.choice(PHRASES)}))


def traceparent(rng: random.Random) -> str:
    """The header by which a traced page begins a trace (W3C Trace Context, section 3.2)."""
    return f"00-{rng.getrandbits(128):032x}-{rng.getrandbits(64):016x}-01"


async def _listen(connection: ClientConnection) -> None:
    try:
        async for _ in connection:
            pass
    except ConnectionClosed:
        pass


def who_ended(connection: ClientConnection, left: bool) -> tuple[int, str]:
    """The code of the first Close frame and its sender, "client" or "server".

    With no Close frame it is 1006, and the client's doing if it had ``left`` by itself.
    """
    protocol = connection.protocol
    theirs, ours = protocol.close_rcvd, protocol.close_sent
    if theirs is not None and (ours is None or protocol.close_rcvd_then_sent):
        return theirs.code, "server"
    if ours is not None:
        return ours.code, "client"
    return CloseCode.ABNORMAL_CLOSURE, "client" if left else "server"


async def run(habits: Habits, clients: int, seed: int, seconds: float | None) -> Seen:
    """Keep ``clients`` visitors going for ``seconds`` (None: until SIGTERM or SIGINT); says what they saw."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, _tell, stop)
    seen = Seen()
    visitors = [Visitor(f"visitor-{n}", habits, f"{seed}/{n}", seen, stop) for n in range(clients)]
    tasks = [asyncio.create_task(visitor.live()) for visitor in visitors]
    try:
        done, _ = await asyncio.wait({*tasks, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a visitor only ends unasked by a defect: let it be seen
    finally:
        _tell(stop)
        await asyncio.wait(tasks, timeout=GOODBYES)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return seen


def _tell(stop: asyncio.Future[None]) -> None:
    if not stop.done():
        stop.set_result(None)


def _websocket_url(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        parse_uri(value)
    except InvalidURI:
        raise click.BadParameter(f"{value!r} is no address such as ws://127.0.0.1:10010/chat") from None
    return value


_MORE_THAN_0 = click.FloatRange(0, min_open=True)


@click.command()
@click.option("--url", callback=_websocket_url, default="ws://127.0.0.1:10010/chat", show_default=True)
@click.option("--clients", type=click.IntRange(1, 1000), default=30, show_default=True, help="How many.")
@click.option("--rate", type=_MORE_THAN_0, default=0.5, show_default=True, help="Messages a second of each.")
@click.option("--stay", type=_MORE_THAN_0, default=20.0, show_default=True, help="Mean seconds of a visit.")
@click.option("--seconds", type=_MORE_THAN_0, help="End after so long; else on SIGTERM or SIGINT.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same choices.")
def main(url: str, clients: int, rate: float, stay: float, seconds: float | None, seed: int) -> None:
    """Visitors of a chat, who leave in all the ways there are and come back."""
    seen = asyncio.run(run(Habits(url, rate, stay), clients, seed, seconds))
    click.echo(seen.as_json())


if __name__ == "__main__":
    main()
