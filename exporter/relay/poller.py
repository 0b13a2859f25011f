"""Which of the relay's sockets are ready: an epoll of our own inside the event loop's.

How it works
============
An event loop makes a transport, with buffers and handles, for each connection, and a future, a task and a timer for
each connect. For a relay that lives from thousands of idle connections and from new ones that is most of what they
cost. So the relay's sockets are kept apart: they are registered with an epoll instance of the relay's own, and that
instance is one file descriptor which the loop watches. When any socket is ready the loop calls :meth:`Poller._turn`
once, which asks for all that are and lets each :class:`Pollable` do its work. Everything else (timers, signals, the
admin server) stays with the loop and gets its turn after at most :data:`BATCH` targets.

Events are hints. A target may be told of one that is no longer true, because an earlier target of the same batch has
closed or paused it, or even because its descriptor has been closed and given to a new connection since: it finds out
when it reads or writes.

A connection that has ended says so to its protocol after the batch, never from inside a call of that protocol's; its
descriptor is closed right behind, so that none is reused while a batch may still name it. :meth:`Poller.defer_close` is
for that.

Where there is no epoll the loop watches every socket by itself (:class:`LoopPoller`): the same behaviour, at a cost.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

#: What can be waited for.
READ: Final = 0x1  # as epoll has them (EPOLLIN, EPOLLOUT), so that nothing needs translation
WRITE: Final = 0x4

#: Targets that are served before the loop gets its turn.
BATCH: Final = 512


#: What is done for a connection that has ended, for an error or none.
CloseCallback = Callable[[Exception | None], None]


class Pollable(Protocol):
    """Whose descriptor is watched."""

    def ready(self, events: int) -> None:
        """``events`` may have come: READ, WRITE or both, and bits of the kernel's for errors and hang-ups."""

    def failed(self, error: Exception) -> None:
        """:meth:`ready` raised ``error``, a defect of ours."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Poller:
    """Watches descriptors in the event loop that is running when the first is watched.

    :ivar now: when the targets that are being served were found ready, on the monotonic clock; looked at once for all.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._loop: asyncio.AbstractEventLoop
        self._targets: dict[int, Pollable] = {}
        self._dead: list[tuple[CloseCallback, Exception | None]] = []
        self._busy = False

    def watch(self, fd: int, target: Pollable, events: int) -> None:
        """Tell ``target`` of ``events`` on ``fd`` from now on. Raises OSError."""
        raise NotImplementedError

    def change(self, fd: int, events: int) -> None:
        """Tell of other ``events`` than before on ``fd``, which is watched."""
        raise NotImplementedError

    def forget(self, fd: int) -> None:
        """Tell no more of ``fd``, which is watched."""
        raise NotImplementedError

    def drop(self, fd: int) -> None:
        """Like :meth:`forget`, for a descriptor that is closed right behind."""
        self.forget(fd)

    def _enter(self, fd: int, target: Pollable) -> None:
        if not self._targets:
            self._loop = asyncio.get_running_loop()
            self._begin()
        self._targets[fd] = target

    def _strike(self, fd: int) -> None:
        del self._targets[fd]
        if not self._targets:
            self._end()

    def _begin(self) -> None:
        """There is a descriptor to be watched."""

    def _end(self) -> None:
        """There is none any more."""

    def defer_close(self, close_callback: CloseCallback, error: Exception | None) -> None:
        """Call ``last_rites`` with ``error``, once, when the targets that are being served have been."""
        self._dead.append((close_callback, error))
        if not self._busy and len(self._dead) == 1:
            asyncio.get_running_loop().call_soon(self._run_deferred)

    def _serve(self, target: Pollable, events: int) -> None:
        self.now = monotonic()
        try:
            target.ready(events)
        except Exception as error:
            self._blame(error)
            target.failed(error)

    def _run_deferred(self) -> None:
        """Say good-bye to all who have ended, those who end on the way included."""
        self._busy = True
        for close_callback, why in self._dead:
            try:
                close_callback(why)
            except Exception as error:
                self._blame(error)
        self._dead.clear()
        self._busy = False

    def _blame(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "a connection of the relay failed", "exception": error})


@mypyc_attr(allow_interpreted_subclasses=True)
class EpollPoller(Poller):
    """All of them in one epoll instance."""

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()

    def watch(self, fd: int, target: Pollable, events: int) -> None:
        """See :class:`Poller`."""
        self._epoll.register(fd, events)
        self._enter(fd, target)

    def change(self, fd: int, events: int) -> None:
        """See :class:`Poller`."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """See :class:`Poller`."""
        self._epoll.unregister(fd)
        self._strike(fd)

    def drop(self, fd: int) -> None:
        """See :class:`Poller`. The kernel forgets a descriptor by itself when it is closed (epoll(7))."""
        self._strike(fd)

    def _begin(self) -> None:
        self._loop.add_reader(self._epoll.fileno(), self._turn)

    def _end(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())

    def _turn(self) -> None:
        self._busy = True
        targets = self._targets
        ready = self._epoll.poll(0, BATCH)
        self.now = monotonic()
        for fd, events in ready:
            try:
                target = targets[fd]
            except KeyError:  # gone in this very turn
                continue
            try:
                target.ready(events)
            except Exception as error:
                self._blame(error)
                target.failed(error)
        self._busy = False
        if self._dead:
            self._run_deferred()


class LoopPoller(Poller):
    """Each with the event loop itself, through what every asyncio loop offers."""

    def watch(self, fd: int, target: Pollable, events: int) -> None:
        """See :class:`Poller`."""
        self._enter(fd, target)
        self.change(fd, events)

    def change(self, fd: int, events: int) -> None:
        """See :class:`Poller`."""
        target = self._targets[fd]
        if events & READ:
            self._loop.add_reader(fd, self._serve, target, READ)
        else:
            self._loop.remove_reader(fd)
        if events & WRITE:
            self._loop.add_writer(fd, self._serve, target, WRITE)
        else:
            self._loop.remove_writer(fd)

    def forget(self, fd: int) -> None:
        """See :class:`Poller`."""
        self._strike(fd)
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)


def new_poller() -> Poller:
    """The best that this system has."""
    return EpollPoller() if hasattr(select, "epoll") else LoopPoller()
