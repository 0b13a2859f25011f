"""The app behind us: where it is, how to connect to it, whether it takes connections.

How it works
============
An app behind a sidecar is on the same machine nearly always, and there a connection is made, or refused, before
connect(2) has returned, although a non-blocking one answers that it is under way. So it is asked a second time at once,
and what is known then is told before :meth:`Upstream.connect` returns: no task, no timer. Only an address that takes
longer, and a host name, which has to be looked up first, is waited for in a task.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from socket import SocketType
from time import monotonic
from typing import Any, Final, cast

from mypy_extensions import mypyc_attr

from exporter.address import Address
from exporter.protocol.enums import ConnectError
from exporter.relay.poller import Poller
from exporter.relay.tcp import TcpTransport
from exporter.relay.transport import TransportProtocol

#: At most one connection a second is made only to see whether the app takes connections: an app's log and accept queue
#: must not feel that it is watched.
PROBE_INTERVAL = 1.0
#: Seconds between the end of a connection and the probe that asks why. A process that dies closes its descriptors one
#: after another, and a supervisor of workers outlives them by a moment: a port that is open now may be gone at once.
PROBE_DELAY = 0.25
#: Seconds after which an app that does not answer a probe counts as not taking connections.
PROBE_TIMEOUT = 1.0

#: Failures that lie with us, not with the app.
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}
_ABSENT = {errno.ECONNREFUSED, errno.ENOENT}
#: What a non-blocking connect(2) says of a connection that is still under way, the first time and later.
_UNDER_WAY: Final = {errno.EINPROGRESS, errno.EALREADY}
#: What it says of one that is there.
_THERE: Final = {0, errno.EISCONN}

# As plain numbers, which need no detour over an enum.
_UNIX: Final = int(socket.AF_UNIX)
_STREAM: Final = int(socket.SOCK_STREAM)
_TCP: Final = int(socket.IPPROTO_TCP)
_NODELAY: Final = int(socket.TCP_NODELAY)
#: Saves a system call where it is known.
_NON_BLOCKING: Final = int(getattr(socket, "SOCK_NONBLOCK", 0))

#: A socket's family, and an address in the form that the family has.
_Target = tuple[int, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection to the app could not be made."""

    error: ConnectError
    why: str


