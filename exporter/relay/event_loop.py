"""The relay's event loop: asyncio's own, which waits in the relay's poller.

How it works
============
asyncio's event loop waits in a selector for its descriptors, until its next timer is due. :class:`PollerSelector` waits
in the :class:`~exporter.relay.poller.Poller` instead, where asyncio's few descriptors (signals, the sockets to the
supervisor and the observer) are one target among the relay's sockets. Turn after turn passes in there, with one system
call each, until asyncio itself has something to do: one of its descriptors is ready, a timer is due, or a callback or
timer has been added. A turn that is over before all its targets have been served lets asyncio look, too.

    asyncio ── select(timeout) ──► Poller.wait ──► turn, turn, turn ──► a descriptor, timer or callback of asyncio's
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Final, TypeVarTuple, Unpack

from exporter.relay.poller import READ, Pollable, Poller

_Ts = TypeVarTuple("_Ts")

#: Seconds to wait at a time where asyncio has no timer.
_LONG: Final = 3600.0


class PollerSelector(selectors.EpollSelector):
    """asyncio's descriptors, as one target of a poller, in which it waits.

    :param poller: to which nothing has been registered yet.
    """

    def __init__(self, poller: Poller) -> None:
        super().__init__()
        self._poller = poller
        poller.is_waited_in = True
        poller.register(self.fileno(), _Own(poller), READ)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See selectors.BaseSelector. May return early, with nothing."""
        self._poller.wait(_LONG if timeout is None else timeout)
        return super().select(0)


class _Own(Pollable):
    """The descriptor that is readable while one of asyncio's is ready."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    def ready(self, events: int) -> None:
        self._poller.interrupt()

    def failed(self, error: Exception | None) -> None:
        return


class RelayLoop(asyncio.SelectorEventLoop):
    """An event loop that waits in a poller.

    :ivar poller: the poller, to which nothing has been registered before.
    """

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        super().__init__(PollerSelector(poller))

    def call_soon(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See asyncio."""
        self.poller.interrupt()
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio. Its call_later() calls this."""
        self.poller.interrupt()
        return super().call_at(when, callback, *args, context=context)
