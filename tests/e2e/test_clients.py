"""Real clients of several makes leave in all the ways there are; the counter says who it was and why."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_sync

from tests.ports import free_port
from tests.waiting import WAIT_LIMIT, eventually

from .harness.process import Process, running
from .harness.scrape import Ending
from .harness.sidecar import Sidecar, audited
from .harness.stack import CLIENTS, python, skip_without

NORMAL: Ending = ("1000", "normal", "client")
NO_STATUS: Ending = ("1005", "no-status", "client")
INTERNAL_ERROR: Ending = ("1011", "internal-error", "client")
APPLICATION: Ending = ("4xxx", "application", "client")
LOST: Ending = ("1006", "connection-lost", "client")


@pytest.fixture(scope="module")
def sidecar(node_packages: None) -> Iterator[Sidecar]:
    """A sidecar in front of an echoing app on `websockets`."""
    port = free_port()
    app = python("the echo app", "websockets_asyncio.py", "--close-on-sigterm", needs="websockets")
    with running(app.start(port)):
        with audited(port) as sidecar:
            yield sidecar


class Boom(Exception):
    """A bug in the client."""


async def websockets_client(url: str, bug: bool) -> None:
    """Echo once inside `async with`; with a bug in its body."""
    async with connect(url) as websocket:
        await websocket.send("hello")
        assert await websocket.recv() == "hello"
        if bug:
            raise Boom


def websockets_sync_client(url: str, bug: bool) -> None:
    """The same on threads."""
    with connect_sync(url) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=WAIT_LIMIT) == "hello"
        if bug:
            raise Boom


async def aiohttp_client(url: str, bug: bool) -> None:
    """The same with aiohttp."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as websocket:
        await websocket.send_str("hello")
        assert await websocket.receive_str(timeout=WAIT_LIMIT) == "hello"
        if bug:
            raise Boom


LIBRARIES: list[tuple[str, Callable[[str, bool], None], bool, Ending]] = [
    # client, what it does, whether its body raises, what is counted
    ("websockets asyncio leaves", lambda url, bug: asyncio.run(websockets_client(url, bug)), False, NORMAL),
    (
        "websockets asyncio, body raises",
        lambda url, bug: asyncio.run(websockets_client(url, bug)),
        True,
        INTERNAL_ERROR,
    ),
    ("websockets sync leaves", websockets_sync_client, False, NORMAL),
    ("websockets sync, body raises", websockets_sync_client, True, INTERNAL_ERROR),
    ("aiohttp leaves", lambda url, bug: asyncio.run(aiohttp_client(url, bug)), False, NORMAL),
    ("aiohttp, body raises", lambda url, bug: asyncio.run(aiohttp_client(url, bug)), True, NORMAL),
]


@pytest.mark.parametrize(
    ("leave", "bug", "ending"),
    [row[1:] for row in LIBRARIES],
    ids=[f"{row[0]} -> {' '.join(row[3])}" for row in LIBRARIES],
)
def test_a_python_client_leaves(
    sidecar: Sidecar, leave: Callable[[str, bool], None], bug: bool, ending: Ending
) -> None:
    """A client's own bug counts as the client's 1011 where its library says so, never as the server's."""
    before = sidecar.scrape()
    if bug:
        with pytest.raises(Boom):
            leave(sidecar.url, bug)
    else:
        leave(sidecar.url, bug)
    added = sidecar.settled(before)
    assert added.endings() == {ending: 1}
    assert added.nonzero("websocket_close_handshakes_incomplete_total") == {}


SIGNALS = [
    (signal.SIGINT, INTERNAL_ERROR),  # Ctrl-C leaves `async with` by an exception, too
    (signal.SIGTERM, LOST),
    (signal.SIGKILL, LOST),
]


@pytest.mark.parametrize(
    ("number", "ending"), SIGNALS, ids=[f"{number.name} -> {' '.join(ending)}" for number, ending in SIGNALS]
)
def test_a_python_client_is_ended(sidecar: Sidecar, number: signal.Signals, ending: Ending) -> None:
    """Ctrl-C of a `websockets` client is a 1011 by the client; one that is killed is lost."""
    before = sidecar.scrape()
    argv = [sys.executable, str(CLIENTS / "websockets_client.py"), sidecar.url]
    with running(Process("the client", argv)) as client:
        eventually(lambda: "hello" in client.output(), "the client is connected")
        client.signal(number)
        client.wait(WAIT_LIMIT)
    assert sidecar.settled(before).endings() == {ending: 1}


NODE = [("close", NO_STATUS), ("close-4001", APPLICATION), ("terminate", LOST), ("exit", LOST)]


@pytest.mark.parametrize(("action", "ending"), NODE, ids=[f"{row[0]} -> {' '.join(row[1])}" for row in NODE])
def test_a_node_client_leaves(sidecar: Sidecar, action: str, ending: Ending) -> None:
    """Node ws: close() sends an empty Close, close(4001) an application's code, terminate() and exit none."""
    skip_without("node")
    before = sidecar.scrape()
    argv = ["node", str(CLIENTS / "node_ws_client.mjs"), sidecar.url, action]
    with running(Process("the Node client", argv)) as client:
        assert client.wait(WAIT_LIMIT) == 0, client.tail()
    assert sidecar.settled(before).endings() == {ending: 1}
