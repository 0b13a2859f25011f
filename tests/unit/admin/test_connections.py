"""Connections of the admin port: bounded in number and in time."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from exporter import connections
from exporter.admin.server import Access, Admin
from tests.waiting import until

from .harness import FakeSidecar, listen

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks come often."""
    monkeypatch.setattr(connections, "_INTERVAL", 0.02)


@asynccontextmanager
async def serving(limit: int = 8) -> AsyncIterator[tuple[Admin, int]]:
    """An admin server with so many connections at most, and its port, on all loopback addresses."""
    fake = FakeSidecar()
    admin = Admin(fake.registry, fake.backend, Access(max_connections=limit))
    port = await listen(admin, "0.0.0.0")
    try:
        yield admin, port
    finally:
        await admin.close()


class Client:
    """A connection from an address of the loopback network."""

    def __init__(self, source: str = "127.0.0.1") -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.bind((source, 0))
        self.socket.setblocking(False)
        self._loop = asyncio.get_running_loop()

    async def connect(self, port: int) -> Client:
        await self._loop.sock_connect(self.socket, ("127.0.0.1", port))
        return self

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def get(self) -> bytes:
        await self.send(GET)
        return await self._loop.sock_recv(self.socket, 4096)

    async def is_closed(self) -> bool:
        """Return whether the server closes the connection; waits for that."""
        try:
            while await self._loop.sock_recv(self.socket, 65536):
                pass
        except ConnectionResetError:
            pass
        return True


async def test_connections_over_the_limit_take_the_place_of_idle_ones_of_the_same_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An address with too many loses its own oldest idle one; another keeps its connection and gets a new one."""
    monkeypatch.setattr(connections, "PROTECTED_TIME", 0.0)
    async with serving(8) as (admin, port):
        kubelet = await Client("127.0.0.2").connect(port)
        assert b"alive" in await kubelet.get()
        strangers = [await Client().connect(port) for _ in range(20)]
        await until(lambda: len(admin._connections) == 8, "the limit")
        for stranger in strangers[:13]:
            assert await stranger.is_closed()
        assert b"alive" in await kubelet.get()
        prometheus = await Client("127.0.0.3").connect(port)
        assert b"alive" in await prometheus.get()
        assert b"alive" in await strangers[-1].get()
        assert len(admin._connections) <= 8


async def test_connection_that_is_new_is_served_beside_busy_ones_of_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When every connection is being answered, the oldest gives way, not the one that is about to ask."""
    monkeypatch.setattr(connections, "PROTECTED_TIME", 0.05)
    async with serving(8) as (admin, port):
        streams = [await Client().connect(port) for _ in range(8)]
        for stream in streams:
            await stream.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: admin._events.listeners == 8, "all are busy")
        await asyncio.sleep(0.1)
        asked = await Client().connect(port)
        another = await Client().connect(port)
        assert b"alive" in await asked.get()
        assert b"alive" in await another.get()
        assert await streams[0].is_closed()
        assert await streams[1].is_closed()


async def test_connections_of_a_storm_are_refused_and_others_are_served() -> None:
    """While an address's connections are new and busy, more of its own are refused; another address gets in."""
    async with serving(8) as (admin, port):
        streams = [await Client().connect(port) for _ in range(8)]
        for stream in streams:
            await stream.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: admin._events.listeners == 8, "all are busy")
        storm = [await Client().connect(port) for _ in range(20)]
        kubelet = await Client("127.0.0.2").connect(port)
        assert b"alive" in await kubelet.get()
        assert len(admin._connections) == 8
        assert all(await asyncio.gather(*(one.is_closed() for one in storm)))


async def test_connections_that_are_refused_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are closed when their time is over, or when too many others have come since; all with the server."""
    monkeypatch.setattr(connections, "MAX_REFUSED", 3)
    monkeypatch.setattr(connections, "PROTECTED_TIME", 60.0)
    async with serving(1) as (admin, port):
        served = await Client().connect(port)
        assert b"alive" in await served.get()
        storm = [await Client().connect(port) for _ in range(5)]
        assert all([await one.is_closed() for one in storm[:2]])
        assert len(admin._connections._refused) == 3
    assert all([await one.is_closed() for one in storm])


async def test_connection_without_a_head_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that sends no request, or a part of one byte by byte, ends after the time for a head."""
    monkeypatch.setattr(connections, "HEAD_TIME", 0.3)
    async with serving() as (admin, port):
        silent, slow = await Client().connect(port), await Client().connect(port)
        await slow.send(b"GET / HT")
        asked = await Client().connect(port)
        assert b"alive" in await asked.get()
        assert await silent.is_closed()
        assert await slow.is_closed()
        assert b"alive" in await asked.get()
        await until(lambda: len(admin._connections) == 1, "the one that asked is left")


async def test_connection_that_leaves_its_answers_unread_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes nothing of what waits for it ends; others do not notice."""
    monkeypatch.setattr(connections, "UNREAD_TIME", 0.3)
    monkeypatch.setattr(connections, "REQUEST_INTERVAL", 0.0)  # answers fill the buffers soon
    async with serving() as (admin, port):
        non_reader = await Client().connect(port)
        asyncio.get_running_loop().create_task(non_reader.send(GET * 20_000))
        await until(lambda: len(admin._connections) == 1, "it is connected")
        await until(lambda: len(admin._connections) == 0, "it is gone")
        other = await Client().connect(port)
        assert b"alive" in await other.get()
        non_reader.socket.close()


async def test_connection_that_ends_before_its_answer_is_no_defect() -> None:
    """A scraper that goes while its exposition is made leaves nothing in the log."""
    fake = FakeSidecar()
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def before_scrape() -> None:
        asked.set()
        await go_on.wait()

    admin = Admin(fake.registry, dataclasses.replace(fake.backend, before_scrape=before_scrape))
    port = await listen(admin)
    with capture_logs() as logs:
        client = await Client().connect(port)
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asked.wait()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
        await until(lambda: len(admin._connections) == 0, "it is gone")
        go_on.set()
        await asyncio.sleep(0.1)
        await admin.close()
    assert logs == []


async def test_request_with_a_body_that_cannot_be_decoded_is_no_defect() -> None:
    """A stranger cannot have tracebacks logged."""
    head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: deflate\r\nContent-Length: 10\r\n\r\n"
    with capture_logs() as logs:
        async with serving() as (_, port):
            client = await Client().connect(port)
            await client.send(head + b"0123456789")
            assert await client.is_closed()
    assert [line["event"] for line in logs] == ["admin.bad_request"]


async def test_connections_end_with_the_server() -> None:
    """Closing the server closes the port and every connection."""
    async with serving() as (admin, port):
        idle = await Client().connect(port)
        await until(lambda: len(admin._connections) == 1, "it is connected")
    assert await idle.is_closed()
    with pytest.raises(ConnectionRefusedError):
        await Client().connect(port)
