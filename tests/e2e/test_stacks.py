"""Every server stack, as it behaves in the field: what its handler's exception, SIGTERM and SIGKILL count as.

The table is the promise; it was measured with a raw client connected to each stack directly. After SIGTERM or
SIGKILL the app's port is closed, hence `app-down` where no Close was sent.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.waiting import PATIENCE

from .harness.bench import Bench
from .harness.scrape import ACTIVE, Ending
from .harness.stack import Stack, daphne, granian, node, python, uvicorn

INTERNAL_ERROR: Ending = ("1011", "internal-error", "server")
GOING_AWAY: Ending = ("1001", "going-away", "server")
SERVICE_RESTART: Ending = ("1012", "service-restart", "server")
NO_STATUS: Ending = ("1005", "no-status", "server")
TCP_END: Ending = ("1006", "connection-lost", "server")
APP_DOWN: Ending = ("1006", "app-down", "server")

TABLE: list[tuple[Stack, Ending | None, Ending]] = [
    # stack, its handler raises (None: the connection stays open), SIGTERM
    (
        python(
            "websockets asyncio, SIGTERM -> server.close()",
            "websockets_asyncio.py",
            "--close-on-sigterm",
            needs="websockets",
        ),
        INTERNAL_ERROR,
        GOING_AWAY,
    ),
    (
        python("websockets asyncio, no signal handler", "websockets_asyncio.py", needs="websockets"),
        INTERNAL_ERROR,
        APP_DOWN,
    ),
    (
        python("websockets sync, SIGTERM -> server.shutdown()", "websockets_sync.py", needs="websockets"),
        INTERNAL_ERROR,
        GOING_AWAY,
    ),
    (uvicorn("uvicorn (websockets), raw ASGI", "asgi_raw", "--ws", "websockets"), TCP_END, SERVICE_RESTART),
    (
        uvicorn("uvicorn (websockets-sansio), raw ASGI", "asgi_raw", "--ws", "websockets-sansio"),
        TCP_END,
        SERVICE_RESTART,
    ),
    (
        uvicorn("uvicorn (wsproto), raw ASGI", "asgi_raw", "--ws", "wsproto", needs="wsproto"),
        TCP_END,
        SERVICE_RESTART,
    ),
    (uvicorn("uvicorn, Starlette", "asgi_starlette", needs="starlette"), TCP_END, SERVICE_RESTART),
    (uvicorn("uvicorn, FastAPI", "asgi_fastapi", needs="fastapi"), TCP_END, SERVICE_RESTART),
    (uvicorn("uvicorn, Django Channels", "asgi_channels", needs="channels"), TCP_END, SERVICE_RESTART),
    (granian("granian, raw ASGI", "asgi_raw"), NO_STATUS, APP_DOWN),
    (daphne("daphne, Django Channels", "asgi_channels"), INTERNAL_ERROR, APP_DOWN),
    (python("aiohttp", "aiohttp_server.py", needs="aiohttp"), TCP_END, APP_DOWN),
    (
        python("aiohttp, closes in on_shutdown", "aiohttp_server.py", "--close-on-shutdown", needs="aiohttp"),
        TCP_END,
        GOING_AWAY,
    ),
    (python("tornado", "tornado_server.py", needs="tornado"), TCP_END, APP_DOWN),
    (python("autobahn on asyncio", "autobahn_asyncio.py", needs="autobahn"), TCP_END, APP_DOWN),
    (python("autobahn on twisted", "autobahn_twisted.py", needs="autobahn"), TCP_END, APP_DOWN),
    (node("Node ws, no handlers: the process dies"), APP_DOWN, APP_DOWN),
    (node("Node ws, closes its clients on SIGTERM", "--handle-errors"), None, GOING_AWAY),
]


@dataclass(frozen=True)
class Row:
    """One thing done to one stack, and what must be counted."""

    stack: Stack
    action: str
    ending: Ending

    def __str__(self) -> str:
        """The row as the table says it: the test's id."""
        return f"{self.stack.name}: {self.action} -> {' '.join(self.ending)}"


def rows() -> Iterator[Row]:
    """All rows, stack by stack, so that one process serves the first two of them."""
    for stack, raises, terminated in TABLE:
        if raises is not None:
            yield Row(stack, "handler raises", raises)
        yield Row(stack, "SIGTERM", terminated)
        yield Row(stack, "SIGKILL", APP_DOWN)


def echoes(client: ClientConnection) -> None:
    """Prove that the session works before something is done to it."""
    client.send("hello")
    assert client.recv(timeout=PATIENCE) == "hello"


def close_code_seen(client: ClientConnection) -> str:
    """Wait for the end; what the client itself says the code was (RFC 6455, section 7.1.5)."""
    with pytest.raises(ConnectionClosed) as ended:
        client.recv(timeout=PATIENCE)
    return "1006" if ended.value.rcvd is None else str(ended.value.rcvd.code)


@pytest.mark.parametrize("row", list(rows()), ids=str)
def test_a_stack_ends_a_session(bench: Bench, row: Row) -> None:
    """The counter says why the session ended, once, and nothing else; the client sees the same code."""
    app = bench.app(row.stack)
    before = bench.sidecar.scrape()
    try:
        with connect(bench.sidecar.url, open_timeout=PATIENCE, ping_interval=None) as client:
            echoes(client)
            match row.action:
                case "handler raises":
                    client.send("raise")
                case "SIGTERM":
                    app.signal(signal.SIGTERM)
                case "SIGKILL":
                    app.kill_group()
            assert close_code_seen(client) == row.ending[0]
        assert bench.sidecar.settled(before).endings() == {row.ending: 1}
    finally:
        if row.action != "handler raises":
            bench.retire()


def test_a_mute_app_ends_nothing(bench: Bench) -> None:
    """A handler's exception that leaves the connection open is no ending until somebody really ends it."""
    stack = next(stack for stack, raises, _ in TABLE if raises is None)
    bench.app(stack)
    before = bench.sidecar.scrape()
    with connect(bench.sidecar.url, open_timeout=PATIENCE, ping_interval=None, close_timeout=0.1) as client:
        echoes(client)
        client.send("raise")
        client.send("hello?")
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.3)
        meanwhile = bench.sidecar.scrape()
        assert meanwhile.since(before).endings() == {}
        assert meanwhile.value(ACTIVE) == 1
    added = bench.sidecar.settled(before)
    assert added.endings() == {("1000", "normal", "client"): 1}
    assert added.value("websocket_close_handshakes_incomplete_total", initiator="client") == 1
