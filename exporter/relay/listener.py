"""The listening sockets: accepts clients, and pauses while there are no descriptors for more.

How it works
============
A client needs two file descriptors, its own and the one to the app, so :func:`fd_capacity` is known from the start.
Accepting stops when that many clients are connected, or when accept(2) itself fails because a resource is short, and is
tried again every :data:`RETRY` seconds. Clients that come meanwhile wait in the kernel's queue.

Accepted sockets inherit the options of the listening one: TCP_NODELAY, keepalive, and TCP_USER_TIMEOUT, by which the
kernel ends a connection whose client acknowledges or takes nothing for as long as keepalive would wait for it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from socket import SocketType
from typing import Final

from exporter.listening import BACKLOG
from exporter.relay.poller import READ, Pollable, Poller

#: Descriptors that are kept free for name look-ups and files that are read again.
RESERVE = 16
#: Seconds between checks whether descriptors are free again.
RETRY = 0.25
#: Clients that are accepted in one turn at most, and no more than there are targets in it: where there is little to do
#: the next turn comes at once, and costs less than accept(2) on an empty queue.
ACCEPT_BATCH = 8
#: TCP keepalive probes before a silent client is given up, and the seconds between them.
PROBES = 6
PROBE_INTERVAL = 10

#: As a plain number, which needs no look-up in an enum.
_STREAM: Final = int(socket.SOCK_STREAM)
#: Errors of accept(2) for a resource that is short; the client stays in the queue.
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def fd_capacity() -> int:
    """Return how many clients the process has file descriptors for, at two each; at least one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:  # not Linux
        used = RESERVE
    return max(1, (limit - used - RESERVE) // 2)


#: Called with an accepted socket, not blocking, and its peer's address.
AcceptCallback = Callable[[SocketType, object], None]


class Listener:
    """The listening sockets of one relay.

    :param poller: reports that clients wait.
    :param on_accept: called for each client that is accepted.
    :param active: returns the number of connected clients.
    :param on_pause: called with the reason each time that accepting is paused.
    :param keepalive: TCP keepalive idle time for clients in seconds; 0 disables.
    """

    def __init__(
        self,
        poller: Poller,
        on_accept: AcceptCallback,
        active: Callable[[], int],
        on_pause: Callable[[str], None],
        keepalive: float = 0.0,
    ) -> None:
        self._poller = poller
        self._on_accept = on_accept
        self._active = active
        self._on_pause = on_pause
        self._keepalive = keepalive
        self._capacity = sys.maxsize
        self._queues: list[_Queue] = []
        self._timer: asyncio.TimerHandle | None = None

    def open(self, sockets: Sequence[SocketType]) -> None:
        """Begin to accept on ``sockets``, which are bound; they are the listener's from now on."""
        self._capacity = fd_capacity()
        for sock in sockets:
            _prepare(sock, self._keepalive)
            sock.listen(BACKLOG)  # anew, if a relay that failed has shut it down
            self._queues.append(_Queue(sock, int(sock.family), self._accept))
        self._register()

    def close(self) -> None:
        """Accept no more clients, in this process and in others that share the sockets. A second call has no effect."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        else:
            self._unregister()
        while self._queues:
            sock = self._queues.pop().sock
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _register(self) -> None:
        for queue in self._queues:
            self._poller.register(queue.sock.fileno(), queue, READ)

    def _unregister(self) -> None:
        for queue in self._queues:
            self._poller.unregister(queue.sock.fileno())

    def _accept(self, queue: _Queue) -> None:
        self._poller.took_long = True
        for _ in range(min(ACCEPT_BATCH, self._poller.found)):
            if self._timer is not None or not self._queues:  # paused or closed by a client's arrival
                return
            if self._active() >= self._capacity:
                self._pause(f"out of file descriptors: they suffice for {self._capacity} clients")
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
            self._on_accept(accepted, address)

    def _pause(self, why: str) -> None:
        self._unregister()
        self._timer = asyncio.get_running_loop().call_later(RETRY, self._retry)
        self._on_pause(why)

    def _retry(self) -> None:
        if self._active() < self._capacity:
            self._timer = None
            self._register()
        else:
            self._timer = asyncio.get_running_loop().call_later(RETRY, self._retry)


class _Queue(Pollable):
    """One listening socket."""

    def __init__(self, sock: SocketType, family: int, on_ready: Callable[[_Queue], None]) -> None:
        self.sock = sock
        self._family = family
        self._on_ready = on_ready

    def accept(self) -> tuple[SocketType, object]:
        """Return the next client's socket, not blocking, and its address. Raises OSError.

        socket.accept() would query the listening socket's family and type for each client.
        """
        fd, address = self.sock._accept()  # type: ignore[attr-defined]  # a part of socket.accept()
        accepted = SocketType(self._family, _STREAM, 0, fd)
        accepted.setblocking(False)
        return accepted, address

    def ready(self, events: int) -> None:
        self._on_ready(self)

    def failed(self, error: Exception | None) -> None:
        return  # the next client may succeed


def _prepare(sock: SocketType, keepalive: float) -> None:
    """Set the options that accepted sockets inherit."""
    sock.setblocking(False)
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not keepalive:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = max(1, round(keepalive))
    options = {"TCP_KEEPIDLE": idle, "TCP_KEEPINTVL": PROBE_INTERVAL, "TCP_KEEPCNT": PROBES,
               "TCP_USER_TIMEOUT": 1000 * (idle + PROBES * PROBE_INTERVAL)}  # fmt: skip
    for option, value in options.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
