"""The listening port: lets clients in, and pauses while there is no room for more.

How it works
============
The event loop's own server is the cheapest way to accept, but it knows no pause: once the process is out of file
descriptors, libuv takes every client in and hangs up on it. A client needs two descriptors, its own and the one to the
app, so how many clients there is room for is known from the start (:func:`room`). While less than half of that is taken
the loop's server accepts. From then on, and for good, this file does, one client at a time: it stops when no place is
left, or when accept(2) itself fails for want of a resource, and looks again every :data:`RETRY` seconds. Clients that
come meanwhile wait in the kernel's queue, as they would before any server that is slow to accept.

Up to then the kernel's queue is never longer than half of the room, so that one turn of the loop's server cannot
overshoot.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import sys
from collections.abc import Callable

#: Clients that the kernel may hold for us while the loop is busy; Linux clamps it to net.core.somaxconn (4096).
BACKLOG = 4096
#: Descriptors that are kept free for scrapes, probes, name look-ups and files that are read again.
RESERVE = 32
#: Seconds between looks whether there is room again.
RETRY = 0.25
#: Clients that are accepted in one go, so that those who are connected get their turn.
AT_ONCE = 64
#: How often, and seconds apart, TCP asks for a sign of life before it gives up.
PROBES = 6
PROBE_INTERVAL = 10

#: accept(2) says so when a resource is short; the client stays in the queue.
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def room() -> int:
    """Clients that the process's descriptors suffice for, at two each; at least one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:  # not Linux
        used = RESERVE
    return max(1, (limit - used - RESERVE) // 2)


class Door:
    """One listening port.

    :param welcome: makes the protocol for a client that has been accepted.
    :param inside: how many clients there are now.
    :param paused: told why, each time that accepting is paused.
    :param keepalive: seconds of silence after which TCP asks a client for a sign of life; 0 is never.
    """

    def __init__(
        self,
        welcome: Callable[[], asyncio.Protocol],
        inside: Callable[[], int],
        paused: Callable[[str], None],
        keepalive: float = 0.0,
    ) -> None:
        self._welcome = welcome
        self._inside = inside
        self._tell_paused = paused
        self._keepalive = keepalive
        self._room = sys.maxsize
        self._careful_from = sys.maxsize
        self._server: asyncio.Server | None = None
        self._sockets: list[socket.socket] = []
        self._coming: set[asyncio.Task[None]] = set()  # accepted, not inside yet
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, host: str | None, port: int) -> int:
        """Begin to accept; ``host`` None is every interface. Returns the port. Raises OSError if it is taken."""
        loop = asyncio.get_running_loop()
        self._room = room()
        self._careful_from = self._room // 2
        backlog = min(BACKLOG, max(1, self._careful_from))
        self._server = await loop.create_server(self._admit, host, port, backlog=backlog)
        for theirs in self._server.sockets:
            mine = socket.socket(fileno=os.dup(theirs.fileno()))
            mine.setblocking(False)
            _keep_alive(mine, self._keepalive)
            self._sockets.append(mine)
        bound: int = self._sockets[0].getsockname()[1]
        return bound

    @property
    def is_open(self) -> bool:
        """Whether clients are accepted, now or after a pause."""
        return bool(self._sockets)

    def close(self) -> None:
        """Accept no more clients."""
        self._watch(False)
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
            self._server = None
        while self._sockets:
            self._sockets.pop().close()

    def _admit(self) -> asyncio.Protocol:
        """The loop's server has accepted a client."""
        if self._inside() >= self._careful_from and self._server is not None:
            asyncio.get_running_loop().call_soon(self._take_over)
        return self._welcome()

    def _take_over(self) -> None:
        """From here on this file accepts."""
        if self._server is not None:
            self._server.close()  # the kernel goes on listening for our duplicates
            self._server = None
            for sock in self._sockets:
                sock.listen(BACKLOG)  # as many as like may wait now
            self._watch(True)

    def _watch(self, on: bool) -> None:
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            if on:
                loop.add_reader(sock, self._accept, sock)
            else:
                loop.remove_reader(sock)

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(AT_ONCE):
            if self._inside() + len(self._coming) >= self._room:
                self._pause(f"there are descriptors for {self._room} clients")
                return
            try:
                accepted, _address = sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _SHORT:
                    self._pause(str(error))
                    return
                continue  # that one client had gone before it was accepted (accept(2))
            task = asyncio.get_running_loop().create_task(self._admit_one(accepted))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)

    async def _admit_one(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._welcome, accepted)
        except OSError:
            accepted.close()  # it has gone again

    def _pause(self, why: str) -> None:
        self._watch(False)
        self._tell_paused(why)
        self._timer = asyncio.get_running_loop().call_later(RETRY, self._look_again)

    def _look_again(self) -> None:
        if self._inside() + len(self._coming) < self._room:
            self._watch(True)
        else:
            self._timer = asyncio.get_running_loop().call_later(RETRY, self._look_again)


def _keep_alive(sock: socket.socket, after: float) -> None:
    """Have TCP ask silent clients for a sign of life. Accepted connections take this over from the listening one."""
    if not after:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", round(after)), ("TCP_KEEPINTVL", PROBE_INTERVAL), ("TCP_KEEPCNT", PROBES)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), max(1, value))