@mypyc_attr(allow_interpreted_subclasses=True)
class Upstream:
    """Connects to the app.

    :param address: where it listens. A host name is looked up anew for every connection, so it may move.
    :param timeout: seconds that one connection may take.
    """

    def __init__(self, address: Address, timeout: float = 5.0) -> None:
        self.address = address
        self._timeout = timeout
        self._target = _literal(address)
        self._tried = self._answered = float("-inf")  # when the last probe began and ended
        self._accepts = False
        self._probe: asyncio.Task[bool] | None = None

    def connect(
        self, poller: Poller, leg: TransportProtocol, told: Callable[[Failure | None], None]
    ) -> asyncio.Task[None] | None:
        """Open a connection whose protocol is ``leg``, and tell what went wrong, if anything did.

        It is told once: before this returns, or by the task that this returns, unless that is cancelled.
        """
        sock = None
        if self._target is not None:
            try:
                sock, there = _dial(self._target[0], self._target[1])
            except OSError as error:
                told(_failure(error))
                return None
            if there:
                TcpTransport(poller, sock, leg)
                told(None)
                return None
        return asyncio.get_running_loop().create_task(self._connect_later(poller, leg, told, sock))

    async def _connect_later(
        self, poller: Poller, leg: TransportProtocol, told: Callable[[Failure | None], None], sock: SocketType | None
    ) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                sock = await self._open(sock)
        except TimeoutError:
            told(Failure(ConnectError.TIMEOUT, f"no connection within {self._timeout:g} s"))
        except OSError as error:
            told(_failure(error))
        else:
            TcpTransport(poller, sock, leg)
            told(None)

    async def _open(self, sock: SocketType | None = None) -> SocketType:
        """A socket that is connected to the app; ``sock`` is one that is under way. Raises OSError."""
        loop = asyncio.get_running_loop()
        if self._target is not None:
            return await _connected(sock or _new_socket(self._target[0]), self._target[1])
        found = await loop.getaddrinfo(self.address.host, self.address.port, type=socket.SOCK_STREAM)
        failed = OSError("the name has no address")
        for family, _, _, _, target in found:
            try:
                return await _connected(_new_socket(family), target)
            except OSError as error:
                failed = error
        raise failed

    async def probe(self) -> bool:
        """Whether the app takes connections, as of now or a moment later.

        Never answers from before the call: whoever asks why a connection just ended needs to know what holds after it.
        Connects at most once in :data:`PROBE_INTERVAL`; all who ask meanwhile wait for the same answer.
        """
        return await self._probed(max(PROBE_DELAY, self._tried + PROBE_INTERVAL - monotonic()))

    async def _probed(self, delay: float) -> bool:
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._probe_after(delay))
        return await asyncio.shield(self._probe)

    async def probe_cached(self) -> bool:
        """Like :meth:`probe`, but an answer of the last :data:`PROBE_INTERVAL` will do, and nothing has to settle."""
        if monotonic() - self._answered < PROBE_INTERVAL:
            return self._accepts
        if monotonic() - self._tried < PROBE_INTERVAL:
            return await self.probe()
        return await self._probed(0.0)

    async def _probe_after(self, delay: float) -> bool:
        await asyncio.sleep(delay)
        self._probe = None  # who asks from now on needs a newer answer
        self._tried = monotonic()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                sock = await self._open()
        except TimeoutError:
            probe = False
        except OSError as error:
            probe = classify(error) is ConnectError.RESOURCES  # not the app's fault, so no verdict on it
        else:
            sock.close()
            probe = True
        self._answered, self._accepts = monotonic(), probe
        return probe

    async def close(self) -> None:
        """End a probe that is under way."""
        if self._probe is not None and not self._probe.done():
            self._probe.cancel()
            with suppress(asyncio.CancelledError):
                await self._probe


def _literal(address: Address) -> _Target | None:
    """Where to connect to, if that is known without asking anybody."""
    if address.path:
        return _UNIX, address.path
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, address.host)
            return int(family), (address.host, address.port)
    return None


def _new_socket(family: int) -> SocketType:
    """One that does not block, and sends what it is given at once. Raises OSError."""
    sock = SocketType(family, _STREAM | _NON_BLOCKING)
    if not _NON_BLOCKING:
        sock.setblocking(False)
    if family != _UNIX:
        sock.setsockopt(_TCP, _NODELAY, 1)
    return sock


def _dial(family: int, target: Any) -> tuple[SocketType, bool]:
    """Begin to connect. Returns a socket, and whether it is connected already. Raises OSError."""
    sock = _new_socket(family)
    try:
        error = sock.connect_ex(target)
        if error in _UNDER_WAY:
            error = sock.connect_ex(target)
        if error not in _THERE and error not in _UNDER_WAY:
            raise OSError(error, os.strerror(error))
    except OSError:
        sock.close()
        raise
    return sock, error in _THERE


async def _connected(sock: SocketType, target: Any) -> SocketType:
    """``sock``, once it is connected. Closes it and raises OSError if it cannot be."""
    try:
        await asyncio.get_running_loop().sock_connect(cast(socket.socket, sock), target)
    except BaseException:
        sock.close()
        raise
    return sock


def _failure(error: OSError) -> Failure:
    return Failure(classify(error), str(error))


def classify(error: OSError) -> ConnectError:
    """The small closed set of reasons why a connection fails."""
    if isinstance(error, socket.gaierror):
        return ConnectError.DNS
    if error.errno in _ABSENT or isinstance(error, ConnectionRefusedError):
        return ConnectError.REFUSED
    if error.errno in _UNREACHABLE:
        return ConnectError.UNREACHABLE
    if error.errno in _OURS:
        return ConnectError.RESOURCES
    return ConnectError.TIMEOUT if error.errno == errno.ETIMEDOUT else ConnectError.OTHER
