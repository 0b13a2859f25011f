"""A client that never answers pings: each stack gives it up in its own way, and none is a bug of the app."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from websockets.frames import Opcode

from tests.ports import free_port

from .harness.process import running
from .harness.scrape import Ending
from .harness.sidecar import Sidecar, audited
from .harness.stack import Stack, daphne, node, python, uvicorn
from .harness.wire import Peer, server_frames

SECONDS = "0.3"
"""Interval and timeout of the pings, where the stack takes fractions."""

PINGS = ("--ws-ping-interval", SECONDS, "--ws-ping-timeout", SECONDS)

PING_TIMEOUT: Ending = ("1011", "ping-timeout", "server")
LOST: Ending = ("1006", "ping-timeout", "server")
"""The ping had waited for more than a second when TCP ended: no Close is needed to know why."""

TABLE: list[tuple[Stack, Ending]] = [
    (
        python("websockets asyncio", "websockets_asyncio.py", "--keepalive", SECONDS, needs="websockets"),
        PING_TIMEOUT,
    ),
    (
        python("websockets sync", "websockets_sync.py", "--keepalive", SECONDS, needs="websockets"),
        PING_TIMEOUT,
    ),
    (uvicorn("uvicorn (websockets)", "asgi_raw", "--ws", "websockets", *PINGS), PING_TIMEOUT),
    (uvicorn("uvicorn (websockets-sansio)", "asgi_raw", "--ws", "websockets-sansio", *PINGS), PING_TIMEOUT),
    (uvicorn("uvicorn (wsproto)", "asgi_raw", "--ws", "wsproto", *PINGS, needs="wsproto"), PING_TIMEOUT),
    (
        python("tornado", "tornado_server.py", "--keepalive", SECONDS, needs="tornado"),
        ("1000", "ping-timeout", "server"),
    ),
    (python("aiohttp", "aiohttp_server.py", "--keepalive", "2.4", needs="aiohttp"), LOST),  # waits for half of it
    (daphne("daphne", "asgi_channels", "--ping-interval", "1", "--ping-timeout", "3"), LOST),
    (python("autobahn on asyncio", "autobahn_asyncio.py", "--keepalive", "2", needs="autobahn"), LOST),
    (python("autobahn on twisted", "autobahn_twisted.py", "--keepalive", "2", needs="autobahn"), LOST),
    (node("Node ws, the heartbeat of its README", "--keepalive", "1.2"), LOST),
]


@pytest.fixture(scope="module")
def sidecar(node_packages: None) -> Iterator[Sidecar]:
    """One sidecar; the stacks take turns on the port behind it."""
    with audited(free_port()) as sidecar:
        yield sidecar


def until_given_up(client: Peer) -> None:
    """Read, and answer nothing, until a Close frame or the end of TCP."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := client.some():
            data += more
            if any(opcode == Opcode.CLOSE for opcode, _ in server_frames(data)):
                return


IDS = [f"{stack.name} -> {' '.join(ending)}" for stack, ending in TABLE]


@pytest.mark.parametrize(("stack", "ending"), TABLE, ids=IDS)
def test_a_client_that_does_not_pong(sidecar: Sidecar, stack: Stack, ending: Ending) -> None:
    """A keepalive timeout is told from a crash: its Close is a ping-timeout, never an internal-error."""
    with running(stack.start(sidecar.upstream_port)):
        before = sidecar.scrape()
        client = Peer.connect(sidecar.port)
        client.handshake()
        until_given_up(client)
        client.close()
        added = sidecar.settled(before)
    assert added.endings() == {ending: 1}
    assert added.value("websocket_frames_total", opcode="ping", sender="server") >= 1
    assert added.value("websocket_frames_total", sender="client") == 0
