"""The listening port: lets clients in, and pauses while there is no room for more.

How it works
============
A client needs two file descriptors, its own and the one to the app, so how many clients there is room for is known from
the start (:func:`fd_capacity`). Accepting stops when no place is left, or when accept(2) itself fails for want of a
resource, and is tried again every :data:`RETRY` seconds. Clients that come meanwhile wait in the kernel's queue, as
they would before any server that is slow to accept.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import sys
from collections.abc import Callable
from socket import SocketType
from typing import Any, Final

from exporter.relay.poller import READ, Poller

#: Clients that the kernel may hold for us while the loop is busy; Linux clamps it to net.core.somaxconn (4096).
BACKLOG = 4096
#: Descriptors that are kept free for scrapes, probes, name look-ups and files that are read again.
RESERVE = 32
#: Seconds between looks whether there is room again.
RETRY = 0.25
#: Clients that are accepted in one go, so that those who are connected get their turn.
ACCEPT_BATCH = 64
#: How often, and seconds apart, TCP asks for a sign of life before it gives up.
PROBES = 6
PROBE_INTERVAL = 10

#: As a plain number.
_STREAM: Final = int(socket.SOCK_STREAM)
#: accept(2) says so when a resource is short; the client stays in the queue.
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def fd_capacity() -> int:
    """Clients that the process's descriptors suffice for, at two each; at least one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:  # not Linux
        used = RESERVE
    return max(1, (limit - used - RESERVE) // 2)


#: From an accepted socket, not blocking, and its peer's address to whatever becomes of it.
Welcome = Callable[[SocketType, object], None]


class Listener:
    """One listening port.

    :param poller: tells when clients wait.
    :param on_accept: takes a client that has been accepted.
    :param inside: how many clients there are now.
    :param paused: told why, each time that accepting is paused.
    :param keepalive: seconds of silence after which TCP asks a client for a sign of life; 0 is never.
    """

    def __init__(
        self,
        poller: Poller,
        on_accept: Welcome,
        inside: Callable[[], int],
        paused: Callable[[str], None],
        keepalive: float = 0.0,
    ) -> None:
        self._poller = poller
        self._welcome = on_accept
        self._inside = inside
        self._tell_paused = paused
        self._keepalive = keepalive
        self._room = sys.maxsize
        self._queues: list[_Queue] = []
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, host: str | None, port: int) -> int:
        """Begin to accept; ``host`` None is every interface. Returns the port. Raises OSError if it is taken."""
        loop = asyncio.get_running_loop()
        # Bound, no more. Of any type: uvloop's server has a list of sockets where asyncio's has a tuple.
        server: Any = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
        self._room = fd_capacity()
        for bound in server.sockets:
            sock = SocketType(bound.family, _STREAM, 0, os.dup(bound.fileno()))
            _prepare(sock, self._keepalive)
            self._queues.append(_Queue(sock, int(bound.family), self._accept))
        server.close()
        for queue in self._queues:
            queue.sock.listen(BACKLOG)
        self._watch()
        bound_to: int = self._queues[0].sock.getsockname()[1]
        return bound_to

    @property
    def is_open(self) -> bool:
        """Whether clients are accepted, now or after a pause."""
        return bool(self._queues)

    def close(self) -> None:
        """Accept no more clients."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        else:
            self._unwatch()
        while self._queues:
            self._queues.pop().sock.close()

    def _watch(self) -> None:
        for queue in self._queues:
            self._poller.watch(queue.sock.fileno(), queue, READ)

    def _unwatch(self) -> None:
        for queue in self._queues:
            self._poller.forget(queue.sock.fileno())

    def _accept(self, queue: _Queue) -> None:
        for _ in range(ACCEPT_BATCH):
            if self._timer is not None or not self._queues:  # paused or closed by a client's arrival
                return
            if self._inside() >= self._room:
                self._pause(f"there are descriptors for {self._room} clients")
                return
            try:
                accepted, address = queue.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _SHORT:
                    self._pause(str(error))
                    return
                continue  # that one client had gone before it was accepted (accept(2))
            self._welcome(accepted, address)

    def _pause(self, why: str) -> None:
        self._unwatch()
        self._timer = asyncio.get_running_loop().call_later(RETRY, self._look_again)
        self._tell_paused(why)

    def _look_again(self) -> None:
        if self._inside() < self._room:
            self._timer = None
            self._watch()
        else:
            self._timer = asyncio.get_running_loop().call_later(RETRY, self._look_again)


class _Queue:
    """Clients that wait at one listening socket."""

    def __init__(self, sock: SocketType, family: int, come: Callable[[_Queue], None]) -> None:
        self.sock = sock
        self._family = family
        self._come = come

    def accept(self) -> tuple[SocketType, object]:
        """The next client and its address, as socket.accept() has them; not blocking. Raises OSError.

        That one asks the listening socket for its family and type each time, and makes members of an enum of them.
        """
        fd, address = self.sock._accept()  # type: ignore[attr-defined]  # a part of socket.accept()
        accepted = SocketType(self._family, _STREAM, 0, fd)
        accepted.setblocking(False)
        return accepted, address

    def ready(self, events: int) -> None:
        """See :class:`~exporter.relay.poller.Pollable`."""
        self._come(self)

    def failed(self, error: Exception) -> None:
        """See :class:`~exporter.relay.poller.Pollable`: the next client may fare better."""


def _prepare(sock: SocketType, keepalive: float) -> None:
    """Accepted connections take over from the listening one: messages leave at once, and silent clients are asked for
    a sign of life after ``keepalive`` seconds."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not keepalive:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    times = {"TCP_KEEPIDLE": round(keepalive), "TCP_KEEPINTVL": PROBE_INTERVAL, "TCP_KEEPCNT": PROBES}
    for option, value in times.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), max(1, value))
