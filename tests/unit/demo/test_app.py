"""The chat app keeps what its first page promises, on real sockets."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from exporter.demo.app import MAX_MESSAGE, Bug, BugKind, Chat, serve_chat
from tests.waiting import PATIENCE

from .helpers import how_it_ends, running, visit


@asynccontextmanager
async def chat(bug: Bug | None = None) -> AsyncIterator[int]:
    """A served chat; its port."""
    async with serve_chat(Chat(bug or Bug()), 0) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def say(connection: ClientConnection, **fields: object) -> None:
    await connection.send(json.dumps(fields))


async def hear(connection: ClientConnection) -> object:
    return json.loads(await asyncio.wait_for(connection.recv(), PATIENCE))


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


def test_what_one_says_all_in_the_room_hear_and_nobody_else() -> None:
    """A message goes to everybody in the speaker's room, the speaker included, and to no other room."""

    async def scene() -> None:
        async with chat() as port:
            ann, bob, eve = [await visit(port) for _ in range(3)]
            for who, room, name in ((ann, "tea", "ann"), (bob, "tea", "bob"), (eve, "trains", "eve")):
                await say(who, type="join", room=room, name=name)
            assert await hear(ann) == {"type": "joined", "room": "tea", "members": 1}
            assert await hear(bob) == {"type": "joined", "room": "tea", "members": 2}
            assert await hear(eve) == {"type": "joined", "room": "trains", "members": 1}
            await say(ann, type="say", text="hello")
            said = {"type": "said", "name": "ann", "text": "hello"}
            assert [await hear(ann), await hear(bob)] == [said, said]
            await say(eve, type="leave")
            assert await hear(eve) == {"type": "left"}  # and not what was said in the other room before
            for who in (ann, bob, eve):
                await who.close()

    asyncio.run(scene())


def test_empty_rooms_are_forgotten() -> None:
    """A room is kept only while somebody is in it, however its last member went."""

    async def scene() -> None:
        rooms = Chat(Bug())
        async with serve_chat(rooms, 0) as server:
            guest = await visit(next(iter(server.sockets)).getsockname()[1])
            await say(guest, type="join", room="tea", name="ann")
            await hear(guest)
            assert set(rooms._rooms) == {"tea"}
            guest.transport.abort()
            await how_it_ends(guest)
        assert not rooms._rooms

    asyncio.run(scene())


@pytest.mark.parametrize("message", ["not json", "[]", '{"type": "join", "room": 7, "name": "x"}', b"\x00"])
def test_a_message_that_is_not_understood_is_answered(message: str | bytes) -> None:
    """Nonsense gets an error message; the connection goes on."""

    async def scene() -> None:
        async with chat() as port, await visit(port) as guest:
            await guest.send(message)
            answer = await hear(guest)
            assert isinstance(answer, dict)
            assert answer["type"] == "error"
            await say(guest, type="join", room="tea", name="ann")
            assert await hear(guest) == {"type": "joined", "room": "tea", "members": 1}

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("kind", "code"), [(BugKind.RAISES, 1011), (BugKind.DROPS, 1006)], ids=["raises-1011", "drops-1006"]
)
def test_the_bug_ends_the_connection(kind: BugKind, code: int, caplog: pytest.LogCaptureFixture) -> None:
    """A raising handler is 1011 with its stack trace in the log; a dropping one is 1006 and silent."""

    async def scene() -> None:
        async with chat(Bug(1.0, kind)) as port:
            guest = await visit(port)
            await say(guest, type="leave")
            assert await how_it_ends(guest) == code

    asyncio.run(scene())
    assert ("LookupError" in caplog.text) == (kind is BugKind.RAISES)


def test_rules_of_the_house() -> None:
    """Speaking outside a room is 1008, a message too big is 1009, both from the server."""

    async def scene() -> None:
        async with chat() as port:
            stranger, shouter = await visit(port), await visit(port)
            await say(stranger, type="say", text="hello")
            await shouter.send("A" * (MAX_MESSAGE + 1))
            assert await how_it_ends(stranger) == 1008
            assert await how_it_ends(shouter) == 1009
            assert stranger.protocol.close_rcvd_then_sent
            assert shouter.protocol.close_rcvd_then_sent

    asyncio.run(scene())


def test_the_bug_is_switched_on_and_off_while_the_app_runs() -> None:
    """GET /bug?rate=1 makes the next message fail, rate=0 ends that; who is silent is not touched."""

    async def scene() -> None:
        async with chat() as port:
            victim, witness = await visit(port), await visit(port)
            assert await get(port, "/bug?rate=1") == (200, '{"rate": 1.0, "kind": "raises"}\n')
            await say(victim, type="leave")
            assert await how_it_ends(victim) == 1011
            assert await get(port, "/bug?rate=0&kind=drops") == (200, '{"rate": 0.0, "kind": "drops"}\n')
            await say(witness, type="leave")
            assert await hear(witness) == {"type": "left"}
            await witness.close()

    asyncio.run(scene())


@pytest.mark.parametrize("query", ["rate=2", "rate=-1", "rate=nan", "rate=x", "rate=", "kind=odd", "speed=1"])
def test_a_wrong_setting_changes_nothing(query: str) -> None:
    """A wrong query is refused with 400 and one line that says what is accepted; the bug stays as it was."""

    async def scene() -> None:
        async with chat(Bug(0.25)) as port:
            status, text = await get(port, f"/bug?{query}")
            assert (status, text) == (400, "accepted: rate=0 to rate=1, kind=raises or kind=drops\n")
            assert await get(port, "/bug") == (200, '{"rate": 0.25, "kind": "raises"}\n')

    asyncio.run(scene())


def test_a_wrong_kind_does_not_let_the_rate_through() -> None:
    """A query is taken whole or not at all."""
    bug = Bug(0.25)
    with pytest.raises(ValueError, match="accepted"):
        bug.change("rate=1&kind=odd")
    assert bug == Bug(0.25)


def test_plain_http_is_answered() -> None:
    """/ greets, other paths are 404, and so is an upgrade anywhere but at /chat and below."""

    async def scene() -> None:
        async with chat() as port:
            status, text = await get(port, "/")
            assert status == 200
            assert "/chat" in text
            assert (await get(port, "/nowhere"))[0] == 404
            await (await visit(port, "/chat/tea")).close()
            with pytest.raises(InvalidStatus, match="404"):
                await visit(port, "/chatter")

    asyncio.run(scene())


def test_sigterm_says_going_away_to_everybody(tmp_path: Path) -> None:
    """On SIGTERM every client gets 1001 and the app ends with status 0 and no traceback."""
    with running(tmp_path / "out", "-m", "exporter.demo.app", "--port", "0") as app:
        app.says("/chat\n")
        port = int(app.output.rpartition("/")[0].rpartition(":")[2])

        async def scene() -> None:
            guests = [await visit(port) for _ in range(3)]
            app.send(signal.SIGTERM)
            assert [await how_it_ends(guest) for guest in guests] == [1001, 1001, 1001]

        asyncio.run(scene())
        assert app.status() == 0
        assert "Traceback" not in app.output


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    """A port that somebody has: one line that names it, status 1."""

    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with running(tmp_path / "out", "-m", "exporter.demo.app", "--port", str(port)) as app:
            assert app.status() == 1
            assert app.output == f"Error: cannot listen on port {port}: Address already in use\n"
