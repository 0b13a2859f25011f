"""Hostile clients of every kind at once: ``python -m tests.load.hostile PORT ADMIN_PORT SECONDS``.

Each kind plays its rounds one after the other, at most :data:`RATE` a second and :data:`ROUND` seconds each, so that
connections, bytes and time are bounded. At the end it prints one JSON line: the rounds that each kind has played. The
app's part is in :mod:`tests.load.app`, by the path.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import uvloop

from tests.e2e.harness.wire import upgrade_request

#: Rounds of one kind in a second, and seconds of one round.
RATE = 1.0
ROUND = 20.0

KIB = 1024
CHUNKED = b" HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"
CLIENT_HELLO = bytes.fromhex("16030100f8010000f40303") + bytes(237)
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)


class Ports:
    """The sidecar's ports."""

    def __init__(self, data: int, admin: int) -> None:
        self.data = data
        self.admin = admin


class Socket:
    """A client's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, *segments: bytes) -> None:
        for data in segments:
            await self._loop.sock_sendall(self.sock, data)

    async def read(self, size: int = 65536) -> bytes:
        return await self._loop.sock_recv(self.sock, size)

    async def until_end(self) -> None:
        with suppress(ConnectionError):
            while await self.read():
                pass

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)


@asynccontextmanager
async def connected(port: int, receive_buffer: int = 0) -> AsyncIterator[Socket]:
    """A connection, which is closed in any case."""
    sock = socket.socket()
    try:
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield Socket(sock)
    finally:
        sock.close()


@asynccontextmanager
async def session(ports: Ports, path: str, extra: str = "", receive_buffer: int = 0) -> AsyncIterator[Socket]:
    """A connection that has asked to upgrade, and has read some of the answer."""
    async with connected(ports.data, receive_buffer) as client:
        await client.send(upgrade_request(path, extra))
        await client.read(256)
        yield client


async def trickle(client: Socket, data: bytes, pause: float = 0.1) -> None:
    """Send byte by byte, until the sidecar has enough."""
    with suppress(ConnectionError):
        for at in range(len(data)):
            await client.send(data[at : at + 1])
            await asyncio.sleep(pause)


def flood(path: str, pattern: bytes, size: int = 256 * KIB) -> Callable[[Ports], Awaitable[None]]:
    """A session that sends a pattern over and over, to an app that takes it."""
    data = pattern * (size // len(pattern))

    async def play(ports: Ports) -> None:
        async with session(ports, path) as client:
            await client.send(data)

    return play


def once(*segments: bytes) -> Callable[[Ports], Awaitable[None]]:
    """A connection that sends these bytes, reads what comes for a while, and closes."""

    async def play(ports: Ports) -> None:
        async with connected(ports.data) as client:
            await client.send(*segments)
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await client.until_end()

    return play


async def slow_head(ports: Ports) -> None:
    async with connected(ports.data) as client:
        await trickle(client, upgrade_request(extra="X: " + "x" * 400 + "\r\n"))


async def slow_frame(ports: Ports) -> None:
    async with session(ports, "/sink") as client:
        await trickle(client, b"\x82\xfe\x00\x7e" + bytes(60))


async def slow_close(ports: Ports) -> None:
    async with session(ports, "/sink") as client:
        await trickle(client, b"\x88\x9e" + bytes(4) + b"\x03\xe8" + b"reason" * 4)


async def reads_nothing(ports: Ports) -> None:
    async with session(ports, "/flood", receive_buffer=4096):
        await asyncio.sleep(5.0)


async def reads_drops(ports: Ports) -> None:
    async with session(ports, "/flood", receive_buffer=4096) as client:
        for _ in range(100):
            await client.read(64)
            await asyncio.sleep(0.05)


async def app_reads_nothing(ports: Ports) -> None:
    async with session(ports, "/unread") as client:
        with suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await client.send(b"\x82\xff" + (1 << 30).to_bytes(8) + bytes(4), bytes(8192 * KIB))


async def half_closed(ports: Ports) -> None:
    async with session(ports, random.choice(("/sink", "/unread", "/flood"))) as client:
        client.half_close()
        await asyncio.sleep(3.0)


async def resets(ports: Ports) -> None:
    async with connected(ports.data) as client:
        await client.send(upgrade_request("/sink")[: random.randrange(150)])
        client.reset()
    async with session(ports, "/flood", receive_buffer=4096) as client:
        await client.send(b"\x82\xfe\x10\x00" + bytes(random.randrange(4096)))
        client.reset()


async def one_byte_each(ports: Ports) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(50):
            client = await stack.enter_async_context(connected(ports.data))
            await client.send(b"G")
        await asyncio.sleep(0.5)


async def urgent(ports: Ports) -> None:
    async with session(ports, "/sink") as client:
        for _ in range(20):
            client.sock.send(b"\x89", socket.MSG_OOB)
            await client.send(b"\x80\0\0\0\0")
            await asyncio.sleep(0.01)


async def closes(ports: Ports) -> None:
    code = random.choice((0, 999, 1000, 1001, 1005, 1006, 1011, 1015, 4000, 65535, random.randrange(65536)))
    reason = random.choice((b"", b"\x1b[31m\n\r\0", b"\xff\xfe", os.urandom(100), "\u202e".encode() * 20))
    frame = bytes((0x88, 0x80 | 2 + len(reason))) + bytes(4) + struct.pack("!H", code) + reason
    async with session(ports, "/" + "p" * random.randrange(2000), f"X-Forwarded-For: {'1' * 900}\r\n") as client:
        await client.send(frame[: random.randrange(len(frame))] if random.random() < 0.3 else frame + frame)
        await client.read()


async def app_ends(ports: Ports) -> None:
    for path in ("/drop", "/reset", "/page", "/leave"):
        async with session(ports, path) as client:
            await client.send(b"\x88\x82\0\0\0\0\x03\xe8" if path == "/leave" else b"\x81\x80\0\0\0\0")
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await client.until_end()


async def odd_answers(ports: Ports) -> None:
    for path in ("/twice", "/body", "/trailers"):
        async with session(ports, path) as client:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await client.until_end()


async def unread_scrapes(ports: Ports) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(10):
            client = await stack.enter_async_context(connected(ports.admin, 4096))
            await client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        await asyncio.sleep(2.0)


async def slow_admin(ports: Ports) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(100):
            await stack.enter_async_context(connected(ports.admin))
        client = await stack.enter_async_context(connected(ports.admin))
        await trickle(client, b"GET /livez HTTP/1.1\r\nHost: ", 0.05)


async def odd_admin(ports: Ports) -> None:
    for head in (
        b"GET /" + b"a" * 100_000,
        b"GET /closes?path=" + b"(a*)*b" * 500 + b"&code=" + b"%" * 999 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%00%ff%c0%af/../closes/%zz HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"POST /drain HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 2_000_000,
        b"GET / HTTP/1.1\r\nA: " + b"b" * 8_000_000,
        b"\x16\x03\x01",
    ):
        async with connected(ports.admin) as client:
            await client.send(head)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await client.until_end()


#: A request with long texts.
_LONG = b"GET /mute HTTP/1.1\r\nHost: app\r\nCookie: " + b"c" * 50_000 + b"\r\n\r\n"

KINDS: dict[str, Callable[[Ports], Awaitable[None]]] = {
    "empty pings": flood("/sink", b"\x89\x80\x01\x02\x03\x04"),
    "reserved opcodes": flood("/sink", b"\x83\x00"),
    "fragments": flood("/sink", b"\x01\x80\x01\x02\x03\x04\x80\x80\x01\x02\x03\x04"),
    "unparseable frames": flood("/sink", b"\x89\xfe\xff\xff"),
    "slow head": slow_head,
    "slow frame": slow_frame,
    "slow Close": slow_close,
    "endless head": once(b"GET /mute HTTP/1.1\r\nX: ", b"x" * 512 * KIB),
    "endless trailer": once(b"POST /mute" + CHUNKED + b"0\r\nT: ", b"v" * 2048 * KIB),
    "many trailers": once(b"POST /mute" + CHUNKED + b"0\r\n", b"A: b\r\n" * 100_000),
    "pipelined requests": once(_LONG * 40),
    "early frames": once(upgrade_request("/mute"), bytes(128 * KIB)),
    "tiny headers": once(upgrade_request("/mute")[:-2] + b"A:\r\n" * 15_900 + b"\r\n"),
    "cookie lines": once(upgrade_request("/mute", "Cookie:a\r\n" * 6400)),
    "two lengths": once(b"POST /mute HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdefgh" + _LONG),
    "length and chunked": once(
        b"POST /mute HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET"
    ),
    "huge chunk": once(b"POST /mute" + CHUNKED + b"ffffffffffffffff\r\nabc\r\n-1\r\n"),
    "obsolete heads": once(b"GET http://a/mute HTTP/1.0\r\nHost: a\r\n folded\r\nX: \0\r\n\r\n"),
    "garbage": once(os.urandom(64 * KIB)),
    "TLS": once(CLIENT_HELLO * 3),
    "HTTP/2": once(HTTP2 * 3),
    "reads nothing": reads_nothing,
    "reads drops": reads_drops,
    "app reads nothing": app_reads_nothing,
    "half-closed": half_closed,
    "resets": resets,
    "one byte each": one_byte_each,
    "urgent data": urgent,
    "closes": closes,
    "app ends": app_ends,
    "odd answers": odd_answers,
    "unread scrapes": unread_scrapes,
    "slow admin": slow_admin,
    "odd admin": odd_admin,
}


async def main(ports: Ports, seconds: float) -> Counter[str]:
    """Play all kinds at once; return the rounds of each."""
    loop = asyncio.get_running_loop()
    over = loop.time() + seconds
    played: Counter[str] = Counter()

    async def rounds(name: str, play: Callable[[Ports], Awaitable[None]]) -> None:
        await asyncio.sleep(random.random() / RATE)
        while loop.time() < over:
            due = loop.time() + 1 / RATE
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(min(ROUND, max(over - loop.time(), 0.1))):
                    await play(ports)
            played[name] += 1
            await asyncio.sleep(max(0.0, due - loop.time()))

    async with asyncio.TaskGroup() as group:
        for name, play in KINDS.items():
            group.create_task(rounds(name, play))
    return played


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(Ports(int(sys.argv[1]), int(sys.argv[2])), float(sys.argv[3])))))
