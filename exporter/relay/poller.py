"""Readiness of the relay's sockets: an epoll instance of our own inside the event loop's.

How it works
============
An event loop makes a transport, with buffers and handles, for each connection, and a future, a task and a timer for
each connect. A relay of thousands of idle connections would spend most of its memory and time on these. So its sockets
are registered with an epoll instance of their own, and that instance is one file descriptor which the loop watches.
When any socket is ready the loop calls :meth:`EpollPoller._turn`, which lets each ready :class:`Pollable` do its work.

A turn ends after :data:`MAX_TURN` seconds or :data:`BATCH` targets, whichever comes first, so that timers and signals
stay on time. Targets that a turn did not reach are first in the next one: nobody starves behind a busy neighbour.

Events are hints. A target may be called for an event that is no longer true, because an earlier target has closed or
paused it, or because its descriptor has been closed and given to a new connection since: it finds out when it reads or
writes.

A connection that has ended calls its protocol after the turn, never from inside a call of that protocol; its descriptor
is closed right behind. :meth:`Poller.defer_close` is for that.

Where there is no epoll the loop watches every socket by itself (:class:`LoopPoller`): the same behaviour, at a cost.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

# Events, as epoll has them, so that nothing needs translation.
READ: Final = 0x1  # EPOLLIN
WRITE: Final = 0x4  # EPOLLOUT
ERROR: Final = 0x8  # EPOLLERR, always reported
HANGUP: Final = 0x10  # EPOLLHUP, always reported: both directions have ended
PEER_FIN: Final = 0x2000  # EPOLLRDHUP

#: Targets in one turn at most.
BATCH: Final = 512
#: Seconds after which a turn ends; one target may take a few milliseconds more.
MAX_TURN: Final = 0.004
#: Targets between two looks at the clock, unless one of them took long (:attr:`Poller.took_long`).
CLOCK_EVERY: Final = 8
#: Seconds; turns up to this length are only summed up.
SHORT_TURN: Final = 0.0001

#: Called for a connection that has ended, with its error or None.
CloseCallback = Callable[[Exception | None], None]

_clock: Final = monotonic


class Pollable(Protocol):
    """Owner of a registered descriptor."""

    def ready(self, events: int) -> None:
        """Handle ``events``: READ, WRITE, or others of the kernel's for errors and hang-ups."""

    def failed(self, error: Exception) -> None:
        """Handle ``error``, which :meth:`ready` raised: a defect."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Poller:
    """Waits for descriptors in the event loop that is running when the first is registered.

    :ivar now: monotonic seconds when the targets of this turn were found ready.
    :ivar took_long: set by a target that has done much, so that the turn looks at the clock.
    :ivar turns: turns so far of up to :data:`SHORT_TURN` seconds.
    :ivar turn_seconds: their length in all.
    :ivar on_long_turn: called with the length of each longer turn, if set.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.took_long = False
        self.turns = 0
        self.turn_seconds = 0.0
        self.on_long_turn: Callable[[float], None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._targets: dict[int, Pollable] = {}
        self._ended: list[tuple[CloseCallback, Exception | None]] = []
        self._busy = False

    def register(self, fd: int, target: Pollable, events: int) -> None:
        """Call ``target`` for ``events`` on ``fd`` from now on. Raises OSError."""
        raise NotImplementedError

    def modify(self, fd: int, events: int) -> None:
        """Change the events of ``fd``, which is registered."""
        raise NotImplementedError

    def unregister(self, fd: int) -> None:
        """End the calls for ``fd``, which is registered."""
        raise NotImplementedError

    def drop(self, fd: int) -> None:
        """Unregister a descriptor that is closed right behind."""
        self.unregister(fd)

    def _add(self, fd: int, target: Pollable) -> None:
        if not self._targets:
            self._loop = asyncio.get_running_loop()
            self._start()
        self._targets[fd] = target

    def _remove(self, fd: int) -> None:
        del self._targets[fd]
        if not self._targets:
            self._stop()

    def _start(self) -> None:
        """The first descriptor is registered."""

    def _stop(self) -> None:
        """The last descriptor is unregistered."""

    def defer_close(self, close_callback: CloseCallback, error: Exception | None) -> None:
        """Call ``close_callback`` with ``error`` once, at the end of the turn or, after many others, soon after."""
        self._ended.append((close_callback, error))
        if not self._busy and len(self._ended) == 1:
            asyncio.get_running_loop().call_soon(self._run_deferred)

    def _serve(self, target: Pollable, events: int) -> None:
        began = self.now = _clock()
        try:
            target.ready(events)
        except Exception as error:
            self._report(error)
            target.failed(error)
        self.count_turn(began)

    def _run_deferred(self) -> None:
        """Call the callbacks of connections that have ended, for :data:`MAX_TURN` at most; the rest follow soon."""
        self._busy = True
        began = _clock()
        ended, at = self._ended, 0
        while at < len(ended):  # which may grow meanwhile
            close_callback, error = ended[at]
            at += 1
            try:
                close_callback(error)
            except Exception as defect:
                self._report(defect)
            if not at % CLOCK_EVERY and _clock() - began > MAX_TURN:
                break
        del ended[:at]
        self._busy = False
        if ended:
            asyncio.get_running_loop().call_soon(self._run_deferred)

    def count_turn(self, began: float) -> None:
        """Count a turn of the event loop that began at ``began``."""
        seconds = _clock() - began
        if seconds <= SHORT_TURN or self.on_long_turn is None:
            self.turns += 1
            self.turn_seconds += seconds
        else:
            self.on_long_turn(seconds)

    def _report(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "a connection of the relay failed", "exception": error})


