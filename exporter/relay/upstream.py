"""The app behind us: where it is, how to connect to it, whether it takes connections."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from exporter.protocol.words import ConnectError

#: At most one connection a second is made only to see whether the app takes connections: an app's log and accept queue
#: must not feel that it is watched.
PROBE_INTERVAL = 1.0
#: Seconds between the end of a connection and the probe that asks why. A process that dies closes its descriptors one
#: after another, and a supervisor of workers outlives them by a moment: a port that is open now may be gone at once.
SETTLE = 0.25
#: Seconds after which an app that does not answer a probe counts as not taking connections.
PROBE_TIMEOUT = 1.0

#: Failures that lie with us, not with the app.
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}
_ABSENT = {errno.ECONNREFUSED, errno.ENOENT}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the app listens: a host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection to the app could not be made."""

    error: ConnectError
    why: str


class Upstream:
    """Connects to the app.

    :param address: where it listens. A host name is looked up anew for every connection, so it may move.
    :param timeout: seconds that one connection may take.
    """

    def __init__(self, address: Address, timeout: float = 5.0) -> None:
        self.address = address
        self._timeout = timeout
        self._tried = self._answered = float("-inf")  # when the last probe began and ended
        self._accepts = False
        self._probe: asyncio.Task[bool] | None = None

    async def connect(self, leg: Callable[[], asyncio.BaseProtocol]) -> Failure | None:
        """Open a connection whose protocol is ``leg()``; returns what went wrong, if anything did."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._open(leg)
        except TimeoutError:
            return Failure(ConnectError.TIMEOUT, f"no connection within {self._timeout:g} s")
        except OSError as error:
            return Failure(classify(error), str(error))
        return None

    async def _open(self, leg: Callable[[], asyncio.BaseProtocol]) -> asyncio.BaseTransport:
        loop = asyncio.get_running_loop()
        if self.address.path:
            transport, _ = await loop.create_unix_connection(leg, self.address.path)
        else:
            transport, _ = await loop.create_connection(leg, self.address.host, self.address.port)
        return transport

    async def accepts(self) -> bool:
        """Whether the app takes connections, as of now or a moment later.

        Never answers from before the call: whoever asks why a connection just ended needs to know what holds after it.
        Connects at most once in :data:`PROBE_INTERVAL`; all who ask meanwhile wait for the same answer.
        """
        return await self._probed(max(SETTLE, self._tried + PROBE_INTERVAL - monotonic()))

    async def _probed(self, delay: float) -> bool:
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._probe_after(delay))
        return await asyncio.shield(self._probe)

    async def accepts_lately(self) -> bool:
        """Like :meth:`accepts`, but an answer of the last :data:`PROBE_INTERVAL` will do, and nothing has to settle."""
        if monotonic() - self._answered < PROBE_INTERVAL:
            return self._accepts
        if monotonic() - self._tried < PROBE_INTERVAL:
            return await self.accepts()
        return await self._probed(0.0)

    async def _probe_after(self, delay: float) -> bool:
        await asyncio.sleep(delay)
        self._probe = None  # who asks from now on needs a newer answer
        self._tried = monotonic()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                transport = await self._open(asyncio.Protocol)
        except TimeoutError:
            accepts = False
        except OSError as error:
            accepts = classify(error) is ConnectError.RESOURCES  # not the app's fault, so no verdict on it
        else:
            transport.close()
            accepts = True
        self._answered, self._accepts = monotonic(), accepts
        return accepts

    async def close(self) -> None:
        """End a probe that is under way."""
        if self._probe is not None and not self._probe.done():
            self._probe.cancel()
            with suppress(asyncio.CancelledError):
                await self._probe


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
