"""A small chat server that sometimes fails, as real ones do.

A message is one JSON object. Joining and leaving are answered; what one says, all in the room get.

    {"type": "join", "room": "tea", "name": "ann"}   ->  {"type": "joined", "room": "tea", "members": 3}
    {"type": "say", "text": "hello"}                 ->  {"type": "said", "name": "ann", "text": "hello"}
    {"type": "leave"}                                ->  {"type": "left"}
    anything else                                    ->  {"type": "error", "text": "..."}

How it ends connections (``websockets`` sends the Close frames): 1011 when a handler raises, 1009 for a
message above :data:`MAX_MESSAGE`, 1008 for speaking outside a room, 1001 to everybody on SIGTERM.

The bug is a share of messages whose handling fails. ``GET /bug?rate=0.2`` changes it while the app runs;
``kind=drops`` makes the app end TCP with no Close frame, as many frameworks do when a handler raises;
``GET /bug`` tells its state.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import click
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

#: Largest message in bytes: ample for a line of chat, small enough for a visitor to exceed.
MAX_MESSAGE = 4096

#: How long a closing handshake may take, in seconds: a restart should not wait for clients that have gone.
CLOSE_TIMEOUT = 2.0

WELCOME = "A chat app. WebSocket at /chat; GET /bug tells how often it fails, GET /bug?rate=0.2 changes it.\n"


class BugKind(StrEnum):
    """What the bug looks like from outside."""

    RAISES = "raises"  # an unhandled exception: 1011
    DROPS = "drops"  # TCP ends with no Close frame: 1006


@dataclass(slots=True)
class Bug:
    """How often handling a message fails (``rate``, 0 to 1), and how."""

    rate: float = 0.0
    kind: BugKind = BugKind.RAISES

    def change(self, query: str) -> None:
        """Take ``rate`` and ``kind`` from a URL's query; what is not named stays.

        :raises ValueError: for anything else, with a sentence that says what is accepted.
        """
        fields = parse_qs(query, keep_blank_values=True)
        rate, kind = fields.pop("rate", [str(self.rate)])[-1], fields.pop("kind", [self.kind])[-1]
        try:
            if fields or not 0 <= float(rate) <= 1:
                raise ValueError
            self.rate, self.kind = float(rate), BugKind(kind)
        except ValueError:
            raise ValueError("accepted: rate=0 to rate=1, kind=raises or kind=drops") from None

    def strikes(self) -> bool:
        """Whether this message is one that fails."""
        return random.random() < self.rate


class Chat:
    """All rooms, and the handler of one connection."""

    def __init__(self, bug: Bug) -> None:
        self.bug = bug
        self._rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)

    async def handle(self, connection: ServerConnection) -> None:
        """Serve one connection until it ends. Raises when the bug strikes."""
        visit = Visit(connection, self._rooms)
        try:
            async for message in connection:
                if self.bug.strikes():
                    await self._fail(connection)
                await visit.answer(message)
        except ConnectionClosed:
            pass  # the client has gone without a word: no fault of ours
        finally:
            visit.leave()

    async def _fail(self, connection: ServerConnection) -> None:
        if self.bug.kind is BugKind.RAISES:
            raise LookupError("the demo's bug: an exception that no handler expects")
        connection.transport.abort()
        await connection.wait_closed()

    def answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        """The answer to a plain HTTP request; None lets the opening handshake go on."""
        url = urlsplit(request.path)
        if "upgrade" in request.headers:
            known = url.path == "/chat" or url.path.startswith("/chat/")
            return None if known else connection.respond(HTTPStatus.NOT_FOUND, "The chat is at /chat.\n")
        if url.path == "/":
            return connection.respond(HTTPStatus.OK, WELCOME)
        if url.path != "/bug":
            return connection.respond(HTTPStatus.NOT_FOUND, "Nothing here.\n")
        try:
            self.bug.change(url.query)
        except ValueError as wrong:
            return connection.respond(HTTPStatus.BAD_REQUEST, f"{wrong}\n")
        state = {"rate": self.bug.rate, "kind": self.bug.kind}
        return connection.respond(HTTPStatus.OK, json.dumps(state) + "\n")


class Visit:
    """One connection's place in the chat: the room it is in, the name it goes by."""

    def __init__(self, connection: ServerConnection, rooms: defaultdict[str, set[ServerConnection]]) -> None:
        self._connection = connection
        self._rooms = rooms
        self._room = ""
        self._name = ""

    async def answer(self, message: str | bytes) -> None:
        """Do what one message asks for."""
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
                await self._reply(type="error", text="say join, say or leave, as a JSON object")

    def leave(self) -> None:
        """Be in no room; the last one out takes the room along."""
        members = self._rooms.get(self._room, set())
        members.discard(self._connection)
        if not members:
            self._rooms.pop(self._room, None)
        self._room = ""

    async def _reply(self, **fields: object) -> None:
        await self._connection.send(json.dumps(fields))


def _parse(message: str | bytes) -> object:
    try:
        return json.loads(message)
    except ValueError:
        return None


def serve_chat(chat: Chat, port: int) -> Server:
    """A server of ``chat`` on loopback, to be entered with ``async with``."""
    return serve(
        chat.handle,
        "127.0.0.1",
        port,
        process_request=chat.answer_http,
        max_size=MAX_MESSAGE,
        close_timeout=CLOSE_TIMEOUT,
    )


async def run(port: int, bug: Bug) -> None:
    """Serve on loopback until SIGTERM or SIGINT, then say 1001 to everybody.

    :param port: 0 takes a free one; the line on stdout names it.
    :raises OSError: when the port cannot be had.
    """
    stop = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    async with serve_chat(Chat(bug), port) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        click.echo(f"chat app: ws://127.0.0.1:{port}/chat")
        await stop.wait()


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8080, help="Default 8080; 0 takes a free one.")
@click.option("--bug-rate", type=click.FloatRange(0, 1), default=0.0, help="Share of messages that fail.")
@click.option(
    "--bug-kind", type=click.Choice([kind.value for kind in BugKind]), default="raises", help="How they fail."
)
def main(port: int, bug_rate: float, bug_kind: str) -> None:
    """A chat app whose handlers fail now and then."""
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(run(port, Bug(bug_rate, BugKind(bug_kind))))
    except OSError as failed:
        raise click.ClickException(f"cannot listen on port {port}: {os.strerror(failed.errno or 0)}") from None


if __name__ == "__main__":
    main()
