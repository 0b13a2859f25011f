"""The chat server, on real sockets."""

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

from exporter.demo.chat_server import MAX_MESSAGE, Bug, BugKind, Chat, bound_port, serve_chat
from tests.waiting import WAIT_LIMIT

from .harness import close_code, connect_to, running


@asynccontextmanager
async def chat(bug: Bug | None = None) -> AsyncIterator[int]:
    """Serve a chat; yields its port."""
    async with serve_chat(Chat(bug or Bug()), 0) as server:
        yield bound_port(server)


async def send(connection: ClientConnection, **fields: object) -> None:
    await connection.send(json.dumps(fields))


async def receive(connection: ClientConnection) -> object:
    return json.loads(await asyncio.wait_for(connection.recv(), WAIT_LIMIT))


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


def test_say_in_a_room_reaches_its_members_only() -> None:
    """A message goes to every member of the sender's room and to no other room."""

    async def scene() -> None:
        async with chat() as port:
            ann, bob, eve = [await connect_to(port) for _ in range(3)]
            for member, room, name in ((ann, "tea", "ann"), (bob, "tea", "bob"), (eve, "trains", "eve")):
                await send(member, type="join", room=room, name=name)
            assert await receive(ann) == {"type": "joined", "room": "tea", "members": 1}
            assert await receive(bob) == {"type": "joined", "room": "tea", "members": 2}
            assert await receive(eve) == {"type": "joined", "room": "trains", "members": 1}
            await send(ann, type="say", text="hello")
            said = {"type": "said", "name": "ann", "text": "hello"}
            assert [await receive(ann), await receive(bob)] == [said, said]
            await send(eve, type="leave")
            assert await receive(eve) == {"type": "left"}  # and not the message of the other room
            for member in (ann, bob, eve):
                await member.close()

    asyncio.run(scene())


def test_room_without_members_is_deleted() -> None:
    """A room exists only while it has members, however the last one disconnects."""

    async def scene() -> None:
        rooms = Chat(Bug())
        async with serve_chat(rooms, 0) as server:
            guest = await connect_to(bound_port(server))
            await send(guest, type="join", room="tea", name="ann")
            await receive(guest)
            assert set(rooms.rooms) == {"tea"}
            guest.transport.abort()
            await close_code(guest)
        assert not rooms.rooms

    asyncio.run(scene())


@pytest.mark.parametrize("message", ["not json", "[]", '{"type": "join", "room": 7, "name": "x"}', b"\x00"])
def test_unknown_message_gets_an_error(message: str | bytes) -> None:
    """An unknown message gets an error message, and the session continues."""

    async def scene() -> None:
        async with chat() as port, await connect_to(port) as guest:
            await guest.send(message)
            answer = await receive(guest)
            assert isinstance(answer, dict)
            assert answer["type"] == "error"
            await send(guest, type="join", room="tea", name="ann")
            assert await receive(guest) == {"type": "joined", "room": "tea", "members": 1}

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("kind", "codes"),
    [(BugKind.RAISES, [1011, 1011]), (BugKind.DROPS, [1006, 1006]), (BugKind.BOTH, [1011, 1006])],
    ids=["raises", "drops", "both"],
)
def test_bug_of_a_kind_ends_sessions_so(kind: BugKind, codes: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """A handler that raises is 1011 with its stack trace in the log, one that drops TCP is 1006; both take turns."""

    async def scene() -> None:
        async with chat(Bug(1.0, kind)) as port:
            for code in codes:
                guest = await connect_to(port)
                await send(guest, type="leave")
                assert await close_code(guest) == code

    asyncio.run(scene())
    assert caplog.text.count("LookupError:") == codes.count(1011)


def test_broken_rule_is_closed_by_the_server() -> None:
    """A "say" outside a room is closed with 1008, a message over the limit with 1009, both by the server."""

    async def scene() -> None:
        async with chat() as port:
            outsider, sender = await connect_to(port), await connect_to(port)
            await send(outsider, type="say", text="hello")
            await sender.send("A" * (MAX_MESSAGE + 1))
            assert await close_code(outsider) == 1008
            assert await close_code(sender) == 1009
            assert outsider.protocol.close_rcvd_then_sent
            assert sender.protocol.close_rcvd_then_sent

    asyncio.run(scene())


def test_bug_changed_over_http_applies_at_once() -> None:
    """GET /bug?rate=1 lets the next message fail, rate=0 ends that; sessions that send nothing continue."""

    async def scene() -> None:
        async with chat() as port:
            victim, witness = await connect_to(port), await connect_to(port)
            assert await get(port, "/bug?rate=1") == (200, '{"rate": 1.0, "kind": "raises"}\n')
            await send(victim, type="leave")
            assert await close_code(victim) == 1011
            assert await get(port, "/bug?rate=0&kind=drops") == (200, '{"rate": 0.0, "kind": "drops"}\n')
            await send(witness, type="leave")
            assert await receive(witness) == {"type": "left"}
            await witness.close()

    asyncio.run(scene())


@pytest.mark.parametrize("query", ["rate=2", "rate=-0.1", "rate=nan", "rate=x", "rate=1&kind=odd", "speed=1", "rate="])
def test_bug_query_that_is_invalid_changes_nothing(query: str) -> None:
    """An invalid query gets 400 and one line with the accepted values; the bug stays."""

    async def scene() -> None:
        async with chat(Bug(0.25)) as port:
            status, text = await get(port, f"/bug?{query}")
            assert (status, text) == (400, "accepted: rate=0 to rate=1, kind=raises, kind=drops or kind=both\n")
            assert await get(port, "/bug") == (200, '{"rate": 0.25, "kind": "raises"}\n')

    asyncio.run(scene())


def test_plain_http_gets_help_or_404() -> None:
    """/ is a help text; other paths are 404, upgrades outside /chat too."""

    async def scene() -> None:
        async with chat() as port:
            status, text = await get(port, "/")
            assert status == 200
            assert "/chat" in text
            assert (await get(port, "/nowhere"))[0] == 404
            await (await connect_to(port, "/chat/tea")).close()
            with pytest.raises(InvalidStatus, match="404"):
                await connect_to(port, "/chatter")

    asyncio.run(scene())


def test_sigterm_closes_sessions_with_1001(tmp_path: Path) -> None:
    """On SIGTERM every client gets 1001, and the server exits with status 0."""
    with running(tmp_path / "out", "-m", "exporter.demo.chat_server", "--port", "0") as app:
        app.prints("/chat\n")
        port = int(app.output.rpartition("/")[0].rpartition(":")[2])

        async def scene() -> None:
            guests = [await connect_to(port) for _ in range(3)]
            app.send(signal.SIGTERM)
            assert [await close_code(guest) for guest in guests] == [1001, 1001, 1001]

        asyncio.run(scene())
        assert app.status() == 0
        assert "Traceback" not in app.output


def test_port_in_use_is_one_line(tmp_path: Path) -> None:
    """A port in use is one line that names it; exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with running(tmp_path / "out", "-m", "exporter.demo.chat_server", "--port", str(port)) as app:
            assert app.status() == 1
            assert app.output == f"Error: cannot listen on port {port}: Address already in use\n"
