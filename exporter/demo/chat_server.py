"""A chat server with a bug that can be switched on and off.

A message is one JSON object:

    {"type": "join", "room": "tea", "name": "ann"}   ->  {"type": "joined", "room": "tea", "members": 3}
    {"type": "say", "text": "hello"}                 ->  {"type": "said", "name": "ann", "text": "hello"}, to the room
    {"type": "leave"}                                ->  {"type": "left"}
    anything else                                    ->  {"type": "error", "text": "..."}

The server closes with 1011 when a handler raises, 1009 above MAX_MESSAGE, 1008 for a "say" outside a room, and 1001 on
SIGTERM. `GET /bug` returns the share of messages that fail and how; `GET /bug?rate=0.2&kind=drops` changes both.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from itertools import cycle
from typing import Any
from urllib.parse import parse_qs, urlsplit

import click
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

#: Bytes of a message at most.
MAX_MESSAGE = 4096

#: Seconds for a closing handshake.
CLOSE_TIMEOUT = 2.0

HELP = "A chat server: WebSocket at /chat. GET /bug shows the bug, GET /bug?rate=0.2 changes it.\n"


class BugKind(StrEnum):
    """How the handler of a message fails."""

    RAISES = "raises"  # an unhandled exception: the library closes with 1011
    DROPS = "drops"  # TCP ends with no Close frame, as with many frameworks when a handler raises
    BOTH = "both"  # in turn


@dataclass(slots=True)
class Bug:
    """Which messages fail, and how.

    :ivar rate: share of messages, 0 to 1.
    """

    rate: float = 0.0
    kind: BugKind = BugKind.RAISES
    _turns: Iterator[BugKind] = field(default_factory=lambda: cycle((BugKind.RAISES, BugKind.DROPS)))

    def change(self, query: str) -> None:
        """Set ``rate`` and ``kind`` from a URL's query; a field that it leaves out stays. Raises ValueError."""
        fields = parse_qs(query, keep_blank_values=True)
        rate, kind = fields.pop("rate", [str(self.rate)])[-1], fields.pop("kind", [self.kind])[-1]
        try:
            if fields or not 0 <= float(rate) <= 1:
                raise ValueError
            self.rate, self.kind = float(rate), BugKind(kind)
        except ValueError:
            raise ValueError("accepted: rate=0 to rate=1, kind=raises, kind=drops or kind=both") from None

    def next_failure(self) -> BugKind | None:
        """Return how the next message fails, RAISES or DROPS; None if it does not."""
        if random.random() >= self.rate:
            return None
        return next(self._turns) if self.kind is BugKind.BOTH else self.kind


class Chat:
    """The rooms, and the handlers of WebSocket and HTTP requests."""

    def __init__(self, bug: Bug) -> None:
        self.bug = bug
        self.rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)

    async def handle(self, connection: ServerConnection) -> None:
        """Serve one connection until it ends. Raises LookupError for a message that the bug lets fail so."""
        member = Member(connection, self.rooms)
        try:
            async for message in connection:
                match self.bug.next_failure():
                    case BugKind.RAISES:
                        raise LookupError("the bug of the demo: an exception that no handler expects")
                    case BugKind.DROPS:
                        connection.transport.abort()
                        await connection.wait_closed()
                await member.answer(message)
        except ConnectionClosed:
            pass  # the client disconnected without a Close frame
        finally:
            member.leave()

    def answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the response to a plain HTTP request; None continues with the opening handshake."""
        url = urlsplit(request.path)
        if "upgrade" in request.headers:
            known = url.path == "/chat" or url.path.startswith("/chat/")
            return None if known else connection.respond(HTTPStatus.NOT_FOUND, "The chat is at /chat.\n")
        if url.path == "/":
            return connection.respond(HTTPStatus.OK, HELP)
        if url.path != "/bug":
            return connection.respond(HTTPStatus.NOT_FOUND, "Not found.\n")
        try:
            self.bug.change(url.query)
        except ValueError as error:
            return connection.respond(HTTPStatus.BAD_REQUEST, f"{error}\n")
        state = {"rate": self.bug.rate, "kind": self.bug.kind}
        return connection.respond(HTTPStatus.OK, json.dumps(state) + "\n")


@dataclass(slots=True)
class Member:
    """One connection's room and name."""

    _connection: ServerConnection
    _rooms: defaultdict[str, set[ServerConnection]]
    _room: str = ""
    _name: str = ""

    async def answer(self, message: str | bytes) -> None:
        """Handle one message."""
        match _parse(message):
            case {"type": "join", "room": str(room), "name": str(name)} if room:
                self.leave()
                self._room, self._name = room, name
                self._rooms[room].add(self._connection)
                await self._reply(type="joined", room=room, members=len(self._rooms[room]))
            case {"type": "say", "text": str(text)} if self._room:
                said = {"type": "said", "name": self._name, "text": text}
                broadcast(self._rooms[self._room], json.dumps(said))
            case {"type": "say"}:
                await self._connection.close(CloseCode.POLICY_VIOLATION, "join a room first")
            case {"type": "leave"}:
                self.leave()
                await self._reply(type="left")
            case _:
                await self._reply(type="error", text="send join, say or leave, as a JSON object")

    def leave(self) -> None:
        """Leave the room; an empty room is deleted."""
        members = self._rooms.get(self._room, set())
        members.discard(self._connection)
        if not members:
            self._rooms.pop(self._room, None)
        self._room = ""

    async def _reply(self, **fields: object) -> None:
        await self._connection.send(json.dumps(fields))


def _parse(message: str | bytes) -> Any:
    try:
        return json.loads(message)
    except ValueError:
        return None


def serve_chat(chat: Chat, port: int) -> AbstractAsyncContextManager[Server]:
    """Return a context manager that serves on loopback; on exit, it closes all sessions with 1001. Raises OSError."""
    return serve(
        chat.handle,
        "127.0.0.1",
        port,
        process_request=chat.answer_http,
        max_size=MAX_MESSAGE,
        close_timeout=CLOSE_TIMEOUT,
    )


def bound_port(server: Server) -> int:
    """Return the port on which ``server`` listens."""
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


async def run(port: int, bug: Bug) -> None:
    """Serve on loopback until SIGTERM or SIGINT; port 0 is any free one. Raises OSError."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve_chat(Chat(bug), port) as server:
        click.echo(f"chat server: ws://127.0.0.1:{bound_port(server)}/chat")
        await stop.wait()


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="port; 0 is any free one")
@click.option(
    "--bug-rate", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="share of failing messages"
)
@click.option(
    "--bug-kind",
    type=click.Choice([kind.value for kind in BugKind]),
    default="raises",
    show_default=True,
    help="how they fail: with 1011, with no Close frame, or both in turn",
)
def main(port: int, bug_rate: float, bug_kind: str) -> None:
    """Serve a chat whose handlers fail now and then."""
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(run(port, Bug(bug_rate, BugKind(bug_kind))))
    except OSError as error:
        raise click.ClickException(f"cannot listen on port {port}: {os.strerror(error.errno or 0)}") from None


if __name__ == "__main__":
    main()
