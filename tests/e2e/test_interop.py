"""Every server stack with every client, direct and through the sidecar: the same messages and codes at both ends."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator

import pytest
import socketio

from tests.ports import free_port
from tests.waiting import WAIT_LIMIT, eventually

from .harness.bench import Bench
from .harness.browser import chromium
from .harness.dialogue import (
    ECHOES,
    Client,
    Transcript,
    aiohttp_client,
    in_page,
    node_client,
    run_apart,
    websockets_client,
)
from .harness.process import Process, running
from .harness.scrape import Ending
from .harness.stack import CLIENTS, Stack, daphne, granian, node, python, skip_without, uvicorn

BY_CLIENT: Ending = ("4xxx", "application", "client")
BY_SERVER: Ending = ("4xxx", "application", "server")

STACKS: list[Stack] = [
    python("websockets asyncio", "websockets_asyncio.py", "--close-on-sigterm", needs="websockets"),
    python("websockets sync", "websockets_sync.py", needs="websockets"),
    uvicorn("uvicorn (websockets), raw ASGI", "asgi_raw", "--ws", "websockets"),
    uvicorn("uvicorn (websockets-sansio), raw ASGI", "asgi_raw", "--ws", "websockets-sansio"),
    uvicorn("uvicorn (wsproto), raw ASGI", "asgi_raw", "--ws", "wsproto", needs="wsproto"),
    uvicorn("uvicorn, Starlette", "asgi_starlette", needs="starlette"),
    uvicorn("uvicorn, FastAPI", "asgi_fastapi", needs="fastapi"),
    uvicorn("uvicorn, Django Channels", "asgi_channels", needs="channels"),
    granian("granian, raw ASGI", "asgi_raw"),
    daphne("daphne, Django Channels", "asgi_channels"),
    python("aiohttp", "aiohttp_server.py", needs="aiohttp"),
    python("tornado", "tornado_server.py", needs="tornado"),
    python("autobahn on asyncio", "autobahn_asyncio.py", needs="autobahn"),
    python("autobahn on twisted", "autobahn_twisted.py", needs="autobahn"),
    node("Node ws"),
]
#: Stacks that never send a message without payload: daphne takes it for none.
NEVER_EMPTY = {"daphne, Django Channels"}

CLIENTS_OF_PYTHON_AND_NODE: dict[str, Client] = {
    "websockets": websockets_client,
    "aiohttp": aiohttp_client,
    "Node ws": node_client,
}
NAMES = [*CLIENTS_OF_PYTHON_AND_NODE, "Chromium"]

TAKEOVER = ("none", "takeover", "no-takeover")
NO_TAKEOVER = {"server_no_context_takeover", "client_no_context_takeover"}


@pytest.fixture(scope="module")
def page() -> Iterator[Client]:
    """A page in Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements/e2e.txt)")
    port = free_port()
    # A page of about:blank has the origin "null", which some servers refuse: it comes from a server of its own.
    server = python("the page's server", "page_server.py", needs="aiohttp").start(port)
    with running(server), chromium() as browser, playwright.sync_playwright() as driver:
        connection = driver.chromium.connect_over_cdp(browser.devtools, timeout=WAIT_LIMIT * 1000)
        tab = connection.contexts[0].new_page()
        tab.goto(f"http://127.0.0.1:{port}/elsewhere", timeout=WAIT_LIMIT * 1000)
        yield lambda url, deflate: in_page(tab.evaluate, url)
        connection.close()


def client_of(name: str, request: pytest.FixtureRequest) -> Client:
    """The client of that name; a browser is started when the first test needs it."""
    return CLIENTS_OF_PYTHON_AND_NODE.get(name) or request.getfixturevalue("page")


def seen_by(app: Process) -> list[str]:
    """What the app says it saw, a line a session."""
    return [line for line in app.output().splitlines() if line.startswith("saw ")]


def both_ways(bench: Bench, stack: Stack, talk: Client, deflate: bool) -> Transcript:
    """Hold the dialogue direct and through the sidecar; everything that either peer saw is the same."""
    app = bench.app(stack)
    said = len(seen_by(app))
    direct = talk(f"ws://127.0.0.1:{bench.upstream_port}", deflate)
    eventually(lambda: len(seen_by(app)) == said + 2, "the app has seen both ends")
    before = bench.sidecar.scrape()
    through = talk(bench.sidecar.url, deflate)
    eventually(lambda: len(seen_by(app)) == said + 4, "the app has seen both ends, through the sidecar")
    assert through == direct
    lines = seen_by(app)[said:]
    assert sorted(lines[2:]) == sorted(lines[:2])  # an app on threads may speak of the later session first
    added = bench.sidecar.settled(before, endings=2)
    assert added.endings() == {BY_CLIENT: 1, BY_SERVER: 1}
    assert added.by("websocket_handshakes_total", "status") == {"101": 2}
    assert added.nonzero("websocket_unobserved_connections_total") == {}
    return direct