@mypyc_attr(allow_interpreted_subclasses=True)
class EpollPoller(Poller):
    """All descriptors in one epoll instance."""

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._ready: list[tuple[int, int]] = []  # found ready, from _next on not served yet
        self._next = 0

    def register(self, fd: int, target: Pollable, events: int) -> None:
        """See :class:`Poller`."""
        self._epoll.register(fd, events)
        self._add(fd, target)

    def modify(self, fd: int, events: int) -> None:
        """See :class:`Poller`."""
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """See :class:`Poller`."""
        self._epoll.unregister(fd)
        self._remove(fd)

    def drop(self, fd: int) -> None:
        """See :class:`Poller`. The kernel unregisters a descriptor when it is closed (epoll(7))."""
        self._remove(fd)

    def _start(self) -> None:
        self._loop.add_reader(self._epoll.fileno(), self._turn)

    def _stop(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())

    def _turn(self) -> None:
        self._busy = True
        targets = self._targets
        ready, at = self._ready, self._next
        if at >= len(ready):
            ready, at = self._epoll.poll(0, BATCH), 0
            self._ready = ready
        began = self.now = _clock()
        look_at = at + CLOCK_EVERY
        size = len(ready)
        while at < size:
            fd, events = ready[at]
            at += 1
            target = targets.get(fd)
            if target is None:  # closed in this turn or since
                continue
            try:
                target.ready(events)
            except Exception as error:
                self._report(error)
                target.failed(error)
            if at == look_at or self.took_long:
                look_at = at + CLOCK_EVERY
                self.took_long = False
                self.now = _clock()
                if self.now - began > MAX_TURN:
                    break
        self._next = at
        self._busy = False
        if self._ended:
            self._run_deferred()
        self.count_turn(began)


@mypyc_attr(allow_interpreted_subclasses=True)
class LoopPoller(Poller):
    """Each descriptor with the event loop itself, through methods that every asyncio loop has."""

    def register(self, fd: int, target: Pollable, events: int) -> None:
        """See :class:`Poller`."""
        self._add(fd, target)
        self.modify(fd, events)

    def modify(self, fd: int, events: int) -> None:
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

    def unregister(self, fd: int) -> None:
        """See :class:`Poller`."""
        self._remove(fd)
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)


def new_poller() -> Poller:
    """Return the best poller that this system has."""
    return EpollPoller() if hasattr(select, "epoll") else LoopPoller()
