"""Readiness of the relay's sockets: an epoll instance of our own.

How it works
============
An event loop makes a transport, with buffers and handles, for each connection, and a future, a task and a timer for
each connect. A relay of thousands of idle connections would spend most of its memory and time on these. So its sockets
are registered with an epoll instance of their own. The relay's event loop waits in that instance
(:mod:`exporter.relay.event_loop`); any other event loop can watch it, as one descriptor. In a *turn*, each
:class:`Pollable` that is ready does its work.

A turn ends after :data:`MAX_TURN` seconds or :data:`BATCH` targets, whichever comes first, so that timers and signals
stay on time. Targets that a turn did not reach are first in the next one: nobody starves behind a busy neighbour.
Connections that have ended, and work that was put off (:meth:`Poller.run_later`), get the rest of the same turn, or
else the next one. An event loop that has something else to do gets to it after one turn.

Events are hints. A target may be called for an event that is no longer true, because an earlier target has closed or
paused it, or because its descriptor has been closed and given to a new connection since: it finds out when it reads or
writes.

A connection that has ended calls its protocol after the turn, never from inside a call of that protocol; its descriptor
is closed right behind. :meth:`Poller.defer_close` is for that.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from mypy_extensions import mypyc_attr

# Events, as epoll has them, so that nothing needs translation.
READ: Final = 0x1  # EPOLLIN
WRITE: Final = 0x4  # EPOLLOUT
ERROR: Final = 0x8  # EPOLLERR, always reported
HANGUP: Final = 0x10  # EPOLLHUP, always reported: both directions have ended
URGENT: Final = 0x2  # EPOLLPRI
PEER_FIN: Final = 0x2000  # EPOLLRDHUP
EDGE: Final = 1 << 31  # EPOLLET

#: Targets in one turn at most.
BATCH: Final = 64
#: Seconds after which a turn ends; one target may take a few milliseconds more. While others flood, a message and its
#: answer each wait for a turn.
MAX_TURN: Final = 0.001
#: Targets between two looks at the clock, unless one of them took long (:attr:`Poller.took_long`).
CLOCK_EVERY: Final = 8
#: Seconds; turns up to this length are only summed up.
SHORT_TURN: Final = 0.0001

#: Called for a connection that has ended, with its error or None.
CloseCallback = Callable[[Exception | None], None]

_clock = monotonic  # not Final, so that a test can replace it in the compiled module, before a poller is made


@mypyc_attr(allow_interpreted_subclasses=True)
class Pollable:
    """Owner of a registered descriptor."""

    __slots__ = ()

    def ready(self, events: int) -> None:
        """Handle ``events``: READ, WRITE, or others of the kernel's for errors and hang-ups."""
        raise NotImplementedError

    def failed(self, error: Exception | None) -> None:
        """Handle ``error``, which :meth:`ready` raised: a defect."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Poller:
    """Waits for descriptors: in :meth:`wait`, or else in the event loop that is running when the first is registered.

    :ivar now: monotonic seconds when the targets of this turn were found ready.
    :ivar is_waited_in: an event loop calls :meth:`wait`; to be set before the first is registered.
    :ivar took_long: set by a target that has done much, so that the turn looks at the clock.
    :ivar turns: turns so far of up to :data:`SHORT_TURN` seconds.
    :ivar turn_seconds: their length in all.
    :ivar on_long_turn: called with the length of each longer turn, if set.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.is_waited_in = False
        self.took_long = False
        self.turns = 0
        self.turn_seconds = 0.0
        self.on_long_turn: Callable[[float], None] | None = None
        self._clock = _clock
        self._loop: asyncio.AbstractEventLoop
        self._epoll: select.epoll
        self._poll: Callable[[float, int], list[tuple[int, int]]]
        self._targets: list[Pollable | None] = []  # by descriptor, of which the kernel takes the lowest ones
        self._registered = 0
        self._ready: list[tuple[int, int]] = []  # found ready, from _next on not served yet
        self._next = 0
        self._ended: list[tuple[CloseCallback, Exception | None]] = []
        self._later: deque[Callable[[], bool]] = deque()
        self._busy = False
        self._scheduled = False  # for the next iteration of the event loop
        self._interrupted = False
        self._turn_ended = 0.0

    @property
    def found(self) -> int:
        """The number of targets that were found ready together with those of this turn."""
        return len(self._ready)

    def register(self, fd: int, target: Pollable, events: int) -> None:
        """Call ``target`` for ``events`` on ``fd`` from now on. Raises OSError."""
        if not self._targets:  # the process has been forked: no other shares it
            self._epoll = select.epoll()
            self._poll = self._epoll.poll
        self._epoll.register(fd, events)
        if not self._registered and not self.is_waited_in:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._epoll.fileno(), self._turn)
        self._registered += 1
        targets = self._targets
        if fd >= len(targets):
            targets.extend([None] * (fd + 1 - len(targets)))
        targets[fd] = target

    def modify(self, fd: int, events: int) -> None:
        """Change the events of ``fd``, which is registered. Raises OSError."""
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """End the calls for ``fd``, which is registered."""
        self._epoll.unregister(fd)
        self.drop(fd)

    def drop(self, fd: int) -> None:
        """Forget a descriptor that is closed right behind, by which the kernel unregisters it (epoll(7))."""
        self._targets[fd] = None
        self._registered -= 1
        if not self._registered and not self.is_waited_in:
            self._loop.remove_reader(self._epoll.fileno())

    def defer_close(self, close_callback: CloseCallback, error: Exception | None) -> None:
        """Call ``close_callback`` with ``error`` once, at the end of the turn or, after many others, soon after."""
        self._ended.append((close_callback, error))
        self._run_soon()

    def run_later(self, portion: Callable[[], bool]) -> None:
        """Call ``portion`` in this and later turns until it returns true; others get their turn between two calls."""
        self._later.append(portion)
        self._run_soon()

    def wait(self, seconds: float) -> None:
        """Have turns for ``seconds``, at least one, until one leaves work behind or :meth:`interrupt` is called.

        Raises OSError.
        """
        self._interrupted = False
        until = self._clock() + seconds
        left = 0.0 if self._has_work() else seconds
        while True:
            self._turn(left)
            left = until - self._turn_ended
            if self._interrupted or left <= 0.0 or self._has_work():
                return

    def _has_work(self) -> bool:
        return self._next < len(self._ready) or bool(self._ended) or bool(self._later)

    def interrupt(self) -> None:
        """Have :meth:`wait` return after this turn."""
        self._interrupted = True

    def _run_soon(self) -> None:
        if not self._busy and not self._scheduled and not self.is_waited_in:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._scheduled_turn)

    def _scheduled_turn(self) -> None:
        self._scheduled = False
        self._turn()

    def _turn(self, timeout: float = 0.0) -> None:
        if self._scheduled:  # once in each iteration of the event loop
            return
        self._busy = True
        targets = self._targets
        ready, at = self._ready, self._next
        if at >= len(ready):
            ready, at = self._poll(timeout, BATCH) if targets else [], 0
            self._ready = ready
        began = self.now = self._clock()
        look_at = at + CLOCK_EVERY
        size = len(ready)
        while at < size:
            fd, events = ready[at]
            at += 1
            target = targets[fd]
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
                self.now = self._clock()
                if self.now - began > MAX_TURN:
                    break
        self._next = at
        if self._ended or self._later:
            self._run_deferred(began)
        self._busy = False
        if self._has_work():
            self._run_soon()
        self._count_turn(began)

    def _run_deferred(self, began: float) -> None:
        """Run close callbacks and portions until the turn that began at ``began`` is over; at least a few of them."""
        ended, at = self._ended, 0
        while at < len(ended):  # which may grow meanwhile
            close_callback, error = ended[at]
            at += 1
            try:
                close_callback(error)
            except Exception as defect:
                self._report(defect)
            if not at % CLOCK_EVERY and self._clock() - began > MAX_TURN:
                break
        if at == len(ended):
            ended.clear()
        else:
            del ended[:at]
        later = self._later
        while later:
            portion = later.popleft()
            try:
                if not portion():
                    later.append(portion)
            except Exception as defect:
                self._report(defect)
            if self._clock() - began > MAX_TURN:
                break

    def _count_turn(self, began: float) -> None:
        self._turn_ended = self._clock()
        seconds = self._turn_ended - began
        if seconds <= SHORT_TURN or self.on_long_turn is None:
            self.turns += 1
            self.turn_seconds += seconds
        else:
            self.on_long_turn(seconds)

    def _report(self, error: Exception) -> None:
        context = {"message": "a connection of the relay failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
