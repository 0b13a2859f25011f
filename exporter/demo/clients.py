"""Clients of the chat server: they connect, send messages, disconnect in many ways, and connect again.

Each client is a task with its own random generator, seeded from ``--seed``, so that it makes the same choices whatever
the others do. On SIGTERM, on SIGINT or after ``--seconds`` each client closes with 1001, also one whose opening
handshake is under way; then one JSON line on stdout counts sessions, closes by code and initiator, and failures.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import click
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode
from websockets.uri import parse_uri

from exporter.demo.chat_server import MAX_MESSAGE
from exporter.options import parsed

ROOMS = ("tea", "trains", "rain", "bicycles")
PHRASES = ("hello", "is it raining?", "the 9:14 is late again", "good morning", "yes", "see you tomorrow")

#: Seconds between a session that the client ended and its next one.
PAUSE = (0.5, 4.0)
#: Seconds over which the first sessions are spread.
RAMP_UP = (0.0, 2.0)
#: Seconds for an opening or a closing handshake.
HANDSHAKE_TIMEOUT = 5.0
#: Seconds in which all clients disconnect on a stop.
STOP_TIMEOUT = 8.0
#: Ceiling of the first reconnect delay and of every later one, in seconds; it doubles in between.
MIN_BACKOFF, MAX_BACKOFF = 2.0, 30.0
#: Seconds until a reconnect after 1012 (Service Restart).
RESTART_DELAY = (5.0, 30.0)
#: The chat's own close code for "signed out" (4000 to 4999 are for applications: RFC 6455, section 7.4.2).
SIGNED_OUT = 4001
#: SO_LINGER with zero seconds: close(2) sends RST in place of FIN (socket(7)).
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Disconnect(Enum):
    """A way to end a session, and how frequent it is in relation to the others."""

    NORMAL = "normal", 30  # Close 1000
    GOING_AWAY = "going-away", 40  # Close 1001, as a browser sends when the tab is closed
    NO_STATUS = "no-status", 10  # an empty Close frame, as ws.close() sends in a browser: 1005
    SIGNED_OUT = "signed-out", 8  # Close 4001
    FIN = "fin", 5  # TCP ends with FIN and no Close frame: 1006
    RESET = "reset", 4  # TCP ends with RST and no Close frame: 1006
    TOO_BIG = "too-big", 1  # a message over the limit: the server closes with 1009
    NOT_IN_ROOM = "not-in-room", 2  # a message outside a room: the server closes with 1008


def choose(rng: random.Random) -> Disconnect:
    """Draw a way to end a session."""
    ways = list(Disconnect)
    return rng.choices(ways, weights=[way.value[1] for way in ways])[0]


async def disconnect(connection: ClientConnection, way: Disconnect) -> None:
    """End the session that way and wait for its end. Raises ConnectionClosed if the server ended it first."""
    match way:
        case Disconnect.NORMAL:
            await connection.close(CloseCode.NORMAL_CLOSURE)
        case Disconnect.GOING_AWAY:
            await connection.close(CloseCode.GOING_AWAY)
        case Disconnect.SIGNED_OUT:
            await connection.close(SIGNED_OUT, "signed out")
        case Disconnect.NO_STATUS:
            async with connection.send_context():  # close() cannot send an empty Close frame
                connection.protocol.send_close()
        case Disconnect.FIN:
            connection.transport.abort()
        case Disconnect.RESET:
            sock: socket.socket = connection.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            connection.transport.abort()
        case Disconnect.TOO_BIG:
            await connection.send(json.dumps({"type": "say", "text": "A" * (MAX_MESSAGE + 1)}))
        case Disconnect.NOT_IN_ROOM:
            await connection.send(json.dumps({"type": "leave"}))
            await connection.send(json.dumps({"type": "say", "text": "and another thing"}))
    await connection.wait_closed()


class Backoff:
    """Reconnect delays: exponential with full jitter, so that the clients of a restarted server come back apart."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ceiling = MIN_BACKOFF

    def delay(self, code: int | None = None) -> float:
        """Return the seconds to wait after a close with ``code``, or after a failed connection (None)."""
        if code == CloseCode.SERVICE_RESTART:
            return self._rng.uniform(*RESTART_DELAY)
        ceiling, self._ceiling = self._ceiling, min(MAX_BACKOFF, self._ceiling * 2)
        return self._rng.uniform(0, ceiling)

    def reset(self) -> None:
        """Start again with the first ceiling."""
        self._ceiling = MIN_BACKOFF


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How clients behave.

    :ivar rate: messages a second.
    :ivar stay: mean length of a session in seconds.
    """

    url: str
    rate: float = 0.5
    stay: float = 20.0


@dataclass
class Results:
    """Counts of the clients' side.

    :ivar closes: by code and initiator, such as "1001 server".
    :ivar failures: failed connections, such as "HTTP 502".
    """

    sessions: int = 0
    closes: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


class Client:
    """One client, until ``stop`` is done.

    It is not cancelled: a handshake that is cancelled leaves open whether the server, and the sidecar that counts,
    have a session.
    """

    def __init__(self, name: str, behaviour: Behaviour, seed: str, results: Results, stop: asyncio.Future[Any]) -> None:
        self._name = name
        self._behaviour = behaviour
        self._stop = stop
        self._rng = random.Random(seed)
        self._traces = random.Random(f"{seed}/traces")
        self._backoff = Backoff(self._rng)
        self._results = results

    async def run(self) -> None:
        """Open one session after another until the stop; a session that is open then is closed with 1001."""
        await self._sleep(self._rng.uniform(*RAMP_UP))
        while not self._stop.done():
            try:
                delay = await self._session()
            except (OSError, TimeoutError, InvalidHandshake) as error:
                how = f"HTTP {error.response.status_code}" if isinstance(error, InvalidStatus) else type(error).__name__
                self._results.failures[how] += 1
                delay = self._backoff.delay()
            await self._sleep(delay)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.wait({self._stop}, timeout=seconds)

    async def _session(self) -> float:
        """Open a session, use it and end it. Returns the seconds until the next one."""
        trace, span = self._traces.getrandbits(128), self._traces.getrandbits(64)
        connection = await connect(
            self._behaviour.url,
            additional_headers={"traceparent": f"00-{trace:032x}-{span:016x}-01"},  # W3C Trace Context, section 3.2
            user_agent_header=f"demo/{self._name}",  # the clients share an address: this identifies them
            open_timeout=HANDSHAKE_TIMEOUT,
            close_timeout=HANDSHAKE_TIMEOUT,
            proxy=None,
        )
        self._results.sessions += 1
        reader = asyncio.create_task(_read_all(connection))
        ended_by_client = True
        try:
            await self._talk(connection, reader)
            await disconnect(connection, Disconnect.GOING_AWAY if self._stop.done() else choose(self._rng))
        except ConnectionClosed:
            ended_by_client = False
        finally:
            connection.transport.abort()
            await reader
            code, initiator = close_seen(connection, ended_by_client)
            self._results.closes[f"{code} {initiator}"] += 1
        if initiator == "server":
            return self._backoff.delay(code)
        self._backoff.reset()
        return self._rng.uniform(*PAUSE)

    async def _talk(self, connection: ClientConnection, reader: asyncio.Task[None]) -> None:
        """Send messages until the session is over, by this client's choice, a stop or the server."""
        rng = self._rng
        stay = rng.expovariate(1 / self._behaviour.stay)
        await connection.send(json.dumps({"type": "join", "room": rng.choice(ROOMS), "name": self._name}))
        while not reader.done():
            pause = rng.expovariate(self._behaviour.rate)
            await asyncio.wait({reader, self._stop}, timeout=min(pause, stay), return_when=asyncio.FIRST_COMPLETED)
            if self._stop.done() or (stay := stay - pause) <= 0:
                return
            await connection.send(json.dumps({"type": "say", "text": rng.choice(PHRASES)}))