@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_a_stack_with_a_client(bench: Bench, stack: Stack, client: str, request: pytest.FixtureRequest) -> None:
    """Text, bytes, nothing, fragments, 64 KiB and both closes arrive as on a direct connection, at both ends."""
    expected = tuple(echo for echo in ECHOES if echo[1] or stack.name not in NEVER_EMPTY)
    assert both_ways(bench, stack, client_of(client, request), deflate=False).messages == expected


@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("takeover", TAKEOVER)
@pytest.mark.parametrize("server", ["websockets", "Node ws"])
def test_permessage_deflate(
    bench: Bench, server: str, takeover: str, client: str, request: pytest.FixtureRequest
) -> None:
    """What the peers agree on (RFC 7692) is theirs: compressed with the context kept or not, or not at all."""
    flags = ("--deflate", takeover)
    if server == "websockets":
        stack = python(f"websockets, {takeover}", "websockets_asyncio.py", *flags, needs="websockets")
    else:
        stack = node(f"Node ws, {takeover}", *(flags if takeover != "none" else ()))
    transcript = both_ways(bench, stack, client_of(client, request), deflate=True)
    assert transcript.messages == ECHOES
    agreed = {part.strip() for part in transcript.extensions.split(";")} - {""}
    if takeover == "none":
        assert agreed == set()
    else:
        assert "permessage-deflate" in agreed
        assert agreed & NO_TAKEOVER == (NO_TAKEOVER if takeover == "no-takeover" else set())


#: What an echoed event carries: text, an object, nothing much, and bytes, which go as a binary frame of their own.
EVENTS: list[object] = ["hello, grüße", {"list": [1, None, ""]}, "", bytes(range(256)) * 256]
SOCKETIO_SERVERS = [
    python("python-socketio on aiohttp", "socketio_aiohttp.py", needs="socketio"),
    node("npm socket.io", script="socketio_node.mjs"),
]
Told = dict[str, object]


async def _python_socketio(url: str, transports: list[str], leave: str) -> Told:
    """What python-socketio's client saw: every echo, the transport at the end, why it ended."""
    client = socketio.AsyncClient(reconnection=False)
    ended = asyncio.get_running_loop().create_future()
    client.on("disconnect", ended.set_result)
    async with asyncio.timeout(WAIT_LIMIT):
        await client.connect(url, transports=transports)
        echoes = [await client.call("echo", data) for data in EVENTS]
        transport = client.transport()
        await (client.disconnect() if leave == "client" else client.emit("close"))
        return {"echoes": echoes, "transport": transport, "end": str(await ended)}


def python_socketio(url: str, transports: list[str], leave: str) -> Told:
    """python-socketio's client."""
    return run_apart(_python_socketio(url, transports, leave))


def npm_socketio(url: str, transports: list[str], leave: str) -> Told:
    """npm socket.io-client, in a process of its own."""
    skip_without("node")
    argv = ["node", str(CLIENTS / "socketio_node_client.mjs"), url, ",".join(transports), leave]
    with running(Process("the socket.io client", argv)) as client:
        assert client.wait(WAIT_LIMIT) == 0, client.tail()
        told: Told = json.loads(client.output().splitlines()[-1])
    echoes = told["echoes"]
    assert isinstance(echoes, list)
    return told | {"echoes": [*echoes[:3], base64.b64decode(echoes[3])]}


@pytest.mark.parametrize("leave", ["client", "server"])
@pytest.mark.parametrize("transports", [["websocket"], ["polling", "websocket"]], ids="+".join)
@pytest.mark.parametrize("talk", [python_socketio, npm_socketio], ids=["python-socketio", "npm socket.io-client"])
@pytest.mark.parametrize("stack", SOCKETIO_SERVERS, ids=lambda stack: stack.name)
def test_socket_io(
    bench: Bench, stack: Stack, talk: Callable[[str, list[str], str], Told], transports: list[str], leave: str
) -> None:
    """Events, bytes among them, come back as on a direct connection, by WebSocket at once or after long polling; each
    client is one session with one ending, whoever disconnects."""
    bench.app(stack)
    direct = talk(f"http://127.0.0.1:{bench.upstream_port}", transports, leave)
    before = bench.sidecar.scrape()
    through = talk(f"http://127.0.0.1:{bench.sidecar.port}", transports, leave)
    assert through == direct
    assert through["echoes"] == EVENTS
    assert through["transport"] == "websocket"
    added = bench.sidecar.settled(before)
    ((ending, times),) = added.endings().items()
    assert (ending[:2], times) in {(("1000", "normal"), 1), (("1005", "no-status"), 1)}, (
        "each library closes in its way"
    )
    assert added.by("websocket_handshakes_total", "status") == {"101": 1}
    assert added.nonzero("websocket_unobserved_connections_total") == {}
