"""The app's port as the observer sees it: whether it accepts connections, and which socket listens on it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from time import monotonic

from exporter.address import Address
from exporter.protocol.record import SessionRecord

#: Seconds after which a probe gives up. It then shows nothing: the accept queue may be full.
TIMEOUT = 1.0
#: Seconds for which an answer serves readiness checks.
LIFETIME = 1.0
#: Bytes of a table of sockets that are read at a time, and at most: listening sockets come first in it.
_CHUNK, _MOST = 4096, 1 << 20

#: Listeners that are remembered, the newest last.
MAX_LISTENERS = 16

#: proc(5): the tables of TCP sockets in this network namespace.
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = b"0A"


class AppProbe:
    """Probes the app's port. Connections that it opens are closed at once and send nothing.

    :param app: the address that relays connect to.
    :param tables: the kernel's tables of TCP sockets.
    """

    def __init__(self, app: Address, tables: Iterable[Path] = TABLES) -> None:
        self._app = app
        self._tables = tuple(tables)
        self._listening = _local_addresses(app)
        self._task: asyncio.Task[bool | None] | None = None
        self._answer: bool | None = None
        self._answered_at = float("-inf")

    async def accepts(self) -> bool | None:
        """Return whether the app accepts connections: False if it refuses them, None if nothing shows it.

        A full accept queue and a timeout are no refusal.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._app.path:
                    self._answer = _connect_unix(self._app.path)
                else:
                    self._answer = await _connect_tcp(self._app.host, self._app.port)
        except (TimeoutError, OSError):
            self._answer = None
        self._answered_at = monotonic()
        return self._answer

    async def accepts_lately(self) -> bool | None:
        """Return an answer of :meth:`accepts` of the last :data:`LIFETIME` seconds."""
        return self._answer if monotonic() - self._answered_at < LIFETIME else await self.accepts()

    def begin(self, done: Callable[[bool | None], None]) -> None:
        """Begin :meth:`accepts`, and call ``done`` with its answer."""

        def answered(task: asyncio.Task[bool | None]) -> None:
            if not task.cancelled():
                done(task.result())

        self._task = asyncio.get_running_loop().create_task(self.accepts())
        self._task.add_done_callback(answered)

    def listener(self) -> frozenset[int] | None:
        """Return identifiers of the sockets that listen on the app's port; None if they are not in this namespace.

        TCP sockets are identified by their inodes, a Unix socket by the inode and change time of its file.
        """
        if self._app.path:
            with suppress(OSError):
                status = os.stat(self._app.path)
                return frozenset((hash((status.st_ino, status.st_ctime_ns)),))
            return None
        found: set[int] = set()
        for table in self._tables:
            with suppress(OSError):
                found |= _inodes(table, self._listening)
        return frozenset(found) or None


class Listeners:
    """The app's listening sockets over time, each with the times when it was first and last seen."""

    def __init__(self) -> None:
        self.checked_at = float("-inf")
        self._seen: deque[tuple[float, float, frozenset[int]]] = deque(maxlen=MAX_LISTENERS)

    def update(self, listener: frozenset[int] | None, now: float) -> None:
        """Take the sockets that listen now; None is unknown and changes nothing."""
        self.checked_at = now
        if listener is None:
            return
        if self._seen and self._seen[-1][2] == listener:
            self._seen[-1] = (self._seen[-1][0], now, listener)
        else:
            self._seen.append((now, now, listener))

    def changed(self, record: SessionRecord) -> bool:
        """Return whether none of the sockets seen last in the session's life listens any more, and others do."""
        if not self._seen:
            return False
        before = next((seen for seen in reversed(self._seen) if seen[0] <= record.closed_at), None)
        if before is None or before[1] < record.opened_at:
            return False
        return not before[2] & self._seen[-1][2]


def _connect_unix(path: str) -> bool | None:
    """Connect without waiting. A full accept queue is EAGAIN (connect(2)), which event loops take for success later."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        error = sock.connect_ex(path)
    return _answer(error)


async def _connect_tcp(host: str, port: int) -> bool | None:
    """Connect to each address in turn until one accepts."""
    loop = asyncio.get_running_loop()
    answers: list[bool | None] = []
    try:  # an address waits for no thread
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, target in found:
        with socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol) as sock:
            try:
                await loop.sock_connect(sock, target)
            except OSError as error:
                answers.append(_answer(error.errno))
            else:
                return True
    return False if answers and all(answer is False for answer in answers) else None


def _answer(error: int | None) -> bool | None:
    if error == 0:
        return True
    return False if error in (errno.ECONNREFUSED, errno.ENOENT) else None


def _local_addresses(app: Address) -> frozenset[bytes]:
    """Return the local addresses, as the tables write them, of sockets that take connections to ``app``."""
    if app.path:
        return frozenset()
    if app.host == "localhost":
        hosts: list[IPv4Address | IPv6Address] = [ip_address("127.0.0.1"), ip_address("::1")]
    else:
        try:
            hosts = [ip_address(app.host)]
        except ValueError:
            return frozenset()
    if any(host.is_loopback for host in hosts):
        hosts += [ip_address("0.0.0.0"), ip_address("::")]
    hosts += [ip_address(f"::ffff:{host}") for host in hosts if host.version == 4]
    # The kernel prints each 32-bit word in the machine's byte order.
    words = ("".join(f"{word:08X}" for word in memoryview(host.packed).cast("I")) for host in hosts)
    return frozenset(f"{address}:{app.port:04X}".encode() for address in words)


def _inodes(table: Path, addresses: frozenset[bytes]) -> set[int]:
    """Return the inodes of the sockets that listen on one of ``addresses``. Raises OSError."""
    found: set[int] = set()
    with table.open("rb", buffering=0) as file:
        rest, read = b"", 0
        while read < _MOST and (chunk := file.read(_CHUNK)):
            read += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                fields = line.split()
                if len(fields) < 10 or fields[0] == b"sl":
                    continue
                if fields[3] != _LISTEN:
                    return found
                if fields[1] in addresses:
                    found.add(int(fields[9]))
    return found