async def _read_all(connection: ClientConnection) -> None:
    try:
        async for _ in connection:
            pass
    except ConnectionClosed:
        pass


def close_seen(connection: ClientConnection, ended_by_client: bool) -> tuple[int, str]:
    """Return the code of the first Close frame and its sender; 1006 without one."""
    protocol = connection.protocol
    received, sent = protocol.close_rcvd, protocol.close_sent
    if received is not None and (sent is None or protocol.close_rcvd_then_sent):
        return received.code, "server"
    if sent is not None:
        return sent.code, "client"
    return CloseCode.ABNORMAL_CLOSURE, "client" if ended_by_client else "server"


async def run_clients(behaviour: Behaviour, count: int, seed: int, stop: asyncio.Event) -> Results:
    """Run ``count`` clients until ``stop`` or until cancelled, and disconnect them then. Returns their counts."""
    results = Results()
    stopping: asyncio.Future[Any] = asyncio.create_task(stop.wait())
    clients = [Client(f"client-{n}", behaviour, f"{seed}/{n}", results, stopping) for n in range(count)]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    try:
        done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a client ends before the stop only by a defect
    finally:
        stop.set()
        await asyncio.wait(tasks, timeout=STOP_TIMEOUT)
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return results


async def _run(behaviour: Behaviour, count: int, seed: int, seconds: float | None) -> Results:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    return await run_clients(behaviour, count, seed, stop)


def _parse_url(text: str) -> str:
    try:
        parse_uri(text)
    except InvalidURI:
        raise ValueError("expected an address such as ws://127.0.0.1:10010/chat") from None
    return text


_POSITIVE = click.FloatRange(0, min_open=True)


@click.command(context_settings={"show_default": True})
@click.option(
    "--url", type=parsed(_parse_url), metavar="TEXT", default="ws://127.0.0.1:10010/chat", help="address of the chat"
)
@click.option("--clients", type=click.IntRange(1, 1000), default=30, help="number of clients")
@click.option("--rate", type=_POSITIVE, default=0.5, help="messages a second of each client")
@click.option("--stay", type=_POSITIVE, default=20.0, help="mean length of a session in seconds")
@click.option("--seconds", type=_POSITIVE, help="stop after this time; default: on SIGTERM or SIGINT")
@click.option("--seed", type=int, default=1, help="seed of the random choices")
def main(url: str, clients: int, rate: float, stay: float, seconds: float | None, seed: int) -> None:
    """Run clients of the chat, which disconnect in many ways and connect again."""
    results = asyncio.run(_run(Behaviour(url, rate, stay), clients, seed, seconds))
    click.echo(json.dumps(vars(results)))


if __name__ == "__main__":
    main()
