"""An admin server with a state that a test makes up, and clients for it: one that reads, one that does not."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from exporter.admin.server import Admin, AdminBackend
from exporter.admin.state import State
from exporter.connections import BUFFERS
from exporter.observe.recent_closes import CloseReport, ClosesPerMinute, RecentCloses
from exporter.protocol.causes import is_abnormal
from exporter.protocol.classify import Ending
from exporter.protocol.enums import Cause, Peer
from exporter.protocol.flight_recorder import BY_SERVER, FRAMES, KEPT, WRITTEN, Ring
from exporter.protocol.record import SessionRecord


def ring(frames: int = 4) -> Ring:
    """A flight recorder with so many frames, from both peers in turn, one a second up to second 200; a Close last."""
    recorder = Ring()
    for number in range(frames):
        opcode = 0x88 if number == frames - 1 else 0x81 if number % 3 else 0x01
        sender = 0 if number % 2 else BY_SERVER
        recorder.add(201.0 - frames + number, 10 + number, opcode & KEPT | WRITTEN | sender)
    return recorder


def make_report(number: int, frames: int = 4, **changed: Any) -> CloseReport:
    """One abnormal ending, of session ``abcd-<number>``, in hexadecimal; the app raised unless told otherwise."""
    fields: dict[str, object] = {
        "session_id": f"abcd-{number:x}",
        "route": "all",
        "path": "/chat",
        "code": "1011",
        "close_code": 1011,
        "cause": Cause.INTERNAL_ERROR,
        "initiator": Peer.SERVER,
        "clean": True,
        "reason": "",
        "duration_s": 12.3,
        "frames": {"client": 1, "server": 2},
        "bytes": {"client": 100, "server": 2000},
        "last_frame_age_s": {"client": 1.5, "server": None},
        "subprotocol": "",
        "client": "192.0.2.1:4444",
        "forwarded_for": "",
        "trace_id": "",
        "tcp_ended_by": Peer.SERVER,
        "tcp_ended_how": "fin",
        "idle_s": 0.0,
        "ping_unanswered_s": 0.0,
        "cut_in_frame": [],
        "cut_in_message": [],
        "suspect": False,
        "confidence": None,
        "evidence": [],
        "ended_at": 1_700_000_000.0 + number,
    }
    recorder = ring(min(frames, FRAMES))
    return CloseReport(fields | changed, recorder.in_order(), 200.0)


class FakeSidecar:
    """What the admin server is told; in it no minute ends, so that all endings are of the last one."""

    def __init__(self) -> None:
        self.closes = RecentCloses(["all"])
        self.history = ClosesPerMinute(clock=lambda: 0.0)
        self.reasons: list[str] = []
        self.active = 0
        self.draining = False
        self.states_made = 0
        self.registry = CollectorRegistry()
        self.backend = AdminBackend(
            self._unready, lambda: True, dict, self.state, self._change_token, self.closes, self._before_scrape
        )
        self.admin = Admin(self.registry, self.backend)

    async def _unready(self) -> list[str]:
        return self.reasons

    async def _before_scrape(self) -> None:
        pass

    def _change_token(self) -> tuple[object, ...]:
        return self.history.total, self.active, self.draining

    def state(self) -> State:
        """How the sidecar is."""
        self.states_made += 1
        minutes = self.history.minutes()
        return State("1.2.3", "127.0.0.1:8080", self.draining, self.active, 90.0, minutes[-1], minutes)

    def end(self, code: str, cause: Cause, initiator: Peer = Peer.SERVER, times: int = 1) -> None:
        """So many sessions end like this, now."""
        for _ in range(times):
            self.history.session_closed(SessionRecord(), Ending(code, cause, initiator, clean=True))
            if is_abnormal(cause):
                number = self.closes.total
                real = int(code) if code.isdecimal() and code != "1006" else None
                self.closes.add(
                    make_report(
                        number, code=code, close_code=real, cause=cause, initiator=initiator, ended_at=time.time()
                    )
                )


async def listen(admin: Admin, host: str = "127.0.0.1") -> int:
    """Serve on a free port of an address. Returns the port."""
    listener = socket.create_server((host, 0))
    await admin.serve([listener])
    port: int = listener.getsockname()[1]
    return port


def _small_buffers(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
    """Return a listening socket whose connections have the send buffer of the real server's."""
    listener = socket.create_server((host, port), family=family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFERS[socket.SO_SNDBUF])
    return listener


@asynccontextmanager
async def served(fake: FakeSidecar) -> AsyncIterator[TestClient[Any, Any]]:
    """The server of ``world`` and a client for it; ``server.app`` and ``port`` are the test client's."""
    async with TestClient(TestServer(fake.admin.application(), socket_factory=_small_buffers)) as client:
        yield client


@asynccontextmanager
async def non_reader(client: TestClient[Any, Any], path: str) -> AsyncIterator[socket.socket]:
    """A connection that asks for ``path`` and reads nothing; its buffer is as small as the kernel lets it be."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", client.port))
        await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield connection


async def closed_by_server(connection: socket.socket) -> bool:
    """Whether the server ends the connection, as seen by reading what is left in it; waits for that."""
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(connection, 65536):
            pass
    except ConnectionResetError:
        pass
    return True
