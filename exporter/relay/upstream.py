"""The app: where it is, and how to connect to it.

How it works
============
An app behind a sidecar is on the same machine nearly always, and there a connection is made, or refused, before
connect(2) has returned, although a non-blocking one answers that it is under way. So no bytes are sent at once, which
succeeds or fails as the connection did, and the result is reported before :meth:`Upstream.connect` returns: no task, no
timer. Only an address that takes longer, and a host name, which has to be looked up first, is waited for in a task.

A name is looked up anew for every connection, so it may move. If it has several addresses, each gets an equal share of
the time that is left. A Unix socket whose queue is full is tried again until the time is over.

An address at which this sidecar itself listens is an error: each connection would beget another.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from os import write
from socket import SocketType
from typing import Any, Final, cast

from mypy_extensions import mypyc_attr

from exporter.address import Address
from exporter.protocol.enums import ConnectError
from exporter.relay.poller import Poller
from exporter.relay.tcp import TcpTransport
from exporter.relay.timeouts import clock
from exporter.relay.transport import TransportProtocol

#: Seconds between attempts at a Unix socket whose queue is full.
QUEUE_FULL_RETRY = 0.02

#: Failures that lie with us, not with the app.
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}
_ABSENT = {errno.ECONNREFUSED, errno.ENOENT}
#: Errors of write(2) while connect(2) is under way; the second one is not Linux'.
_UNDER_WAY: Final = {errno.EAGAIN, errno.ENOTCONN}
#: Results of a connect(2) that has succeeded.
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


#: Called once with the failure, or None if the leg is connected.
ConnectCallback = Callable[[Failure | None], None]


@mypyc_attr(allow_interpreted_subclasses=True)
class Upstream:
    """Connects to the app.

    :param address: where it listens.
    :param timeout: seconds that one connection may take.
    :param listening: the addresses at which this sidecar listens, as getsockname() returns them.
    """

    def __init__(self, address: Address, timeout: float = 5.0, listening: Sequence[Any] = ()) -> None:
        self.address = address
        self._timeout = timeout
        self._listening = tuple(listening)
        self._target = _literal(address)
        self._is_other = False  # the target is known not to be the sidecar
        self._is_self: dict[Any, bool] = {}  # by address

    def connect(self, poller: Poller, leg: TransportProtocol, on_result: ConnectCallback) -> asyncio.Task[None] | None:
        """Open a connection whose protocol is ``leg``.

        ``on_result`` is called once: before this returns, or by the task that this returns, unless that is cancelled.
        """
        sock = None
        if self._target is not None:
            try:
                if not self._is_other:
                    self._refuse_self(self._target)
                    self._is_other = True
                sock, connected = _dial(self._target[0], self._target[1])
            except OSError as error:
                on_result(_failure(error))
                return None
            if connected:
                TcpTransport(poller, sock, leg)
                on_result(None)
                return None
        return asyncio.get_running_loop().create_task(self._connect_later(poller, leg, on_result, sock))

    async def _connect_later(
        self, poller: Poller, leg: TransportProtocol, on_result: ConnectCallback, sock: SocketType | None
    ) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                sock = await self._open(sock)
        except TimeoutError:
            on_result(Failure(ConnectError.TIMEOUT, f"no connection within {self._timeout:g} s"))
        except OSError as error:
            on_result(_failure(error))
        else:
            TcpTransport(poller, sock, leg)
            on_result(None)

    async def _open(self, sock: SocketType | None) -> SocketType:
        """Return a socket that is connected to the app; ``sock`` is one that is under way. Raises OSError."""
        if self._target is not None:
            return await _connected(self._target, sock)
        deadline = clock() + self._timeout
        targets = await self._look_up()
        failed: OSError = OSError("the name has no address")
        for index, target in enumerate(targets):
            try:
                self._refuse_self(target)
                async with asyncio.timeout((deadline - clock()) / (len(targets) - index)):
                    return await _connected(target)
            except OSError as error:  # TimeoutError is one
                failed = error
        raise failed

    async def _look_up(self) -> list[_Target]:
        """Return the addresses of the name. Raises OSError."""
        host, port = self.address.host, self.address.port
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(int(family), address) for family, _, _, _, address in found]

    def _refuse_self(self, target: _Target) -> None:
        """Raise OSError for an address at which this sidecar listens."""
        address = target[1]
        if address not in self._is_self:
            if len(self._is_self) >= _MAX_KNOWN:
                self._is_self.clear()
            self._is_self[address] = is_listening_at(target, self._listening)
        if self._is_self[address]:
            raise OSError(errno.ELOOP, f"{self.address} is the sidecar itself")


#: Addresses of a name for which it is remembered whether they are the sidecar's own.
_MAX_KNOWN: Final = 64


def is_listening_at(target: _Target, listening: Sequence[Any]) -> bool:
    """Return whether one of the ``listening`` addresses takes connections to ``target``, a family and an address."""
    family, address = target
    if not isinstance(address, tuple):
        return False
    hosts = [own[0] for own in listening if own[1] == address[1]]
    everywhere = "0.0.0.0" in hosts or "::" in hosts
    return address[0] in hosts or (everywhere and _is_local(family, address))


def _is_local(family: int, address: Any) -> bool:
    """Return whether an address is one of this machine: a datagram socket that is connected to it sends from it."""
    with suppress(OSError), closing(socket.socket(family, socket.SOCK_DGRAM)) as sock:
        sock.connect(address)
        found: bool = sock.getsockname()[0] == address[0]
        return found
    return False


def _literal(address: Address) -> _Target | None:
    """Return the target if no name has to be looked up."""
    if address.path:
        return _UNIX, address.path
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, address.host)
            return int(family), (address.host, address.port)
    return None


def _new_socket(family: int) -> SocketType:
    """Return a non-blocking socket with TCP_NODELAY. Raises OSError."""
    sock = SocketType(family, _STREAM | _NON_BLOCKING)
    if not _NON_BLOCKING:
        sock.setblocking(False)
    if family != _UNIX:
        sock.setsockopt(_TCP, _NODELAY, 1)
    return sock


def _dial(family: int, target: Any) -> tuple[SocketType, bool]:
    """Begin to connect. Return a socket, and whether it is connected already. Raises OSError."""
    sock = _new_socket(family)
    try:
        error = sock.connect_ex(target)
        if error == errno.EINPROGRESS:
            write(sock.fileno(), b"")
        elif error == errno.EAGAIN and family == _UNIX:  # its queue is full (unix(7))
            return sock, False
        elif error:
            raise OSError(error, os.strerror(error))
    except OSError as failed:
        if failed.errno in _UNDER_WAY:
            return sock, False
        sock.close()
        raise
    return sock, True


async def _connected(target: _Target, sock: SocketType | None = None) -> SocketType:
    """Return a socket that is connected to ``target``; ``sock`` is one that is under way. Raises OSError."""
    if sock is None:
        sock = _new_socket(target[0])
    try:
        if target[0] != _UNIX:
            await asyncio.get_running_loop().sock_connect(cast(socket.socket, sock), target[1])
            return sock
        while (error := sock.connect_ex(target[1])) == errno.EAGAIN:
            await asyncio.sleep(QUEUE_FULL_RETRY)
        if error not in _THERE:
            raise OSError(error, os.strerror(error))
    except BaseException:
        sock.close()
        raise
    return sock


def _failure(error: OSError) -> Failure:
    return Failure(classify(error), str(error))


def classify(error: OSError) -> ConnectError:
    """Return the reason label of an error."""
    if isinstance(error, socket.gaierror):
        return ConnectError.DNS
    if error.errno in _ABSENT or isinstance(error, ConnectionRefusedError):
        return ConnectError.REFUSED
    if error.errno in _UNREACHABLE:
        return ConnectError.UNREACHABLE
    if error.errno in _OURS:
        return ConnectError.RESOURCES
    return ConnectError.TIMEOUT if error.errno == errno.ETIMEDOUT else ConnectError.OTHER


_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION_LOCAL = 0x20
_VERSION_PROXY = 0x21
_TCP4, _TCP6, _UNSPEC = 0x11, 0x21, 0x00


def proxy_header(source: object, destination: object) -> bytes:
    """Return the PROXY header, version 2, for a client at ``source`` that connected to ``destination``.

    It tells an app that asks for it (``--proxy-protocol``) who its client is, ahead of the client's bytes ("The PROXY
    protocol", section 2.2, by HAProxy's author). The addresses are those of a socket.

    Where the addresses are not two of TCP, the header says that nothing is known (LOCAL).
    """
    if not (isinstance(source, tuple) and isinstance(destination, tuple)):
        return _SIGNATURE + struct.pack("!BBH", _VERSION_LOCAL, _UNSPEC, 0)
    here, there = _unmapped(destination[0]), _unmapped(source[0])
    if here.version != there.version:
        return _SIGNATURE + struct.pack("!BBH", _VERSION_LOCAL, _UNSPEC, 0)
    body = there.packed + here.packed + struct.pack("!HH", source[1], destination[1])
    family = _TCP4 if there.version == 4 else _TCP6
    return _SIGNATURE + struct.pack("!BBH", _VERSION_PROXY, family, len(body)) + body


def _unmapped(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address, as IPv4 where IPv6 only wraps it (``::ffff:192.0.2.1``), without a zone."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address
